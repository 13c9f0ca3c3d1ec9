"""The parts of the active controller: one reign, its broker sessions, and what it needs of Raft."""

from ottla.controller.active.consensus import Consensus
from ottla.controller.active.log_reports import LogReports
from ottla.controller.active.reign import Reign
from ottla.controller.active.repairing import Repairs, RepairSettings
from ottla.controller.active.sessions import Sessions
from ottla.controller.active.voters import change_voters

__all__ = ["Consensus", "LogReports", "Reign", "RepairSettings", "Repairs", "Sessions", "change_voters"]

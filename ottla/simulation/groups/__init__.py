"""Groups of consumers in a simulation: members driven by hand, a workload of them, and what must hold of it."""

from ottla.simulation.groups.check import check_groups
from ottla.simulation.groups.growing import GrowingWorkload
from ottla.simulation.groups.members import ClassicMember, ConsumerMember, Member, Trouble
from ottla.simulation.groups.told import Assigned, Commit, Fetched, Held, Told
from ottla.simulation.groups.workload import SETTINGS, GroupWorkload

__all__ = [
    "SETTINGS",
    "Assigned",
    "ClassicMember",
    "Commit",
    "ConsumerMember",
    "Fetched",
    "GroupWorkload",
    "GrowingWorkload",
    "Held",
    "Member",
    "Told",
    "Trouble",
    "check_groups",
]

"""Being a member of a consumer group: the protocol as a state machine, the shell around it, and how members share."""

from ottla.client.coordinator import Coordinator
from ottla.client.group.assignors import ASSIGNORS, Assignor
from ottla.client.group.member import GroupMember

__all__ = ["ASSIGNORS", "Assignor", "Coordinator", "GroupMember"]

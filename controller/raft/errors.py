"""What a Raft node raises, and what it answers when it will not change its voters."""

from enum import Enum


class RaftInvariantError(Exception):
    """The log or the protocol contradicts itself. Going on could lose committed entries: the node must stop."""


class Refusal(Enum):
    """Why the set of voters is not changed. Nothing was written."""

    NOT_LEADER = "this node does not lead, or is handing over its leadership"
    NOT_READY = "the leader has not yet committed an entry of its own term"
    CHANGE_PENDING = "another change of the voters is under way"
    DUPLICATE_VOTER = "the node is a voter already"
    VOTER_NOT_FOUND = "there is no such voter"
    LAST_VOTER = "the only voter cannot be removed"
    NO_MAJORITY = "too few of the voters that would be left are there, or remember what they voted"
    NOT_CAUGHT_UP = "the node did not catch up with the leader in time"

"""What the members of groups did and were told, for the checker."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

At = tuple[str, int]
Outcome = Literal["ok", "fail", "info"]


class Assigned(NamedTuple):
    """A member was told that these partitions are its own in this generation (its epoch, with KIP-848)."""

    began: float
    at: float
    group: str
    member: str
    generation: int
    partitions: frozenset[At]


class Held(NamedTuple):
    """A member was told that it is still one. `since`: what it had, and since when it was told of that.

    `uninformed`: who told it was not the group's coordinator any more, by what the controllers had committed; or had
    not read yet what its log says of the group when it was asked.
    """

    began: float
    group: str
    member: str
    since: dict[At, float]
    uninformed: bool = False


class Commit(NamedTuple):
    """`ended` is when the answer came, or when nobody waited for one any more ("info").

    `member` is who it is, as in `Assigned`, and `member_id` as whom it was sent: a static member that comes back has
    another one. `last` is the generation at the end, where it may have been sent again in a later one.
    """

    began: float
    ended: float
    group: str
    member: str
    generation: int
    offsets: dict[At, int]
    outcome: Outcome
    member_id: str = ""
    last: int = -1

    @property
    def generations(self) -> range:
        """Those in which it may have been sent."""
        return range(self.generation, max(self.generation, self.last) + 1)


class Fetched(NamedTuple):
    """Committed offsets as the coordinator told them; -1 for none."""

    began: float
    ended: float
    group: str
    offsets: dict[At, int]


@dataclass
class Told:
    """`alike` are the groups whose members all speak one protocol, so that generations are never counted anew.
    `processed` has the offsets of the records that some member of the group has seen, by group and partition."""

    alike: frozenset[str] = frozenset()
    assigned: list[Assigned] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    commits: list[Commit] = field(default_factory=list)
    fetched: list[Fetched] = field(default_factory=list)
    processed: defaultdict[tuple[str, At], set[int]] = field(default_factory=lambda: defaultdict(set))

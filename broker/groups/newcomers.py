"""Who has come to a group of this broker and has not shown yet that it stays, and how many of them there may be.

Kafka bounds nothing of this but the size of a group: what is kept of somebody who only ever asks to join goes with its
session, or five minutes later (KIP-394 is there so that it is less). Here it has a bound, by number and by bytes, for
each group and for all groups of a broker together. Who is a member of a generation that is written down, or was heard
of again, is never counted.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

MIB: Final = 1024 * 1024
OVERHEAD: Final = 1024
"""Bytes of one newcomer beside what it sent: the objects about it, and its deadline."""


class Group(Hashable, Protocol):
    """A group of whatever protocol, by its identity."""

    @property
    def id(self) -> str: ...


class Bounds(NamedTuple):
    """Sizes in bytes."""

    members: int = 50_000
    size: int = 64 * MIB
    of_group: int = 10_000
    size_of_group: int = 16 * MIB


class Excess(NamedTuple):
    """Who has to go. `waits`: it would still take an answer."""

    group: Group
    member: str
    waits: bool


@dataclass(slots=True)
class _Share:
    """What there is of one group, in the order of arrival: bytes by member."""

    silent: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)
    size: int = 0

    def __len__(self) -> int:
        return len(self.silent) + len(self.waiting)


class Newcomers:
    """Nobody who waits for an answer, over a connection that stands, goes for the sake of another: silent ones make
    room, the oldest first; if there are none, whoever came last is one too many."""

    def __init__(self, bounds: Bounds = Bounds()) -> None:  # noqa: B008 - immutable
        self.bounds = bounds
        self.size = 0
        self._shares: dict[Group, _Share] = {}
        self._silent: dict[tuple[Group, str], None] = {}
        self._waiting: dict[tuple[Group, str], None] = {}

    def __len__(self) -> int:
        return len(self._silent) + len(self._waiting)

    def __contains__(self, who: tuple[Group, str]) -> bool:
        return who in self._silent or who in self._waiting

    def put(self, group: Group, member: str, size: int, *, waits: bool) -> None:
        """It has come, or there is something new about it. `size` is what it sent."""
        self.drop(group, member)
        # The name is what is left of a group that somebody only asked for, so that it counts for each of them.
        size += OVERHEAD + size_of((group.id, member))
        share = self._shares.setdefault(group, _Share())
        (share.waiting if waits else share.silent)[member] = size
        (self._waiting if waits else self._silent)[group, member] = None
        share.size += size
        self.size += size

    def move(self, group: Group, member: str, *, waits: bool) -> None:
        """It waits for an answer from now on, or does so no longer. Does nothing for who is none of these."""
        if (group, member) in self:
            share = self._shares[group]
            size = share.silent.pop(member, 0) or share.waiting.pop(member)
            (share.waiting if waits else share.silent)[member] = size
            for rows in (self._silent, self._waiting):
                rows.pop((group, member), None)
            (self._waiting if waits else self._silent)[group, member] = None

    def drop(self, group: Group, member: str) -> None:
        """It is gone, or is here to stay. Does nothing for who is none of these."""
        if (group, member) not in self:
            return
        share = self._shares[group]
        size = share.silent.pop(member, 0) or share.waiting.pop(member)
        for rows in (self._silent, self._waiting):
            rows.pop((group, member), None)
        share.size -= size
        self.size -= size
        if not len(share):
            del self._shares[group]

    def drop_all(self, group: Group) -> None:
        share = self._shares.get(group)
        for member in () if share is None else (*share.silent, *share.waiting):
            self.drop(group, member)

    def excess(self, group: Group) -> list[Excess]:
        """Who has to go now that somebody came to this group. They do not count any more."""
        bounds, gone = self.bounds, []
        while (share := self._shares.get(group)) and (
            len(share) > bounds.of_group or share.size > bounds.size_of_group
        ):
            silent = bool(share.silent)
            member = next(iter(share.silent)) if silent else next(reversed(share.waiting))
            gone.append(Excess(group, member, not silent))
            self.drop(group, member)
        while len(self) > bounds.members or self.size > bounds.size:
            silent = bool(self._silent)
            of, member = next(iter(self._silent)) if silent else next(reversed(self._waiting))
            gone.append(Excess(of, member, not silent))
            self.drop(of, member)
        return gone


def size_of(parts: Iterable[str | bytes | None]) -> int:
    """Bytes of memory that these take."""
    return sum(sys.getsizeof(part) for part in parts if part is not None)

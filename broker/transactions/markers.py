"""Which transaction markers are still to be written, where, and when to try again. No I/O.

A marker is tried until the leader of its partition has it, or the partition is no more: a transaction must not be
called complete with a partition that does not know its outcome. So what is kept is bounded by the transactions whose
outcome is decided, one for each transactional id, and their partitions.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Final, NamedTuple

from ottla.broker.transactions.model import Partition, Transaction

FIRST_BACKOFF_S: Final = 0.02
MAX_BACKOFF_S: Final = 1.0

LeaderOf = Callable[[Partition], int | None]
"""The broker that leads the partition, -1 while nobody does; None if there is no such partition (any more)."""


@dataclass(slots=True, eq=False)
class Pending:
    """A transaction whose partitions are to be told. `owner` is the shard that it belongs to, `coordinator_epoch` the
    leader epoch of that; `dropped` when somebody else sees to it."""

    id: str
    transaction: Transaction
    owner: object
    coordinator_epoch: int
    missing: set[Partition] = field(default_factory=set)
    dropped: bool = False


class Marker(NamedTuple):
    """What one partition is to be told, after so many attempts."""

    pending: Pending
    partition: Partition
    attempts: int = 0


class MarkerQueue:
    """Markers by the broker that is to write them. `finished` is called for a transaction when all have been."""

    def __init__(self, leader_of: LeaderOf, finished: Callable[[Pending], None]) -> None:
        self._leader_of = leader_of
        self._finished = finished
        self._ready: dict[int, deque[Marker]] = {}
        self._homeless: list[Marker] = []
        self._later: list[tuple[float, int, Marker]] = []
        self._order = count()

    def __len__(self) -> int:
        return sum(map(len, self._ready.values())) + len(self._homeless) + len(self._later)

    def add(self, pending: Pending) -> None:
        pending.missing = set(pending.transaction.partitions)
        if not pending.missing:
            self._finished(pending)
            return
        for partition in sorted(pending.missing):
            self._route(Marker(pending, partition))

    def brokers(self) -> Sequence[int]:
        """Those for which there may be something to do now."""
        return [broker for broker, markers in self._ready.items() if markers]

    def take(self, broker: int, limit: int) -> list[Marker]:
        """At most `limit` markers for this broker; those whose partition it leads no longer go to the others."""
        queue = self._ready.get(broker)
        taken: list[Marker] = []
        while queue and len(taken) < limit:
            marker = queue.popleft()
            if marker.pending.dropped:
                continue
            if self._leader_of(marker.partition) == broker:
                taken.append(marker)
            else:
                self._route(marker)
        if not queue:
            self._ready.pop(broker, None)
        return taken

    def _route(self, marker: Marker) -> None:
        leader = self._leader_of(marker.partition)
        if leader is None:
            self.written(marker)
        elif leader < 0:
            self._homeless.append(marker)
        else:
            self._ready.setdefault(leader, deque()).append(marker)

    def written(self, marker: Marker) -> None:
        """The partition has it, or needs none any more."""
        pending = marker.pending
        if pending.dropped or marker.partition not in pending.missing:
            return
        pending.missing.remove(marker.partition)
        if not pending.missing:
            self._finished(pending)

    def failed(self, markers: Iterable[Marker], now: float) -> None:
        """Try again, later with every attempt, with whoever leads then."""
        for marker in markers:
            if not marker.pending.dropped:
                at = now + min(FIRST_BACKOFF_S * 2 ** min(marker.attempts, 10), MAX_BACKOFF_S)
                heapq.heappush(self._later, (at, next(self._order), marker._replace(attempts=marker.attempts + 1)))

    def next_at(self) -> float | None:
        """When `tick` has something to do."""
        return self._later[0][0] if self._later else None

    def tick(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            marker = heapq.heappop(self._later)[2]
            if not marker.pending.dropped:
                self._route(marker)

    def leaders_changed(self) -> None:
        """Look again at all that could not be delivered."""
        waiting = [*self._homeless, *(marker for _, _, marker in sorted(self._later))]
        self._homeless.clear()
        self._later.clear()
        for marker in waiting:
            if not marker.pending.dropped:
                self._route(marker._replace(attempts=0))

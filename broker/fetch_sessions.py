"""Incremental fetch sessions (KIP-227), a pure state machine: no clock, no I/O.

A session remembers what one client wants of every partition, and what it was last told, so that the next request
names only what changed and the answer carries only what changed. On top of Kafka's rules a session keeps a *hot*
set: the partitions that may have something to say. A partition leaves it when a pass found nothing to tell, and
comes back when the client names it or when its log, high watermark or leader moved. A
follower with a thousand idle partitions therefore costs what changed, not a thousand looks. Once a second everything is
looked at all the same: that is how a leader knows that a follower of an idle partition was caught up until just now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from kio.schema.errors import ErrorCode

from ottla.wire import FetchPartition

if TYPE_CHECKING:
    import random

NO_SESSION = 0
INITIAL_EPOCH = 0
FINAL_EPOCH = -1
MAX_EPOCH = 2**31 - 1
DEFAULT_SLOTS = 1000
DEFAULT_EVICTION_S = 120.0
DEFAULT_MAX_PARTITIONS = 500_000
FULL_LOOK_S = 1.0

Key = tuple[str | int, int]
"""(topic id as a number from Fetch v13 on, topic name before it; partition index)."""


def key_of(topic: str | UUID, index: int) -> Key:
    """The key of a partition: with a number, since the hash of a UUID is slow, and asked for several times a fetch."""
    return (topic.int if isinstance(topic, UUID) else topic, index)


class FetchItem:
    """What a client wants of one partition (`row`), and what it was last told of it.

    `topic` is a name or an id. Offsets are log offsets, -1 stands for "unknown" as it does on the wire. `partition`,
    `unwatch` and `committed_only` belong to the handler: the resolved partition, how to stop hearing of it, and whether
    that is of its last stable offset.
    """

    __slots__ = (
        "committed_only",
        "key",
        "partition",
        "row",
        "told_high_watermark",
        "told_log_start",
        "topic",
        "unwatch",
    )

    def __init__(self, topic: str | UUID, row: FetchPartition) -> None:
        self.key: Key = (topic if isinstance(topic, str) else topic.int, row.partition)
        self.topic = topic
        self.row = row
        self.told_high_watermark = -1
        self.told_log_start = -1
        self.committed_only = False
        self.partition: Any = None
        self.unwatch: Callable[[], None] | None = None

    def release(self) -> None:
        if self.unwatch is not None:
            self.unwatch()
            self.unwatch = None
        self.partition = None


class Waiting(Protocol):
    """A request that waits for events, until it is `over`. Sizes are bytes."""

    over: bool

    def gained(self, size: int, /) -> None: ...


class FetchSession:
    """One client's session. `epoch` is the one that its next request must carry.

    `wait` is that of its last request which has waited; over or not.
    """

    __slots__ = (
        "created",
        "epoch",
        "hot",
        "id",
        "items",
        "last_full_look",
        "last_used",
        "privileged",
        "uses_topic_ids",
        "wait",
    )

    def __init__(self, session_id: int, *, privileged: bool, uses_topic_ids: bool, now: float) -> None:
        self.id = session_id
        self.epoch = 1
        self.privileged = privileged
        self.uses_topic_ids = uses_topic_ids
        self.created = now
        self.last_used = now
        self.last_full_look = now
        self.wait: Waiting | None = None
        self.items: dict[Key, FetchItem] = {}
        self.hot: dict[Key, FetchItem] = {}

    def mark_all_hot(self) -> None:
        for key, item in self.items.items():
            self.hot.setdefault(key, item)

    def cool(self, item: FetchItem) -> None:
        """A pass found nothing to tell: rest until the next event."""
        self.hot.pop(item.key, None)

    def rotate(self, item: FetchItem) -> None:
        """The partition was served: others go first the next time, so that none starves under max_bytes."""
        if len(self.hot) > 1 and self.hot.pop(item.key, None) is not None:
            self.hot[item.key] = item


@dataclass(slots=True)
class FetchPlan:
    """How to answer one fetch request.

    `session` is None without a session; `incremental` says that only partitions with news are answered;
    `epoch` is what `session.epoch` still has to be when the answer is made (a later request overtook it otherwise).
    """

    session: FetchSession | None
    incremental: bool
    full_items: Sequence[FetchItem]
    epoch: int

    @property
    def session_id(self) -> int:
        return NO_SESSION if self.session is None else self.session.id

    def items(self) -> Sequence[FetchItem]:
        """The partitions to look at now, in the order in which they are served."""
        if self.incremental and self.session is not None:
            return tuple(self.session.hot.values())
        return self.full_items

    @property
    def lost(self) -> ErrorCode:
        """Why the plan may no longer be answered (evicted, or overtaken by a later request); `none` if it may."""
        if self.session is None or self.session.epoch == self.epoch:
            return ErrorCode.none
        if self.session.epoch == FINAL_EPOCH:
            return ErrorCode.fetch_session_id_not_found
        return ErrorCode.invalid_fetch_session_epoch


def next_epoch(epoch: int) -> int:
    """1 follows the largest 32-bit epoch: 0 would mean a new session."""
    return 1 if epoch >= MAX_EPOCH else epoch + 1


class SessionCache:
    """All fetch sessions of a broker: `slots` at most, and `max_partitions` over all of them.

    When it is full a new session takes the place of one unused for `eviction_s` seconds, or else of a smaller one older
    than that; a follower's session also takes that of any consumer (KIP-227). Otherwise the client gets none.
    """

    def __init__(
        self,
        rng: random.Random,
        *,
        slots: int = DEFAULT_SLOTS,
        eviction_s: float = DEFAULT_EVICTION_S,
        max_partitions: int = DEFAULT_MAX_PARTITIONS,
    ) -> None:
        self._rng = rng
        self._slots = slots
        self._eviction_s = eviction_s
        self._max_partitions = max_partitions
        self._sessions: dict[int, FetchSession] = {}
        self.partitions = 0
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[FetchSession]:
        return iter(tuple(self._sessions.values()))

    def begin(
        self,
        session_id: int,
        session_epoch: int,
        items: Sequence[FetchItem],
        forgotten: Iterable[Key],
        *,
        privileged: bool,
        uses_topic_ids: bool,
        now: float,
    ) -> FetchPlan | ErrorCode:
        """Find, make or end the session of a request. An ErrorCode is the answer to the whole request."""
        if session_epoch in (INITIAL_EPOCH, FINAL_EPOCH):
            self.remove(session_id)
            session = None
            if session_epoch == INITIAL_EPOCH and items:
                session = self._create(items, privileged=privileged, uses_topic_ids=uses_topic_ids, now=now)
            full = tuple(session.items.values()) if session is not None else items
            return FetchPlan(session, False, full, 1)
        session = self._sessions.get(session_id)
        if session is None:
            return ErrorCode.fetch_session_id_not_found
        if session.epoch != session_epoch:
            return ErrorCode.invalid_fetch_session_epoch
        if session.uses_topic_ids != uses_topic_ids:
            return ErrorCode.fetch_session_topic_id_error
        return self._continue(session, items, forgotten, now)

    def _continue(
        self, session: FetchSession, items: Sequence[FetchItem], forgotten: Iterable[Key], now: float
    ) -> FetchPlan | ErrorCode:
        for item in items:
            known = session.items.get(item.key)
            if known is None:
                session.items[item.key] = known = item
                self.partitions += 1
            else:
                known.row = item.row  # what it was told stays
            session.hot[item.key] = known
        for key in forgotten:
            gone = session.items.pop(key, None)
            if gone is not None:
                session.hot.pop(key, None)
                gone.release()
                self.partitions -= 1
        if not session.items:
            self.remove(session.id)
            return FetchPlan(None, False, (), 0)
        if self.partitions > self._max_partitions:
            self.remove(session.id)
            return ErrorCode.fetch_session_id_not_found
        session.last_used = now
        if now - session.last_full_look >= FULL_LOOK_S:
            session.last_full_look = now
            session.mark_all_hot()
        session.epoch = next_epoch(session.epoch)
        return FetchPlan(session, True, (), session.epoch)

    def remove(self, session_id: int) -> None:
        session = self._sessions.pop(session_id, None)
        if session is None:
            return
        for item in session.items.values():
            item.release()
        self.partitions -= len(session.items)
        session.items = {}
        session.hot = {}
        session.epoch = FINAL_EPOCH

    def _create(
        self, items: Sequence[FetchItem], *, privileged: bool, uses_topic_ids: bool, now: float
    ) -> FetchSession | None:
        if len(self._sessions) >= self._slots and not self._evict_for(len(items), privileged=privileged, now=now):
            return None
        if self.partitions + len(items) > self._max_partitions:
            return None
        session_id = self._rng.randrange(1, 2**31)
        while session_id in self._sessions:
            session_id = self._rng.randrange(1, 2**31)
        session = FetchSession(session_id, privileged=privileged, uses_topic_ids=uses_topic_ids, now=now)
        for item in items:
            session.items[item.key] = item
        session.hot = dict(session.items)
        self.partitions += len(session.items)
        self._sessions[session_id] = session
        return session

    def _evict_for(self, size: int, *, privileged: bool, now: float) -> bool:
        """Make room by the rule of KIP-227; False when nobody may be evicted."""
        stalest = min(self._sessions.values(), key=lambda session: session.last_used, default=None)
        if stalest is None:
            return False
        if now - stalest.last_used > self._eviction_s:
            self._evict(stalest)
            return True
        candidates = [
            session
            for session in self._sessions.values()
            if now - session.created > self._eviction_s or (privileged and not session.privileged)
        ]
        weakest = min(candidates, key=_weight, default=None)
        if weakest is None or _weight(weakest) >= (privileged, size, 0):
            return False
        self._evict(weakest)
        return True

    def _evict(self, session: FetchSession) -> None:
        self.evictions += 1
        self.remove(session.id)


def _weight(session: FetchSession) -> tuple[bool, int, int]:
    return (session.privileged, len(session.items), 0)

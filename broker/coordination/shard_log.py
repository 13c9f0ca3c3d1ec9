"""One partition of an internal topic as the log of a state machine: loading it, and writing to it.

The state follows the log, never the other way round: `replay` is called for each record once it is committed (below
the high watermark), in the order of the log, when loading and afterwards. So there is nothing to roll back when a
write fails: a record that this leader could not commit was never applied.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

import structlog
from kio.schema.errors import ErrorCode

from ottla.broker.replication import Acks, Partition
from ottla.log import Appended
from ottla.records import BatchHeader, Record, decode_batch, encode_batch, iter_headers, read_header

log = structlog.get_logger(__name__)

SLICE_BYTES: Final = 64 * 1024
"""As much of the log as is replayed before other work gets its turn: a few milliseconds."""
MAX_IN_FLIGHT: Final = 10_000

Done = Callable[[ErrorCode], None]
E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Codec(Generic[E]):
    """How an entry becomes the key and value of a record, and comes back.

    `decode` raises BadRecord for what cannot be read; None is an entry of a type that is passed over.
    """

    encode: Callable[[E], tuple[bytes, bytes | None]]
    decode: Callable[[bytes, bytes | None], E | None]


class Appender(Protocol):
    """The part of `ReplicaManager` that is needed."""

    def append(
        self, partition: Partition, batch: bytes | memoryview, header: BatchHeader, *, acks: Acks
    ) -> Appended | ErrorCode: ...


@dataclass(slots=True, eq=False)
class _Write(Generic[E]):
    end_offset: int
    entries: Sequence[E]
    done: Done | None
    deadline: float
    decided: Done | None = None


class ShardLog(Generic[E]):
    """Bound to one leader epoch of one replica. `loaded` is called once, when everything that was in the log at the
    start of the epoch is replayed and committed (so no older leader's record can follow); `lost` once, when the epoch
    is over: writes that were under way have then been answered NOT_COORDINATOR."""

    def __init__(
        self,
        partition: Partition,
        replicas: Appender,
        codec: Codec[E],
        *,
        clock: Callable[[], int],
        max_bytes: Callable[[], int],
        timeout_s: float,
        replay: Callable[[E], None],
        loaded: Callable[[], None],
        lost: Callable[[], None],
    ) -> None:
        self.partition = partition
        self.epoch = partition.leader_epoch
        self.ready = False
        self.closed = False
        self._replicas = replicas
        self._codec = codec
        self._clock = clock
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._replay = replay
        self._loaded = loaded
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._start_of_epoch = partition.log_end_offset
        self._writes: deque[_Write[E]] = deque()
        self._untold: deque[_Write[E]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._replayed = False
        self._unwatch = partition.watch(self._moved)

    # Loading

    async def load(self) -> None:
        """Replay the log in slices. Raises DiskError, LogError, CorruptBatch, BadRecord."""
        held = self.partition.log
        assert held is not None, "what leads has a log"
        at, records = held.log_start_offset, 0
        while at < self._start_of_epoch and self.leads:
            data = held.read(at, SLICE_BYTES, up_to=self._start_of_epoch)
            if not data:
                break
            for position, header in iter_headers(data):
                if not header.is_control and header.base_offset < self._start_of_epoch:
                    records += self._replay_batch(data, position)
                at = header.next_offset
            await asyncio.sleep(0)
        if self.leads:
            self._replayed = True
            log.info("shard_replayed", topic=self.partition.topic, partition=self.partition.index, records=records)
            self._advance()

    def _replay_batch(self, data: bytes, position: int) -> int:
        records = decode_batch(data, position)
        for record in records:
            if record.key is None:
                continue
            entry = self._codec.decode(record.key, record.value)
            if entry is not None:
                self._replay(entry)
        return len(records)

    # Leadership

    @property
    def leads(self) -> bool:
        """Whether this is still the epoch that it was made for; ends it if not."""
        if self.closed:
            return False
        partition = self.partition
        if partition.is_leader and partition.leader_epoch == self.epoch and partition.failure is None:
            return True
        self.close()
        return False

    def close(self) -> None:
        """The epoch is over for this shard."""
        if self.closed:
            return
        self.closed = True
        self.ready = False
        self._unwatch()
        if self._timer is not None:
            self._timer.cancel()
        writes, self._writes = self._writes, deque()
        self._untold.clear()
        for write in writes:
            _tell(write, ErrorCode.not_coordinator)
            _decide(write, ErrorCode.not_coordinator)
        self._lost()

    def _moved(self, _size: int) -> None:
        """The high watermark, the role or the state of the partition changed."""
        if self.leads:
            self._advance()

    # Writing

    @property
    def in_flight(self) -> Sequence[E]:
        """Records that are written and not committed."""
        return [entry for write in self._writes for entry in write.entries]

    @property
    def idle(self) -> bool:
        return not self._writes

    def write(self, entries: Sequence[E], done: Done, decided: Done | None = None) -> None:
        """Append one batch; `done` gets `none` once it is committed and replayed, or else why it is not known to be.

        COORDINATOR_NOT_AVAILABLE (not enough replicas, or not within the timeout), NOT_COORDINATOR,
        MESSAGE_TOO_LARGE. It may be called before this returns. `decided` is called after it, and not before it is
        certain what this leader will see of the batch: what timed out may be committed yet.
        """
        error = self._append(entries, done, decided)
        if error is not ErrorCode.none:
            done(error)
            if decided is not None:
                decided(error)
            return
        if self._timer is None and self._untold:
            self._timer = self._loop.call_at(self._untold[0].deadline, self._time_over)
        self._advance()

    def after(self, done: Done) -> None:
        """`done` once everything written so far is committed, with the error of `write` if that is not to be."""
        if self.idle:
            done(ErrorCode.none)
            return
        last = self._writes[-1]
        mark: _Write[E] = _Write(last.end_offset, (), done, max(last.deadline, self._loop.time() + self._timeout_s))
        self._writes.append(mark)
        self._untold.append(mark)

    def _append(self, entries: Sequence[E], done: Done, decided: Done | None) -> ErrorCode:
        if not self.leads or not self.ready:
            return ErrorCode.not_coordinator
        if len(self._writes) >= MAX_IN_FLIGHT:
            return ErrorCode.coordinator_not_available
        now_ms = self._clock()
        batch = encode_batch([Record(0, now_ms, *self._codec.encode(entry)) for entry in entries])
        if len(batch) > self._max_bytes():
            return ErrorCode.message_too_large
        appended = self._replicas.append(self.partition, batch, read_header(batch), acks=-1)
        if isinstance(appended, ErrorCode):
            return _refused(appended)
        write = _Write(appended.last_offset + 1, entries, done, self._loop.time() + self._timeout_s, decided)
        self._writes.append(write)
        self._untold.append(write)
        return ErrorCode.none

    def _advance(self) -> None:
        """Replay what is committed, and tell who waits for it."""
        committed = self.partition.high_watermark
        if not self.ready:
            if not self._replayed or committed < self._start_of_epoch:
                return
            self.ready = True
            self._loaded()
        while self._writes and self._writes[0].end_offset <= committed:
            write = self._writes.popleft()
            for entry in write.entries:
                self._replay(entry)
            if self._untold and self._untold[0] is write:
                self._untold.popleft()
            _tell(write, ErrorCode.none)
            _decide(write, ErrorCode.none)

    def _time_over(self) -> None:
        """Give up on telling that the oldest writes are committed; they are still replayed if they ever are."""
        self._timer = None
        now = self._loop.time()
        while self._untold and (self._untold[0].done is None or self._untold[0].deadline <= now):
            _tell(self._untold.popleft(), ErrorCode.coordinator_not_available)
        if self._untold and self._timer is None:
            self._timer = self._loop.call_at(self._untold[0].deadline, self._time_over)


def _tell(write: _Write[E], error: ErrorCode) -> None:
    done, write.done = write.done, None
    if done is not None:
        done(error)


def _decide(write: _Write[E], error: ErrorCode) -> None:
    decided, write.decided = write.decided, None
    if decided is not None:
        decided(error)


def _refused(error: ErrorCode) -> ErrorCode:
    """What a client is told when its coordinator cannot append (Kafka's mapping)."""
    if error in (ErrorCode.not_leader_or_follower, ErrorCode.kafka_storage_error, ErrorCode.fenced_leader_epoch):
        return ErrorCode.not_coordinator
    return ErrorCode.coordinator_not_available

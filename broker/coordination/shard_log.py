"""One partition of an internal topic as the log of a state machine: loading it, and writing to it.

The state follows the log, never the other way round: `replay` is called for each record once it is committed (below
the high watermark), in the order of the log, when loading and afterwards. So there is nothing to roll back when a
write fails: a record that this leader could not commit was never applied.

What others append, markers of transactions above all, is read from the log once it is committed, in its turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

import structlog
from kio.schema.errors import ErrorCode

from ottla.broker.coordination.primitives import BadRecord
from ottla.broker.replication import Acks, LeaderState, Partition, damaged
from ottla.log import Appended, CorruptFile, DiskError, LogError, Verification
from ottla.records import (
    BatchHeader,
    CorruptBatch,
    EndMarker,
    Record,
    decode_batch,
    encode_batch,
    encode_empty_batch,
    iter_headers,
    read_header,
    read_marker,
)

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


class Place(NamedTuple):
    """Where a record stands, and of whose transaction it is a part (-1: of none)."""

    offset: int
    producer_id: int = -1


class InTransaction(NamedTuple):
    """Entries that are a part of a producer's transaction. `verification` is the coordinator's word that the partition
    is, None where that transaction is open here already (KIP-890)."""

    producer_id: int
    epoch: int
    verification: Verification | None


class Appender(Protocol):
    """The part of `ReplicaManager` that is needed."""

    def append(
        self,
        partition: Partition,
        batch: bytes | memoryview,
        header: BatchHeader,
        *,
        acks: Acks,
        verification: Verification | None = None,
        sequenced: bool = True,
    ) -> Appended | ErrorCode: ...


@dataclass(slots=True, eq=False)
class _Write(Generic[E]):
    start_offset: int
    end_offset: int
    entries: Sequence[E]
    done: Done | None
    deadline: float
    decided: Done | None = None
    producer_id: int = -1


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
        replay: Callable[[E, Place], None],
        ended: Callable[[int, EndMarker], None],
        loaded: Callable[[], None],
        lost: Callable[[], None],
    ) -> None:
        """`replay` is told of every record, `ended` of every marker by the id of its producer."""
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
        self._ended = ended
        self._loaded = loaded
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._start_of_epoch = partition.log_end_offset
        self._writes: deque[_Write[E]] = deque()
        self._untold: deque[_Write[E]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._replayed = False
        self._applied = 0
        self._appending = False
        self._unwatch = partition.watch(self._moved)

    # Loading

    async def load(self) -> None:
        """Replay the log in slices. Raises DiskError, LogError, CorruptBatch, BadRecord."""
        held = self.partition.log
        assert held is not None, "what leads has a log"
        self._applied, records = held.log_start_offset, 0
        while self._applied < self._start_of_epoch and self.leads:
            found = self._replay_slice(self._start_of_epoch)
            if found is None:
                break
            records += found
            await asyncio.sleep(0)
        if self.leads:
            self._replayed = True
            self._applied = self._start_of_epoch
            log.info("shard_replayed", topic=self.partition.topic, partition=self.partition.index, records=records)
            self._advance()

    def _replay_slice(self, end: int) -> int | None:
        """Go on from where the log was applied to, but not beyond `end`. How many records, None for no batch."""
        held = self.partition.log
        assert held is not None, "what leads has a log"
        try:
            data = held.read(self._applied, SLICE_BYTES, up_to=end)
        except (CorruptBatch, CorruptFile) as found:
            damaged(self.partition, found)
            raise
        records = None
        for position, header in iter_headers(data):
            if header.base_offset >= end:
                break
            if header.next_offset > self._applied:
                self._applied = header.next_offset
                records = (records or 0) + self._replay_batch(data, position, header)
        return records

    def _replay_batch(self, data: bytes, position: int, header: BatchHeader) -> int:
        if header.is_control:
            marker = read_marker(data, position, header=header)
            if marker is not None:
                self._ended(header.producer_id, marker)
            return 0
        producer_id = header.producer_id if header.is_transactional else -1
        records = decode_batch(data, position)
        for record in records:
            if record.key is None:
                continue
            entry = self._codec.decode(record.key, record.value)
            if entry is not None:
                self._replay(entry, Place(record.offset, producer_id))
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

    def write(
        self, entries: Sequence[E], done: Done, decided: Done | None = None, *, within: InTransaction | None = None
    ) -> None:
        """Append one batch, a part of a transaction if it is `within` one. `done` gets `none` once it is committed and
        replayed, or else why it is not known to be.

        COORDINATOR_NOT_AVAILABLE (not enough replicas, or not within the timeout), NOT_COORDINATOR,
        MESSAGE_TOO_LARGE; within a transaction INVALID_PRODUCER_EPOCH and INVALID_TXN_STATE. It may be called before
        this returns. `decided` is called after it, and not before it is certain what this leader will see of the batch:
        what timed out may be committed yet.
        """
        error = self._append(_Write(-1, -1, entries, done, 0.0, decided), within)
        if error is not ErrorCode.none:
            done(error)
            if decided is not None:
                decided(error)
            return
        if self._timer is None and self._untold:
            self._timer = self._loop.call_at(self._untold[0].deadline, self._time_over)
        self._advance()

    @property
    def alone(self) -> bool:
        """Whether nobody else could lead, as there is no other replica."""
        role = self.partition.role
        return self.leads and isinstance(role, LeaderState) and not role.followers

    def mark(self, done: Done) -> None:
        """`done` as of `write`, for a batch that says nothing."""
        self.write((), done)

    def after(self, done: Done) -> None:
        """`done` once everything written so far is committed, with the error of `write` if that is not to be."""
        if self.idle:
            done(ErrorCode.none)
            return
        last = self._writes[-1]
        end, deadline = last.end_offset, max(last.deadline, self._loop.time() + self._timeout_s)
        mark: _Write[E] = _Write(end, end, (), done, deadline)
        self._writes.append(mark)
        self._untold.append(mark)

    def _append(self, write: _Write[E], within: InTransaction | None) -> ErrorCode:
        if not self.leads or not self.ready:
            return ErrorCode.not_coordinator
        if len(self._writes) >= MAX_IN_FLIGHT:
            return ErrorCode.coordinator_not_available
        now_ms = self._clock()
        records = [Record(0, now_ms, *self._codec.encode(entry)) for entry in write.entries]
        if not records:
            batch = encode_empty_batch(now_ms)
        elif within is None:
            batch = encode_batch(records)
        else:
            write.producer_id = within.producer_id
            batch = encode_batch(
                records, producer_id=within.producer_id, producer_epoch=within.epoch, transactional=True
            )
        if len(batch) > self._max_bytes():
            return ErrorCode.message_too_large
        appended = self._append_batch(batch, within)
        if isinstance(appended, ErrorCode):
            return _refused(appended)
        write.start_offset, write.end_offset = appended.base_offset, appended.last_offset + 1
        write.deadline = self._loop.time() + self._timeout_s
        self._writes.append(write)
        self._untold.append(write)
        return ErrorCode.none

    def _append_batch(self, batch: bytes, within: InTransaction | None) -> Appended | ErrorCode:
        header = read_header(batch)
        self._appending = True
        try:
            if within is None:
                return self._replicas.append(self.partition, batch, header, acks=-1)
            return self._replicas.append(
                self.partition, batch, header, acks=-1, verification=within.verification, sequenced=False
            )
        finally:
            self._appending = False

    def _advance(self) -> None:
        """Replay what is committed, and tell who waits for it."""
        if self._appending:
            return  # a sole replica commits at once, when nobody knows yet whose batch it was
        committed = self.partition.high_watermark
        if not self.ready:
            if not self._replayed or committed < self._start_of_epoch:
                return
            self.ready = True
            self._loaded()
        while self.ready and self._replay_of_others(committed):
            write = self._writes.popleft()
            self._applied = write.end_offset
            for place, entry in enumerate(write.entries, write.start_offset):
                self._replay(entry, Place(place, write.producer_id))
            if self._untold and self._untold[0] is write:
                self._untold.popleft()
            _tell(write, ErrorCode.none)
            _decide(write, ErrorCode.none)

    def _replay_of_others(self, committed: int) -> bool:
        """Apply what is not of this shard before its next write; whether that is committed then."""
        end = min(committed, self._writes[0].start_offset) if self._writes else committed
        try:
            while self._applied < end:
                if self._replay_slice(end) is None:
                    self._applied = end
        except (DiskError, LogError, CorruptBatch, BadRecord) as error:
            # To go on without would be to forget what was promised.
            log.error("shard_failed", topic=self.partition.topic, partition=self.partition.index, error=repr(error))
            self.close()
            return False
        return bool(self._writes) and self._writes[0].end_offset <= committed

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
    if error in (ErrorCode.invalid_producer_epoch, ErrorCode.invalid_txn_state):
        return error
    return ErrorCode.coordinator_not_available

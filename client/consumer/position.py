"""Where a consumer is in one partition: a state machine without I/O."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from uuid import UUID

from ottla.client.consumer.chunk import Chunk
from ottla.client.consumer.epochs import EpochsRead
from ottla.client.errors import KafkaError, LogTruncationError
from ottla.client.structs import ConsumerRecord, PartitionMetadata, TopicPartition

Reset = int | timedelta
"""A time to look up: ms since the epoch, LATEST or EARLIEST, or how long before now (KIP-1106)."""


class Phase(Enum):
    """What has to happen before the partition can be fetched."""

    COMMITTED = "the group's committed offset has to be looked up"
    RESET = "the position has to be looked up"
    VALIDATE = "a new leader has to confirm what was read (KIP-320)"
    FETCH = "nothing"


@dataclass(slots=True, eq=False)
class PartitionState:
    """One assigned partition.

    `position` is the offset of the next record to hand out, `fetch_offset` of the next one to fetch; between them
    lie `chunks`. `done` is the position up to which the program has come back for more, so that what is before it is
    surely processed. `position_epoch` and `fetch_epoch` are the leader epochs of the records before those, -1 if none
    was read. `generation` grows whenever an outstanding answer must not be believed any more.
    """

    tp: TopicPartition
    reset_to: Reset | None
    """Time to look up: LATEST, EARLIEST, or so long ago; None: there is no policy."""
    phase: Phase = Phase.RESET
    position: int = -1
    position_epoch: int = -1
    fetch_offset: int = -1
    fetch_epoch: int = -1
    leader_epoch: int = -1
    topic_id: UUID | None = None
    """Of the topic in which the position is, if that is known."""
    gone: set[UUID] = field(default_factory=set)
    """Of topics that had the name before."""
    known: PartitionMetadata | None = None
    """What the metadata said of the partition at the last look."""
    generation: int = 0
    paused: bool = False
    held: bool = False
    """Nothing is handed out: the program is being told that it gets or loses the partition."""
    done: int = -1
    done_epoch: int = -1
    high_watermark: int = -1
    last_stable_offset: int = -1
    log_start_offset: int = -1
    chunks: deque[Chunk] = field(default_factory=deque)
    epochs: EpochsRead = field(default_factory=EpochsRead)
    """Of what lies before `fetch_offset`, since the last `seek` or `reset`."""
    buffered: int = 0
    preferred: int | None = None
    """The replica to fetch from instead of the leader, by the leader's own advice (KIP-392)."""
    preferred_until: float = 0.0
    leader_until: float = 0.0
    """Until then (loop time) the leader is not asked for such advice: the replica it named was of no use."""
    fetching: int | None = None
    looking_up: bool = False
    retry_at: float = 0.0
    attempts: int = 0
    error: KafkaError | None = None
    _damaged_at: int = -1
    _damages: int = 0

    def seek(self, offset: int, epoch: int = -1) -> None:
        """Go on from `offset`, whatever was read before. With the epoch of the record before it, the leader has to
        confirm that first (KIP-320)."""
        self.epochs.clear()
        self._go_on_from(offset, epoch)

    def go_back(self, offset: int) -> None:
        """Go on from where the leader's log and what was read part. Below that, too, another epoch may be its last."""
        self.epochs.cut(offset)
        self._go_on_from(offset, self.epochs.last)

    def _go_on_from(self, offset: int, epoch: int) -> None:
        self._drop()
        self.phase = Phase.FETCH if epoch < 0 else Phase.VALIDATE
        self.position = self.fetch_offset = offset
        self.position_epoch = self.fetch_epoch = epoch
        self.note_done()
        self.error = None

    def reset(self, to: Reset | None) -> None:
        """Forget the position; look it up."""
        self._forget()
        self.phase, self.reset_to = Phase.RESET, to

    def reset_to_committed(self) -> None:
        """Forget the position; go on from the group's committed offset."""
        self._forget()
        self.phase = Phase.COMMITTED

    def heard_of(self, high_watermark: int, last_stable_offset: int) -> None:
        """What a fetch tells. Neither falls while the leader epoch lasts: where one does, a follower lags."""
        if self.preferred is not None:
            high_watermark = max(high_watermark, self.high_watermark)
            last_stable_offset = max(last_stable_offset, self.last_stable_offset)
        self.high_watermark, self.last_stable_offset = high_watermark, last_stable_offset

    def stay_with_leader(self, until: float) -> None:
        """The replica that the leader has named is of no use; what it may still answer is not waited for."""
        self.preferred = self.fetching = None
        self.generation += 1
        self.leader_until = until

    def note_done(self) -> None:
        """The program has come back: what it was handed out is processed."""
        self.done, self.done_epoch = self.position, self.position_epoch

    def rewind(self) -> None:
        """Throw away what was fetched and not handed out."""
        self._drop()
        self.epochs.cut(self.position)
        self.fetch_offset, self.fetch_epoch = self.position, self.position_epoch

    def damaged(self, offset: int) -> int:
        """What was fetched from `offset` on fails its check; says how often in a row it does."""
        self._damages = self._damages + 1 if offset == self._damaged_at else 1
        self._damaged_at = offset
        return self._damages

    def learn(self, known: PartitionMetadata, topic_id: UUID | None, to: Reset | None) -> bool:
        """The metadata say something new of the partition, or of another one of its topic. Whether that was made anew:
        then the position is to be looked up by `to`."""
        self.known = known
        if topic_id in self.gone:
            return False  # a broker that lags
        old = self.topic_id
        anew = topic_id is not None and old is not None and topic_id != old
        if anew and old is not None:
            self.gone.add(old)
            self.made_anew(to)
        self.topic_id = topic_id or old
        self.leader_changed(known.leader_epoch)
        return anew

    def made_anew(self, to: Reset | None) -> None:
        """There is another topic of the name: a position in the old one, and its epochs, say nothing about it. What was
        not handed out is gone with the old one."""
        self.leader_epoch = -1
        if self.phase in (Phase.FETCH, Phase.VALIDATE):
            self.reset(to)
        else:
            self._drop()

    def leader_changed(self, epoch: int) -> None:
        """Metadata shows a newer leader epoch: what was read must be confirmed by the new leader."""
        if epoch <= self.leader_epoch:
            return
        self.leader_epoch = epoch
        self.fetching = self.preferred = None
        self.generation += 1
        self.retry_at, self.attempts = 0.0, 0
        if self.fetch_epoch >= 0:
            self.phase = Phase.VALIDATE

    def validated(self, epoch: int, end_offset: int) -> LogTruncationError | None:
        """The leader says where in its log the largest epoch ends that is not above that of the last fetched record
        (-1: there is none). Beyond that, and beyond what is of such epochs here, nothing is the same (KIP-279).

        Buffered records beyond it are dropped. The error says that records which were handed out are gone too;
        the caller decides what to do then.
        """
        self.phase = Phase.FETCH
        attempts, self.attempts = self.attempts + 1, 0
        end_offset = min(end_offset, self.epochs.end_of(epoch, self.fetch_offset)) if epoch >= 0 else -1
        if end_offset >= self.fetch_offset:
            return None
        if end_offset >= 0 and self.position <= end_offset:
            self.rewind()
            if 0 <= self.fetch_epoch < epoch:
                self.phase = Phase.VALIDATE  # what is left ends in an epoch that was not asked about
            return None
        error = LogTruncationError(
            self.position, end_offset, partition=self.tp, leader_epoch=self.position_epoch, attempts=attempts
        )
        self.rewind()
        self.phase = Phase.VALIDATE
        return error

    def add(self, chunk: Chunk, next_offset: int, epoch: int) -> None:
        """Fetched batches, which end before `next_offset`."""
        if epoch != self.epochs.last:
            self.epochs.note((header for _, header in chunk.headers), self.fetch_offset)
        self.chunks.append(chunk)
        self.buffered += chunk.size
        self.fetch_offset, self.fetch_epoch = next_offset, epoch

    def take(self, limit: int) -> list[ConsumerRecord]:
        """Up to `limit` buffered records, moving the position. Raises as `Chunk.take` does; nothing moves then."""
        taken: list[ConsumerRecord] = []
        left = limit
        while self.chunks and left > 0:
            chunk = self.chunks[0]
            try:
                records, self.position, self.position_epoch = chunk.take(self.position, left)
            except Exception:
                if taken:
                    break  # the next call raises it: the position has moved past what is handed out now
                raise
            taken += records
            left -= len(records)
            if chunk.empty:
                self.chunks.popleft()
                self.buffered -= chunk.size
        return taken

    def _forget(self) -> None:
        self._drop()
        self.epochs.clear()
        self.position = self.fetch_offset = self.position_epoch = self.fetch_epoch = -1
        self.note_done()
        self.error = None

    def _drop(self) -> None:
        self.chunks.clear()
        self.buffered = 0
        self.generation += 1
        self.fetching = None
        self.retry_at, self.attempts = 0.0, 0

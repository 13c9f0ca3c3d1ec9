"""What readers of committed records are promised (KIP-98), by what is committed and not by what a log says itself."""

from __future__ import annotations

from bisect import bisect_right
from struct import Struct

from ottla.broker import Partition
from ottla.log import PartitionLog
from ottla.records import CONTROL_BIT, TRANSACTIONAL_BIT, CorruptBatch, read_marker
from ottla.simulation.errors import Anomaly

_PRODUCER_ID, _PRODUCER_ID_AT = Struct(">q"), 43
_ATTRIBUTES, _ATTRIBUTES_AT = Struct(">h"), 21
_OF_TRANSACTIONS = CONTROL_BIT | TRANSACTIONAL_BIT


class TransactionTruth:
    """The transactions among the committed batches of a partition.

    `ended`: what each committed marker has ended, by its offset: (producer id, first offset, whether it was aborted).
    """

    def __init__(self) -> None:
        self.ended: dict[int, tuple[int, int, bool]] = {}
        self._open: dict[int, int] = {}
        # After each batch that changed it: where that ended, and the first offset that is not decided then.
        self._ends: list[int] = []
        self._unstable: list[int | None] = []

    def add(self, base: int, end: int, contents: bytearray, position: int) -> None:
        """The next batch is committed."""
        (attributes,) = _ATTRIBUTES.unpack_from(contents, position + _ATTRIBUTES_AT)
        if not attributes & _OF_TRANSACTIONS:
            return
        (producer_id,) = _PRODUCER_ID.unpack_from(contents, position + _PRODUCER_ID_AT)
        if attributes & CONTROL_BIT:
            first = self._open.pop(producer_id, None)
            if first is None:
                return
            try:
                marker = read_marker(bytes(contents), position)
            except CorruptBatch:
                marker = None  # it has rotted here since it was written
            if marker is not None:
                self.ended[base] = producer_id, first, not marker.commit
        elif producer_id in self._open:
            return
        else:
            self._open[producer_id] = base
        self._ends.append(end)
        self._unstable.append(min(self._open.values(), default=None))

    def stable(self, high_watermark: int) -> int:
        """The last stable offset where so much is committed."""
        at = bisect_right(self._ends, high_watermark) - 1
        unstable = self._unstable[at] if at >= 0 else None
        return high_watermark if unstable is None else unstable


class StableReplica:
    """A replica in one life of a node. What had ended in its log before that life, it may take for replicated: so its
    last stable offset may go back to where it belongs, once, when what ended a transaction is cut."""

    def __init__(self, partition: Partition, log: PartitionLog) -> None:
        self._partition = partition
        self._log = log
        self._known_from = log.log_end_offset
        self._stable = self._high_watermark = -1

    def look(self, truth: TransactionTruth, high_watermark: int, committed: int, who: object) -> None:
        """The high watermark or the role has changed; `committed` is how far the truth is known. Raises Anomaly when
        the last stable offset went back, or is not where the transactions put it."""
        stable = self._partition.last_stable_offset
        if self._stable <= stable == high_watermark and not truth._ends:  # the usual case: there are none
            self._stable = self._high_watermark = high_watermark
            return
        expected = truth.stable(high_watermark) if high_watermark <= committed else None
        if stable < self._stable and not (self._high_watermark < self._known_from and stable == expected):
            raise Anomaly(f"{who}: the last stable offset went back from {self._stable} to {stable}")
        self._stable, self._high_watermark = stable, high_watermark
        if stable > high_watermark:
            raise Anomaly(f"{who}: the last stable offset {stable} is above the high watermark {high_watermark}")
        if expected is None or high_watermark < self._known_from:
            return
        if stable != expected and expected >= self._log.log_start_offset:
            raise Anomaly(f"{who}: its last stable offset is {stable}, by its transactions {expected}")

    def passes(self, truth: TransactionTruth, base: int, who: object, *, compacted: bool = False) -> None:
        """It holds the committed batch at `base`. Raises Anomaly when its index says otherwise of what that ended; of a
        compacted log only if it calls aborted what is not, as nothing may be left of what was."""
        ended = truth.ended.get(base)
        if ended is None or base < self._log.segments[-1].base_offset or ended[1] < self._log.log_start_offset:
            return
        producer_id, first, aborted = ended
        row = (producer_id, first)
        found = row in self._log.aborted_transactions(base, base + 1)
        if found is not aborted and (found or not compacted):
            outcome = "aborted" if aborted else "committed"
            raise Anomaly(f"{who}: the transaction {row}, {outcome} at {base}, is not so in its index")

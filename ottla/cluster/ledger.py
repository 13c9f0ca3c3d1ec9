"""What was acknowledged held against what was read: lost, duplicated and out-of-order records, and gaps without writes.

A pure record of one run. Values are unique per partition and grow with the order of sending
(``sequence`` 0, 1, 2, ...), so that a value alone tells which record it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class PartitionLedger:
    """One partition: offsets by acknowledged sequence number, and what a reader saw, in the order it was seen."""

    acknowledged: dict[int, int] = field(default_factory=dict)
    acknowledged_at: list[float] = field(default_factory=list)
    read: list[tuple[int, int]] = field(default_factory=list)

    def lost(self) -> list[int]:
        """Acknowledged sequence numbers that no read showed."""
        seen = {sequence for _, sequence in self.read}
        return sorted(self.acknowledged.keys() - seen)

    def duplicated(self) -> list[int]:
        """Sequence numbers that were read at more than one offset."""
        first: dict[int, int] = {}
        twice = set()
        for offset, sequence in self.read:
            if first.setdefault(sequence, offset) != offset:
                twice.add(sequence)
        return sorted(twice)

    def out_of_order(self) -> list[int]:
        """Sequence numbers that were read after a higher one, or at an offset not above the one before."""
        wrong = []
        highest, last_offset = -1, -1
        for offset, sequence in self.read:
            if sequence < highest or offset <= last_offset:
                wrong.append(sequence)
            highest, last_offset = max(highest, sequence), max(last_offset, offset)
        return wrong

    def misplaced(self) -> list[int]:
        """Acknowledged sequence numbers that were read at another offset than the acknowledgement said."""
        return sorted(sequence for offset, sequence in self.read if self.acknowledged.get(sequence, offset) != offset)

    def longest_gap(self, since: float, until: float) -> float:
        """The longest time in seconds between two acknowledgements in a row that touches the given span."""
        times = sorted(self.acknowledged_at)
        gaps = [later - earlier for earlier, later in itertools.pairwise(times) if later > since and earlier < until]
        return max(gaps, default=0.0)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Counts over all partitions; ``clean`` when nothing is wrong."""

    acknowledged: int
    read: int
    lost: int
    duplicated: int
    out_of_order: int
    misplaced: int

    @property
    def clean(self) -> bool:
        return not (self.lost or self.duplicated or self.out_of_order or self.misplaced)


class Ledger:
    """The ledgers of all partitions of one topic."""

    def __init__(self, partitions: int) -> None:
        self.partitions = [PartitionLedger() for _ in range(partitions)]

    def acknowledge(self, partition: int, sequence: int, offset: int, at: float) -> None:
        """A record was acknowledged at ``at`` (loop time, seconds). Raises ValueError if it already was, elsewhere."""
        ledger = self.partitions[partition]
        if ledger.acknowledged.setdefault(sequence, offset) != offset:
            raise ValueError(
                f"partition {partition}: {sequence} acknowledged at {ledger.acknowledged[sequence]} and {offset}"
            )
        ledger.acknowledged_at.append(at)

    def saw(self, partition: int, offset: int, sequence: int) -> None:
        """A reader was given a record."""
        self.partitions[partition].read.append((offset, sequence))

    def forget_reads(self) -> None:
        """Begin a fresh reading."""
        for ledger in self.partitions:
            ledger.read.clear()

    def longest_gap(self, since: float, until: float, partitions: Iterable[int] | None = None) -> float:
        """The longest time without an acknowledgement on any of the partitions (all by default), in seconds."""
        chosen = range(len(self.partitions)) if partitions is None else partitions
        return max((self.partitions[index].longest_gap(since, until) for index in chosen), default=0.0)

    def verdict(self) -> Verdict:
        """The counts of the whole run."""
        ledgers = self.partitions
        return Verdict(
            acknowledged=sum(len(ledger.acknowledged) for ledger in ledgers),
            read=sum(len({offset for offset, _ in ledger.read}) for ledger in ledgers),
            lost=sum(len(ledger.lost()) for ledger in ledgers),
            duplicated=sum(len(ledger.duplicated()) for ledger in ledgers),
            out_of_order=sum(len(ledger.out_of_order()) for ledger in ledgers),
            misplaced=sum(len(ledger.misplaced()) for ledger in ledgers),
        )

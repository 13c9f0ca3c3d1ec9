"""The leader epochs of one log: at which offset each epoch began (KIP-101, KIP-279, KIP-320). Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

UNDEFINED = (-1, -1)
_NEVER = 2**63 - 1


class EpochCache:
    """Entries `(epoch, start offset)`, both strictly increasing. `version` counts the changes, for whoever persists.
    `latest` is the latest epoch known, also when it has no records yet; -1 if none."""

    __slots__ = ("_epochs", "_starts", "latest", "version")

    def __init__(self, entries: Iterable[tuple[int, int]] = ()) -> None:
        self._epochs: list[int] = []
        self._starts: list[int] = []
        self.latest = -1
        self.version = 0
        for epoch, start in entries:
            self.assign(epoch, start)

    @property
    def entries(self) -> tuple[tuple[int, int], ...]:
        return tuple(zip(tuple(self._epochs), tuple(self._starts), strict=False))

    def assign(self, epoch: int, start_offset: int) -> None:
        """From `start_offset` on, records belong to `epoch`.

        An epoch that began at or after `start_offset` never got a record, so its entry goes: elections that follow each
        other without a write leave one entry, not conflicting ones (KAFKA-10706).
        """
        epochs, starts = self._epochs, self._starts
        while epochs and (epochs[-1] > epoch or (starts[-1] >= start_offset and epochs[-1] != epoch)):
            epochs.pop()
            starts.pop()
            self.version += 1
        if not epochs or epochs[-1] < epoch:
            epochs.append(epoch)
            starts.append(start_offset)
            self.version += 1
        self.latest = epochs[-1]

    def epoch_for_offset(self, offset: int) -> int:
        """The epoch of the record at `offset`, -1 if the offset lies before the first known epoch."""
        at = bisect_right(self._starts, offset)
        return self._epochs[at - 1] if at else -1

    def stretch(self, offset: int) -> tuple[int, int]:
        """`epoch_for_offset`, and the first offset above for which that is another one."""
        at = bisect_right(self._starts, offset)
        return self._epochs[at - 1] if at else -1, self._starts[at] if at < len(self._starts) else _NEVER

    def end_offset_for(self, epoch: int, log_end_offset: int) -> tuple[int, int]:
        """`(largest known epoch <= epoch, where it ends)`, as OffsetsForLeaderEpoch answers.

        (-1, -1) when `epoch` is -1 or above every known one. When it is below every known one, the answer is `epoch`
        itself, ending where the first known epoch begins.
        """
        epochs = self._epochs
        if epoch < 0 or not epochs:
            return UNDEFINED
        if epoch == epochs[-1]:
            return epoch, log_end_offset
        at = bisect_right(epochs, epoch)
        if at == len(epochs):
            return UNDEFINED
        return (epochs[at - 1] if at else epoch), self._starts[at]

    def truncate_from_end(self, offset: int) -> None:
        """Forget epochs that begin at or after `offset`."""
        while self._starts and self._starts[-1] >= offset:
            self._epochs.pop()
            self._starts.pop()
            self.version += 1
        self.latest = self._epochs[-1] if self._epochs else -1

    def truncate_from_start(self, offset: int) -> None:
        """Forget epochs that end at or before `offset`; the one that `offset` lies in then begins there."""
        at = bisect_right(self._starts, offset) - 1
        if at < 0:
            return
        if at > 0 or self._starts[0] != offset:
            del self._epochs[:at]
            del self._starts[:at]
            self._starts[0] = offset
            self.version += 1

    def clear(self) -> None:
        self._epochs.clear()
        self._starts.clear()
        self.latest = -1
        self.version += 1

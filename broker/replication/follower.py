"""The follower of one partition, as a state machine without I/O: high watermark and truncation (KIP-101/279/595)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class BadDivergence(Exception):
    """The leader's idea of where logs diverge cannot be acted upon."""


class EpochEnd(NamedTuple):
    """An epoch and the offset at which it ends; (-1, -1) when it is not known."""

    epoch: int
    end_offset: int


@dataclass(slots=True)
class FollowerState:
    """One leader epoch of this replica as follower of `leader_id` (-1: nobody leads).

    `leader_high_watermark` is the leader's as it last told it, however far the own log reaches; -1 before that.
    `in_step`: this leader answers fetches from the own log's end, and without a divergence: the own log is a part of
    the leader's.
    """

    leader_id: int
    leader_epoch: int
    high_watermark: int
    leader_high_watermark: int = -1
    in_step: bool = False

    def learn(self, leader_high_watermark: int, log_end: int) -> bool:
        """Adopt the leader's high watermark as far as the own log reaches; True when it moved.

        A new leader may still know an older one than we do. Ours stays: what it covers was committed.
        """
        self.in_step = True
        self.leader_high_watermark = leader_high_watermark
        high_watermark = leader_high_watermark if leader_high_watermark < log_end else log_end
        if high_watermark <= self.high_watermark:
            return False
        self.high_watermark = high_watermark
        return True

    def truncated(self, log_end: int) -> int:
        """The log was cut to `log_end`; returns how many offsets below the high watermark went with it (0 is right)."""
        lost = max(0, self.high_watermark - log_end)
        self.high_watermark -= lost
        return lost


def truncation_point(diverging: EpochEnd, own: EpochEnd, log_end: int) -> int:
    """To where a log must be cut whose leader answered `diverging` (largest epoch not above ours, and its end there).

    `own` is the same question put to the own log: its largest epoch not above `diverging.epoch`. When that is an
    older one, the epoch that the leader named is strange to us, and comparing goes on from there with the next fetch
    (KIP-279). Every round cuts at least one record, so it ends; an answer that would not is the leader's
    mistake and raises BadDivergence.
    """
    if own.epoch < 0 or diverging.epoch < 0:
        raise BadDivergence(f"epoch {diverging.epoch} at {diverging.end_offset} says nothing about this log")
    if own.epoch < diverging.epoch:
        point = own.end_offset
    else:
        point = min(diverging.end_offset, own.end_offset)
    if point >= log_end:
        raise BadDivergence(
            f"epoch {diverging.epoch} at {diverging.end_offset} does not cut a log that ends at {log_end}"
        )
    return point


def diverges(fetch_offset: int, last_fetched_epoch: int, end: EpochEnd) -> bool:
    """Whether a log that ends at `fetch_offset` in `last_fetched_epoch` left the leader's, where `end` is the leader's
    largest epoch not above that one."""
    return end.epoch < last_fetched_epoch or end.end_offset < fetch_offset

"""The leader of one partition, as a state machine without I/O: followers, ISR and high watermark.

Sources: KIP-101/279 (epochs), KIP-497 (AlterPartition), KIP-903 (broker epochs), KIP-966 (frozen high watermark).
Times are seconds of any monotonic clock; offsets are log offsets.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from kio.schema.errors import ErrorCode

from ottla.broker.replication.isr import Committed, Isr, PendingExpand, PendingShrink
from ottla.controller import PartitionImage

UNKNOWN = -1


class Follower:
    """What the leader knows of one follower. `end_offset` is -1 until it has fetched in this leader epoch; `given` is
    the offset from which it was last given records, -1 before."""

    __slots__ = (
        "broker_epoch",
        "caught_up_at",
        "end_offset",
        "fetched_at",
        "given",
        "id",
        "leader_end_then",
        "log_start",
    )

    def __init__(self, id: int, caught_up_at: float) -> None:
        self.id = id
        self.caught_up_at = caught_up_at
        self.end_offset = UNKNOWN
        self.broker_epoch = UNKNOWN
        self.fetched_at = -inf
        self.leader_end_then = UNKNOWN
        self.log_start = UNKNOWN
        self.given = UNKNOWN

    def fetched(self, broker_epoch: int, offset: int, leader_end: int, now: float, log_start: int = UNKNOWN) -> None:
        """It asks for `offset`, so it has everything from its `log_start` up to there.

        It counts as caught up at this moment when it has all, and at its previous fetch when it has all that was
        there then: a follower that always asks for slightly less than the end under load is not lagging.
        """
        if offset >= leader_end:
            if now > self.caught_up_at:
                self.caught_up_at = now
        elif self.leader_end_then != UNKNOWN and offset >= self.leader_end_then:
            self.caught_up_at = max(self.caught_up_at, self.fetched_at)
        self.end_offset = offset
        self.log_start = log_start
        self.broker_epoch = broker_epoch
        self.leader_end_then = leader_end
        self.fetched_at = now


@dataclass(frozen=True, slots=True, eq=False)
class IsrProposal:
    """What AlterPartition shall ask for; compared by identity, so that an answer finds only its own question.

    `members` are (broker id, broker epoch under which it fetched or -1).
    """

    leader_epoch: int
    partition_epoch: int
    members: tuple[tuple[int, int], ...]


class Outcome(enum.Enum):
    """What became of a proposal."""

    COMMITTED = "committed"  # the metadata log brings it
    RETRY = "retry"  # ask again, after a pause: the controller may or may not have done it
    REVERTED = "reverted"  # refused for sure; the old ISR stands
    AWAIT_METADATA = "await metadata"  # we are behind: the metadata log will tell
    STALE = "stale"  # answers a question that nobody asks any more


_REFUSED = (ErrorCode.operation_not_attempted, ErrorCode.ineligible_replica)
_BEHIND = (
    ErrorCode.unknown_topic_or_partition,
    ErrorCode.unknown_topic_id,
    ErrorCode.fenced_leader_epoch,
    ErrorCode.invalid_update_version,
    ErrorCode.invalid_request,
    ErrorCode.new_leader_elected,
)


BEYOND_S = 60.0
MAX_BEYOND = 64
"""How long, and how many, offsets beyond the end are remembered to have been asked for."""


class LeaderState:
    """One leader epoch of this replica as leader.

    `log_end` is the end of its log, `durable_end` as much of it as this leader may count for itself (less than
    `log_end` only while a sync is awaited). `start_offset` is the log end at which the epoch began.
    """

    def __init__(
        self,
        *,
        node_id: int,
        image: PartitionImage,
        log_end: int,
        durable_end: int,
        high_watermark: int,
        min_insync: int,
        max_lag_s: float,
        now: float,
    ) -> None:
        self.node_id = node_id
        self.leader_epoch = image.leader_epoch
        self.start_offset = log_end
        self.log_end = log_end
        self.durable_end = durable_end
        self.high_watermark = min(high_watermark, log_end)
        self._min_insync = min_insync
        self.max_lag_s = max_lag_s
        self.proposal: IsrProposal | None = None
        self.followers: dict[int, Follower] = {}
        self._beyond: dict[int, float] = {}
        self._become(image, now)

    # Metadata

    def _become(self, image: PartitionImage, now: float) -> None:
        """Members of the ISR get the whole lag time to show themselves; others have to earn their place."""
        self.partition_epoch = image.partition_epoch
        self.isr: Isr = Committed(frozenset(image.isr))
        self.replicas = image.replicas
        self._counted_replicas = len(image.original)
        self._others_eligible = bool(image.elr)
        self._elr = frozenset(image.elr)
        others = [id for id in self.replicas if id != self.node_id]
        self.followers = {
            id: self.followers.get(id) or Follower(id, now if id in self.isr.committed else -inf) for id in others
        }
        self._isr_is(self.isr)

    def _isr_is(self, isr: Isr) -> None:
        """Take it for the ISR, and draw the conclusions that are asked for at every append and every fetch.

        `effective_min_insync` is as `PartitionImage.required_in_sync`: replicas that are only being added are not asked
        for yet (KIP-455). `under_min_isr`: whether nothing may be committed. It also must not while the controller has
        eligible leaders besides the ISR (KIP-966), whatever this node takes min.insync.replicas for: they would lack
        it, and may be elected. `maximal` is that of the ISR, `awaits_others` whether there are followers outside of it.
        """
        self.isr = isr
        self.maximal = isr.maximal
        self.awaits_others = not self.maximal.issuperset(self.followers)
        self.effective_min_insync = min(self._min_insync, self._counted_replicas)
        self.under_min_isr = self._others_eligible or len(isr.committed) < self.effective_min_insync

    @property
    def min_insync(self) -> int:
        return self._min_insync

    @min_insync.setter
    def min_insync(self, min_insync: int) -> None:
        self._min_insync = min_insync
        self._isr_is(self.isr)

    def update(self, image: PartitionImage, now: float) -> bool:
        """Take over the partition's state from the metadata; False when it is not news (KIP-497).

        Whatever was pending is void then: the controller decides on the partition epoch, and that has moved.
        """
        if image.partition_epoch <= self.partition_epoch:
            return False
        self.proposal = None
        self._become(image, now)
        return True

    # Log and high watermark

    def appended(self, log_end: int, now: float) -> None:
        """The leader's log has grown. Whoever had all of it was caught up until now, however long ago it said so."""
        for follower in self.followers.values():
            if follower.end_offset >= self.log_end:
                follower.caught_up_at = now
        self.log_end = log_end

    def is_beyond(self, offset: int, now: float) -> bool:
        """Whether `offset`, which is above the end of the log, is surely one that nobody has.

        A leader that has been replaced does not know it at first. What is out of range for it, its successor may have
        acknowledged, and whoever takes its word for it begins anew. So it has to be certain that at the moment when it
        was asked it had no successor: whoever may be elected has fetched here since. Ask again until it is.
        """
        electable = self.maximal | self._elr
        others = [follower for follower in self.followers.values() if follower.id in electable]
        if not others:
            return True
        asked_at = self._beyond.get(offset)
        if asked_at is None or now - asked_at > BEYOND_S:
            if len(self._beyond) >= MAX_BEYOND:
                self._beyond.clear()
            self._beyond[offset] = now
            return False
        if any(follower.fetched_at <= asked_at for follower in others):
            return False
        del self._beyond[offset]
        return True

    def advance(self, eligible: Mapping[int, int], now: float) -> bool:
        """Move the high watermark to the smallest end offset among the maximal ISR; True when it moved.

        It also waits for followers that have caught up and may soon join, or else they could never reach it under
        load. It stands still below min.insync.replicas (KIP-966), so that nothing is shown to consumers which fewer
        replicas than promised hold. It never goes back. `eligible` maps the brokers that may be in an ISR to
        their epochs; neither that nor `now` matters unless it `awaits_others`.
        """
        end = self.durable_end
        if end <= self.high_watermark or self.under_min_isr:
            return False
        maximal = self.maximal
        for follower in self.followers.values():
            if follower.end_offset < end and (follower.id in maximal or self._joining(follower, eligible, now)):
                end = follower.end_offset
        if end <= self.high_watermark:
            return False
        self.high_watermark = end
        return True

    def low_watermark(self, log_start: int, alive: Mapping[int, int]) -> int:
        """The smallest log start among this leader, whose own is `log_start`, and its followers on live brokers; of one
        that has not fetched in this epoch nothing is known yet (KIP-107)."""
        return min((log_start, *(each.log_start for each in self.followers.values() if each.id in alive)))

    def _joining(self, follower: Follower, eligible: Mapping[int, int], now: float) -> bool:
        return self._may_join(follower, eligible) and now - follower.caught_up_at <= self.max_lag_s

    @staticmethod
    def _may_join(follower: Follower, eligible: Mapping[int, int]) -> bool:
        """KIP-903: only the incarnation that the controller knows may be counted, and only when unfenced."""
        return follower.broker_epoch != UNKNOWN and eligible.get(follower.id) == follower.broker_epoch

    # ISR

    def expand(self, follower: Follower, eligible: Mapping[int, int]) -> IsrProposal | None:
        """Propose a follower that has everything committed and everything from before this epoch."""
        if (
            self.proposal is not None
            or follower.id in self.maximal
            or follower.end_offset < max(self.high_watermark, self.start_offset)
            or not self._may_join(follower, eligible)
        ):
            return None
        return self._propose(PendingExpand(self.isr.committed, follower.id), eligible)

    def expand_again(self, eligible: Mapping[int, int], now: float) -> IsrProposal | None:
        """`expand` for whoever has lately shown that it is caught up, once what stood in its way (a fence, another
        proposal, an election among the controllers) may be gone: its next fetch can be a whole long poll away.

        Not for one that lags: it would be put back at the very moment that it is dropped.
        """
        for follower in self.followers.values():
            if now - follower.caught_up_at <= self.max_lag_s:
                proposal = self.expand(follower, eligible)
                if proposal is not None:
                    return proposal
        return None

    def shrink(self, eligible: Mapping[int, int], now: float) -> IsrProposal | None:
        """Propose to drop the members that have not been caught up for longer than replica.lag.time.max.ms."""
        if self.proposal is not None:
            return None
        lagging = frozenset(id for id in self.isr.committed if id != self.node_id and self._lags(id, now))
        if not lagging:
            return None
        return self._propose(PendingShrink(self.isr.committed, lagging), eligible)

    def _lags(self, id: int, now: float) -> bool:
        follower = self.followers.get(id)
        if follower is None:
            return True
        return follower.end_offset < self.log_end and now - follower.caught_up_at > self.max_lag_s

    def _propose(self, isr: PendingExpand | PendingShrink, eligible: Mapping[int, int]) -> IsrProposal:
        """A member that has not fetched in this epoch goes by the broker epoch of the metadata: had it restarted since,
        it would have left the ISR, and the partition epoch of this proposal would be of the past."""
        members = []
        for id in sorted(isr.target):
            follower = self.followers.get(id)
            seen = UNKNOWN if follower is None else follower.broker_epoch
            members.append((id, seen if seen != UNKNOWN else eligible.get(id, UNKNOWN)))
        self._isr_is(isr)
        self.proposal = IsrProposal(self.leader_epoch, self.partition_epoch, tuple(members))
        return self.proposal

    def answered(self, proposal: IsrProposal, error: ErrorCode) -> Outcome:
        """The controller's answer to `proposal`.

        That it is committed changes nothing here: what holds is what the metadata say, all together. The ISR alone,
        without the configs, the replicas and the eligible leaders that it was decided with, could let the high
        watermark pass somebody who may be elected.
        """
        if proposal is not self.proposal:
            return Outcome.STALE
        if error is ErrorCode.none:
            return Outcome.COMMITTED
        if error in _REFUSED:
            self._isr_is(Committed(self.isr.committed))
            self.proposal = None
            return Outcome.REVERTED
        return Outcome.AWAIT_METADATA if error in _BEHIND else Outcome.RETRY

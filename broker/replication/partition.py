"""One partition's replica on this broker: its log, its role, and who waits for it.

The decisions are in the pure machines (`leader.py`, `follower.py`); this class carries them out on the log and tells
the waiters. Everything here runs on the event loop and never awaits, so each method is one step in a total order: a
waiter belongs to one leader epoch, and a role cannot change between looking and answering.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Literal
from uuid import UUID

import structlog
from kio.schema.errors import ErrorCode

from ottla.broker.replication.config import TopicSettings
from ottla.broker.replication.fetch_wait import Unwatch, Watcher, Watchers
from ottla.broker.replication.follower import FollowerState
from ottla.broker.replication.host import PartitionHost
from ottla.broker.replication.leader import IsrProposal, LeaderState, Outcome
from ottla.broker.replication.produce_wait import AckQueue, ProduceWait
from ottla.broker.replication.throttle import Throttle, is_throttled
from ottla.controller import PartitionImage
from ottla.log import DiskError, LogError, PartitionLog, Truncated

log = structlog.get_logger(__name__)

NO_EPOCH = -1
Acks = Literal[-1, 0, 1]
NOBODY: Mapping[int, int] = {}


class Partition:
    """`log` is None only when it could not be opened. `failure` is why the log cannot be used any more, if so."""

    def __init__(
        self,
        host: PartitionHost,
        topic: str,
        topic_id: UUID,
        index: int,
        log: PartitionLog | None,
        *,
        high_watermark: int = 0,
        min_insync: int = 1,
    ) -> None:
        self.host = host
        self.topic = topic
        self.topic_id = topic_id
        self.index = index
        self.log = log
        self.min_insync = min_insync
        self.failure: Exception | None = None
        self.image: PartitionImage | None = None
        if log is not None:
            # The checkpoint may be of before a truncation, or of before the log start moved.
            high_watermark = min(max(high_watermark, log.log_start_offset), log.log_end_offset)
        self.role: LeaderState | FollowerState = FollowerState(-1, NO_EPOCH, high_watermark)
        self.watchers = Watchers()
        self.commit_acks = AckQueue()
        self.durable_acks = AckQueue()
        self.start_acks = AckQueue()
        self.retired = False
        self.throttled_as_leader = False
        self.throttled_as_follower = False
        self.fetch_throttle: Throttle | None = None
        self._syncing = False

    def __repr__(self) -> str:
        return f"<Partition {self.topic}-{self.index}>"

    # What others may ask

    @property
    def is_leader(self) -> bool:
        return isinstance(self.role, LeaderState)

    @property
    def leader_id(self) -> int:
        return self.host.node_id if isinstance(self.role, LeaderState) else self.role.leader_id

    @property
    def leader_epoch(self) -> int:
        return self.role.leader_epoch

    @property
    def high_watermark(self) -> int:
        return self.role.high_watermark

    @property
    def last_stable_offset(self) -> int:
        """Below it every transaction is decided, and its marker committed: the end for who reads only that (KIP-98)."""
        high_watermark, held = self.role.high_watermark, self.log
        if held is None or not held.producers.transactions.unsettled:
            return high_watermark
        unstable = held.first_unstable_offset(high_watermark)
        return high_watermark if unstable is None or unstable > high_watermark else unstable

    @property
    def log_start_offset(self) -> int:
        return -1 if self.log is None else self.log.log_start_offset

    @property
    def log_end_offset(self) -> int:
        return -1 if self.log is None else self.log.log_end_offset

    @property
    def offset_lag(self) -> int:
        """Offsets that are missing here up to the high watermark, as far as its leader has told it."""
        role = self.role
        told = role.high_watermark if isinstance(role, LeaderState) else role.leader_high_watermark
        return max(0, told - self.log_end_offset)

    @property
    def settled(self) -> bool:
        """As leader: the high watermark has reached the start of this epoch, so it is not older than what an earlier
        leader showed (before that, ListOffsets answers OFFSET_NOT_AVAILABLE, KIP-207)."""
        return isinstance(self.role, LeaderState) and self.role.high_watermark >= self.role.start_offset

    @property
    def in_isr(self) -> bool:
        """As follower: a member of the ISR of somebody who leads, as far as this broker's metadata tell."""
        return self.image is not None and self.image.leader >= 0 and self.host.node_id in self.image.isr

    def check_epoch(self, current_leader_epoch: int) -> ErrorCode:
        """Whether a request that believes in `current_leader_epoch` (-1: does not say) may be looked at (KIP-320)."""
        if self.failure is not None:
            return ErrorCode.kafka_storage_error
        if current_leader_epoch != NO_EPOCH and current_leader_epoch != self.role.leader_epoch:
            older = current_leader_epoch < self.role.leader_epoch
            return ErrorCode.fenced_leader_epoch if older else ErrorCode.unknown_leader_epoch
        return ErrorCode.none

    def check_leader(self, current_leader_epoch: int = NO_EPOCH) -> ErrorCode:
        """Whether such a request may be served here by the leader alone."""
        role = self.role
        agrees = current_leader_epoch == NO_EPOCH or current_leader_epoch == role.leader_epoch
        if agrees and self.failure is None and isinstance(role, LeaderState):
            return ErrorCode.none
        error = self.check_epoch(current_leader_epoch)
        return error if error is not ErrorCode.none else ErrorCode.not_leader_or_follower

    def throttle_for(self, replica_id: int) -> Throttle | None:
        """What limits that which this leader sends to a follower: nothing, once that is in the ISR."""
        image = self.image
        if not self.throttled_as_leader or image is None or replica_id in image.isr:
            return None
        return self.host.leader_throttle

    def _find_fetch_throttle(self) -> None:
        """What limits that which this follower fetches, on the same condition."""
        image, own = self.image, self.host.node_id
        self.fetch_throttle = None
        if image is not None and own not in image.isr:
            if self.throttled_as_follower:
                self.fetch_throttle = self.host.follower_throttle
            elif image.automatic and own in image.adding:
                self.fetch_throttle = self.host.repair_throttle

    def watch(self, watcher: Watcher, *, follower: bool = False, committed_only: bool = False) -> Unwatch:
        """Call `watcher` with the number of bytes that became readable (to consumers: below the high watermark, or the
        last stable offset if `committed_only`; to followers: appended), or with WAKE when a fetch of this partition
        should be answered now. Returns how to stop."""
        return self.watchers.add(watcher, follower=follower, committed_only=committed_only)

    # Roles

    def become_leader(self, image: PartitionImage) -> None:
        """Lead from the log's end on. Nothing is truncated, and the high watermark stays the last one known.

        Who leads on in the very next epoch (a replica was dropped) goes on with what producers wait for: nobody else
        has led in between, and the log stays what it is.
        """
        leads_on = isinstance(self.role, LeaderState) and image.leader_epoch == self.role.leader_epoch + 1
        held = self._log()
        held.assign_epoch(image.leader_epoch)
        end = held.log_end_offset
        role = LeaderState(
            node_id=self.host.node_id,
            image=image,
            log_end=end,
            durable_end=min(end, held.recovery_point) if held.synced else end,
            high_watermark=self.high_watermark,
            min_insync=self.min_insync,
            max_lag_s=self.host.max_lag_s,
            now=self.host.now(),
        )
        self._change_role(role, image, keep_acks=leads_on)
        log.info("became_leader", **self._names(), log_end_offset=end, high_watermark=role.high_watermark)
        self.sync()
        self.advance()
        if role.under_min_isr:
            self.commit_acks.fail(ErrorCode.not_enough_replicas_after_append)

    def become_follower(self, image: PartitionImage) -> None:
        """Follow. The log is cut only where the leader shows that it diverges, not at the high watermark (KIP-101)."""
        self._change_role(FollowerState(image.leader, image.leader_epoch, self.high_watermark), image)
        log.info("became_follower", **self._names(), leader=image.leader, high_watermark=self.high_watermark)

    def _change_role(
        self, role: LeaderState | FollowerState, image: PartitionImage, *, keep_acks: bool = False
    ) -> None:
        self.role = role
        self.image = image
        self._find_fetch_throttle()
        if keep_acks:
            self.watchers.changed()
        else:
            self.end_waits(ErrorCode.not_leader_or_follower)

    def update_isr(self, image: PartitionImage) -> None:
        """The same leader epoch, with another ISR or other replicas."""
        was_in = self.in_isr
        self.image = image
        self._find_fetch_throttle()
        if not isinstance(self.role, LeaderState):
            if was_in and not self.in_isr:
                # Consumers wait here for what may be long in coming (KIP-392).
                self.watchers.changed()
        else:
            before = self.role.isr.committed
            if self.role.update(image, self.host.now()):
                self._isr_changed(before)

    def configure(self, settings: TopicSettings) -> None:
        """The topic's configs are these."""
        self.min_insync = settings.min_insync_replicas
        self.throttled_as_leader, self.throttled_as_follower = (
            is_throttled(names, self.index, self.host.node_id)
            for names in (settings.leader_throttled_replicas, settings.follower_throttled_replicas)
        )
        self._find_fetch_throttle()
        held, role = self._log(), self.role
        held.config = settings.log
        if isinstance(role, LeaderState):
            role.min_insync = self.min_insync
            if not held.synced:
                role.durable_end = role.log_end
                self.durable_acks.release(role.durable_end)
            self.advance()

    def retire(self) -> None:
        """This broker holds the partition no longer."""
        self.retired = True
        self.role = FollowerState(-1, self.role.leader_epoch, self.role.high_watermark)
        self.end_waits(ErrorCode.not_leader_or_follower)

    def end_waits(self, error: ErrorCode) -> None:
        """Whoever waits was promised that this replica leads on."""
        self.commit_acks.fail(error)
        self.durable_acks.fail(error)
        self.start_acks.fail(error)
        self.watchers.changed()

    def fail(self, error: Exception) -> None:
        """The log can no longer be trusted: answer KAFKA_STORAGE_ERROR from now on."""
        if self.failure is not None:
            return
        self.failure = error
        log.error("log_offline", **self._names(), error=repr(error))
        self.end_waits(ErrorCode.kafka_storage_error)
        self.host.storage_failed(self, error)

    def _log(self) -> PartitionLog:
        if self.log is None:
            raise AssertionError(f"{self!r} has no log, and is used")
        return self.log

    # High watermark and acknowledgement

    def release_starts(self) -> None:
        """A follower's log start, or who is alive, has changed: whoever deleted records may be done."""
        role = self.role
        if self.start_acks.waiters and isinstance(role, LeaderState):
            self.start_acks.release(role.low_watermark(self.log_start_offset, self.host.eligible()))

    def advance(self) -> None:
        """Move the high watermark if the followers allow it, and tell everybody who waits for that."""
        role = self.role
        if not isinstance(role, LeaderState) or role.durable_end <= role.high_watermark:
            return
        host = self.host
        if role.advance(host.eligible(), host.now()) if role.awaits_others else role.advance(NOBODY, 0.0):
            high_watermark, held = role.high_watermark, self.log
            self.commit_acks.release(high_watermark)
            apart = held is not None and held.producers.transactions.unsettled
            self.watchers.committed(high_watermark, self.last_stable_offset if apart else high_watermark)

    def acknowledge(self, end_offset: int, acks: Acks, wait: ProduceWait, slot: int) -> bool:
        """Let `wait` wait for what `acks` asks for a batch that ends before `end_offset`, unless it is there already;
        whether it has to.

        To be called in the same step as the append, so that the leader epoch is that of the append.
        """
        role = self.role
        if acks == 0:
            return False
        if not isinstance(role, LeaderState):
            wait.expect(slot)
            wait.settle(slot, ErrorCode.not_leader_or_follower)
        elif acks == -1:
            if role.high_watermark < end_offset:
                self.commit_acks.push(end_offset, wait, slot)
                return True
        elif role.durable_end < end_offset:
            self.durable_acks.push(end_offset, wait, slot)
            return True
        return False

    def appended(self, size: int) -> None:
        """The leader's log has grown by a batch of `size` bytes."""
        role, held = self.role, self.log
        assert isinstance(role, LeaderState) and held is not None
        role.appended(held.log_end_offset, self.host.now())
        if held.synced:
            self.sync()
        else:
            role.durable_end = role.log_end
        self.watchers.appended(role.log_end, size)
        self.advance()

    def sync(self) -> None:
        """Have the log synced to its end, one sync at a time (flush "synced"); what comes meanwhile joins the next."""
        role, held = self.role, self._log()
        if self._syncing or not isinstance(role, LeaderState) or role.durable_end >= role.log_end:
            return
        self._syncing = True
        self.host.group.synced(held, role.log_end).add_done_callback(self._synced)

    def _synced(self, done: asyncio.Future[None]) -> None:
        self._syncing = False
        role, held = self.role, self._log()
        error = None if done.cancelled() else done.exception()
        if self.retired or self.failure is not None:
            return
        if error is not None and not isinstance(error, Truncated):
            if not isinstance(error, DiskError | LogError):
                raise error
            self.fail(error)
            return
        if not isinstance(role, LeaderState):
            return
        role.durable_end = min(max(role.durable_end, held.recovery_point), role.log_end)
        self.durable_acks.release(role.durable_end)
        self.advance()
        self.sync()

    # ISR

    def shrink_isr(self) -> None:
        """Propose to drop replicas that have lagged too long; to be called now and then."""
        role = self.role
        if isinstance(role, LeaderState) and self.failure is None:
            proposal = role.shrink(self.host.eligible(), self.host.now())
            if proposal is not None:
                self.propose(proposal)

    def expand_isr(self) -> None:
        """Propose a replica that may have been kept out by what has changed: the ISR, or which brokers are unfenced."""
        role = self.role
        if isinstance(role, LeaderState) and self.failure is None:
            proposal = role.expand_again(self.host.eligible(), self.host.now())
            if proposal is not None:
                self.propose(proposal)

    def propose(self, proposal: IsrProposal) -> None:
        log.info("isr_change_proposed", **self._names(), isr=[id for id, _ in proposal.members])
        self.host.propose(self, proposal)

    def still_proposes(self, proposal: IsrProposal) -> bool:
        return isinstance(self.role, LeaderState) and self.role.proposal is proposal

    def isr_answered(self, proposal: IsrProposal, error: ErrorCode) -> Outcome:
        """The controller's answer to `proposal`; RETRY asks for sending it again."""
        role = self.role
        if not isinstance(role, LeaderState):
            return Outcome.STALE
        outcome = role.answered(proposal, error)
        if outcome is Outcome.REVERTED:
            self.advance()
        if outcome not in (Outcome.STALE, Outcome.COMMITTED):
            log.info("isr_change_not_made", **self._names(), error=error.name, outcome=outcome.value)
        return outcome

    def _isr_changed(self, before: frozenset[int]) -> None:
        role = self.role
        assert isinstance(role, LeaderState)
        if role.isr.committed != before:
            log.info("isr_changed", **self._names(), isr=sorted(role.isr.committed), was=sorted(before))
        self.advance()
        if role.under_min_isr:
            self.commit_acks.fail(ErrorCode.not_enough_replicas_after_append)
        self.expand_isr()

    def _names(self) -> dict[str, object]:
        return {"topic": self.topic, "partition": self.index, "leader_epoch": self.role.leader_epoch}

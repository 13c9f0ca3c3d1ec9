"""The next state of one partition: its leader, ISR and ELR (KIP-966), and how far a reassignment has come (KIP-455).

A change of leader raises the leader epoch; every change raises the partition epoch. A shrinking ISR alone does not
raise the leader epoch: the leader goes on undisturbed (KIP-497, KAFKA-15021). Dropping a replica does: a fetch that it
sent before its log was deleted must not count for the log that it begins when it becomes a replica again.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from ottla.controller.metadata.image import NO_LEADER, PartitionImage, TopicImage
from ottla.controller.metadata.records import PartitionChanged

Eligible = Callable[[int], bool]


@dataclass(frozen=True, slots=True)
class Assignment:
    """The replicas of a partition, and the reassignment that is under way; see `PartitionImage`."""

    replicas: tuple[int, ...]
    adding: tuple[int, ...] = ()
    removing: tuple[int, ...] = ()
    automatic: bool = False

    @classmethod
    def of(cls, state: PartitionImage) -> "Assignment":
        return cls(state.replicas, state.adding, state.removing, state.automatic)

    def settled(self, isr: Collection[int]) -> "Assignment":
        """This, or what is left of it when all wanted replicas are in the ISR: then the reassignment is complete.

        All of them, and not only the new ones: or else the one that goes may be the last but one that has everything.
        """
        target = tuple(replica for replica in self.replicas if replica not in self.removing)
        return Assignment(target) if (self.adding or self.removing) and set(target) <= set(isr) else self


def change_partition(
    topic: TopicImage,
    partition: int,
    *,
    isr: Collection[int],
    elr: Collection[int],
    eligible: Eligible,
    unclean: bool = False,
    prefer_first: bool = False,
    assignment: Assignment | None = None,
    most_complete: int = NO_LEADER,
) -> PartitionChanged | None:
    """The partition with this ISR, this ELR and the best leader in them, or None when that is what it has.

    The present leader stays while it is eligible, unless `prefer_first`. Without an eligible member of the ISR, one of
    the ELR begins a new ISR, and those before remain eligible; where both are empty, `most_complete`. Without that
    either it becomes NO_LEADER, or with `unclean` any eligible replica, which then is the whole ISR.

    `assignment` None is the present one. A reassignment is completed in the same step when the ISR allows it.
    """
    state = topic.partitions[partition]
    plan = (Assignment.of(state) if assignment is None else assignment).settled(isr)
    isr = tuple(replica for replica in plan.replicas if replica in isr)
    elr = tuple(replica for replica in plan.replicas if replica in elr and replica not in isr)
    last = NO_LEADER if isr else _last_known(state, plan)
    leader = _choose(state, isr, eligible, prefer_first)
    if leader == NO_LEADER:
        leader = next((replica for replica in elr if eligible(replica)), NO_LEADER)
        if leader != NO_LEADER:
            complete = {*isr, *elr} - {leader}
            isr, elr = (leader,), tuple(replica for replica in plan.replicas if replica in complete)
    if leader == NO_LEADER and not isr and most_complete in plan.replicas:
        leader, isr = most_complete, (most_complete,)
    if leader == NO_LEADER and unclean:
        leader = next((replica for replica in _by_age(plan) if eligible(replica)), NO_LEADER)
        if leader != NO_LEADER:
            isr, elr = (leader,), ()
    change = PartitionChanged(
        topic_id=topic.id,
        partition=partition,
        isr=None if isr == state.isr else isr,
        leader=leader,
        leader_epoch=state.leader_epoch + (leader != state.leader or not set(state.replicas) <= set(plan.replicas)),
        partition_epoch=state.partition_epoch + 1,
        elr=elr,
        last_known_leader=NO_LEADER if isr else last,
        replicas=None if plan.replicas == state.replicas else plan.replicas,
        adding=plan.adding,
        removing=plan.removing,
        automatic=plan.automatic,
    )
    return None if _as_before(state, plan, change) else change


def _as_before(state: PartitionImage, plan: Assignment, change: PartitionChanged) -> bool:
    return change.isr is None and (state.leader, state.elr, state.last_known_leader, Assignment.of(state)) == (
        change.leader,
        change.elr,
        change.last_known_leader,
        plan,
    )


def _choose(state: PartitionImage, isr: tuple[int, ...], eligible: Eligible, prefer_first: bool) -> int:
    if not prefer_first and state.leader in isr and eligible(state.leader):
        return state.leader
    return next((replica for replica in isr if eligible(replica)), NO_LEADER)


def _last_known(state: PartitionImage, plan: Assignment) -> int:
    """Who led, or could have, when the ISR had its last member."""
    last = state.leader if state.leader in state.isr else next(iter(state.isr), state.last_known_leader)
    return last if last in plan.replicas else NO_LEADER


def _by_age(plan: Assignment) -> tuple[int, ...]:
    """Those first that were replicas before: who is being added may have nothing yet."""
    return (*(replica for replica in plan.replicas if replica not in plan.adding), *plan.adding)


def eligible_leaders(
    state: PartitionImage, isr: Collection[int], minimum: int, lost: Collection[int] = ()
) -> tuple[int, ...]:
    """The ELR that a partition has once this is its ISR: who had every committed record when the ISR fell below the
    minimum. With enough members something may be committed at any time, and then only they are sure to have it.
    `lost` are replicas that may have lost records since.
    """
    if len(isr) >= state.required_in_sync(minimum):
        return ()
    complete = {*state.isr, *state.elr}.difference(lost, isr)
    return tuple(replica for replica in state.replicas if replica in complete)

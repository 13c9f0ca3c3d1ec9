"""Who leads a partition: from its ISR in order of preference, then from the eligible leader replicas (KIP-966), where
both are empty whoever has the most, and outside of that only where the topic asks for it.
"""

from collections.abc import Collection, Iterable
from types import MappingProxyType
from typing import Final

from kio.schema.errors import ErrorCode

from ottla.controller.metadata.decision import Decision, Policy
from ottla.controller.metadata.image import NO_LEADER, MetadataImage, PartitionImage
from ottla.controller.metadata.partition_change import Eligible, change_partition, eligible_leaders
from ottla.controller.metadata.records import PartitionChanged
from ottla.controller.metadata.recovery import Reports, most_complete
from ottla.controller.rpc.models.partitions import ElectLeaders, ElectLeadersResponse, PartitionResult

# As many partitions are moved in one pass of the rebalance, so that no entry grows without bound.
MAX_REBALANCE = 1000
NO_REPORTS: Final[Reports] = MappingProxyType({})


def take_out(
    image: MetadataImage, policy: Policy, away: Collection[int], *, lost: Collection[int] = ()
) -> list[PartitionChanged]:
    """The brokers `away` leave every ISR that has another member, and lead nothing any more.

    `lost` are those of them that may have lost records: they are not eligible leaders any more (KIP-966). The last
    member of an ISR stays, for it is the one that has all acknowledged records; if it may have lost some, an eligible
    leader takes its place, where there is one, and otherwise it is remembered as the last known leader.
    """
    gone = frozenset(away)

    def eligible(broker_id: int) -> bool:
        return broker_id not in gone and image.eligible(broker_id)

    changes = []
    for topic in image.topics.values():
        known: tuple[bool, int] | None = None
        for partition, state in topic.partitions.items():
            if gone.isdisjoint(state.isr) and set(state.elr).isdisjoint(lost):
                continue
            if known is None:
                known = policy.unclean(image, topic.name), policy.min_insync(image, topic.name)
            unclean, minimum = known
            isr = tuple(replica for replica in state.isr if replica not in gone) or _last(state, eligible, lost)
            elr = eligible_leaders(state, isr, minimum, lost)
            change = change_partition(topic, partition, isr=isr, elr=elr, eligible=eligible, unclean=unclean)
            if change is not None:
                changes.append(change)
    return changes


def _last(state: PartitionImage, eligible: Eligible, lost: Collection[int]) -> tuple[int, ...]:
    """Who stands for an ISR of which all members are away; nobody, if each of them may have lost records."""
    whole = [replica for replica in state.isr if replica not in lost]
    if not whole:
        whole = sorted((replica for replica in state.elr if replica not in lost), key=eligible, reverse=True)
    return (state.leader,) if state.leader in whole else tuple(whole[:1])


def elect_leaderless(
    image: MetadataImage,
    policy: Policy,
    *,
    returned: int | None = None,
    topics: Iterable[str] | None = None,
    reports: Reports = NO_REPORTS,
) -> list[PartitionChanged]:
    """Leaders for partitions that have none and can have one, of these topics (None: all).

    `returned` is a broker that counts as eligible already, though the image does not show it yet. `reports` are what
    replicas have told of their logs.
    """

    def eligible(broker_id: int) -> bool:
        return broker_id == returned or image.eligible(broker_id)

    changes = []
    for name in image.topics if topics is None else topics:
        topic = image.topics[name]
        for partition, state in topic.partitions.items():
            if state.leader != NO_LEADER:
                continue
            unclean = policy.unclean(image, name)
            elr = eligible_leaders(state, state.isr, policy.min_insync(image, name)) if state.elr else ()
            change = change_partition(
                topic,
                partition,
                isr=state.isr,
                elr=elr,
                eligible=eligible,
                unclean=unclean,
                most_complete=most_complete(image, state, reports.get((topic.id, partition)), eligible),
            )
            if change is not None:
                changes.append(change)
    return changes


def forget_eligible(image: MetadataImage, policy: Policy) -> list[PartitionChanged]:
    """Partitions with an ELR whose ISR suffices now that fewer in-sync replicas are asked for: it commits again."""
    changes = []
    for topic, partition, state in image.all_partitions():
        if state.elr and not eligible_leaders(state, state.isr, policy.min_insync(image, topic.name)):
            change = change_partition(topic, partition, isr=state.isr, elr=(), eligible=image.eligible)
            if change is not None:
                changes.append(change)
    return changes


def rebalance(image: MetadataImage) -> list[PartitionChanged]:
    """Preferred leaders back in their place where they are in sync; at most MAX_REBALANCE partitions."""
    changes: list[PartitionChanged] = []
    for topic, partition, state in image.all_partitions():
        if _preferred_waits(image, state):
            change = change_partition(
                topic, partition, isr=state.isr, elr=state.elr, eligible=image.eligible, prefer_first=True
            )
            if change is not None:
                changes.append(change)
                if len(changes) == MAX_REBALANCE:
                    break
    return changes


def _preferred_waits(image: MetadataImage, state: PartitionImage) -> bool:
    preferred = state.replicas[0]
    return state.leader != preferred and preferred in state.isr and image.eligible(preferred)


def elect_leaders(image: MetadataImage, request: ElectLeaders) -> Decision[ElectLeadersResponse]:
    """KIP-460. Answers per partition UNKNOWN_TOPIC_OR_PARTITION, ELECTION_NOT_NEEDED, PREFERRED_LEADER_NOT_AVAILABLE
    or ELIGIBLE_LEADERS_NOT_AVAILABLE."""
    if request.partitions is None:
        asked = [(topic.name, partition) for topic, partition, _ in image.all_partitions()]
    else:
        asked = list(dict.fromkeys((item.topic, item.partition) for item in request.partitions))
    changes = []
    results = []
    for name, partition in asked:
        outcome = _elect_one(image, name, partition, request.election == "unclean")
        if isinstance(outcome, PartitionChanged):
            changes.append(outcome)
            results.append(PartitionResult(topic=name, partition=partition))
        elif request.partitions is not None or outcome is not ErrorCode.election_not_needed:
            results.append(PartitionResult(topic=name, partition=partition, error=outcome.value))
    return Decision(tuple(changes), ElectLeadersResponse(results=tuple(results)))


def _elect_one(image: MetadataImage, name: str, partition: int, unclean: bool) -> PartitionChanged | ErrorCode:
    state = image.partition(name, partition)
    if state is None:
        return ErrorCode.unknown_topic_or_partition
    topic = image.topics[name]
    if unclean:
        if state.leader != NO_LEADER:
            return ErrorCode.election_not_needed
        change = change_partition(topic, partition, isr=state.isr, elr=state.elr, eligible=image.eligible, unclean=True)
        return change or ErrorCode.eligible_leaders_not_available
    if state.leader == state.replicas[0]:
        return ErrorCode.election_not_needed
    if not _preferred_waits(image, state):
        return ErrorCode.preferred_leader_not_available
    change = change_partition(
        topic, partition, isr=state.isr, elr=state.elr, eligible=image.eligible, prefer_first=True
    )
    return change or ErrorCode.preferred_leader_not_available

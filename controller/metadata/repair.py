"""Automatic repair: replicas of brokers that have been gone for long are rebuilt on others, a few partitions at a time.

Each repair is a reassignment like any other, marked as automatic: the gone broker stays a replica until the new one is
in sync. If it is back and in sync before that, the repair is called off, and nothing has moved.
"""

from collections.abc import Collection, Iterator

from ottla.controller.metadata.balance import plan_evacuation
from ottla.controller.metadata.decision import Policy, Refusal
from ottla.controller.metadata.image import NO_LEADER, MetadataImage, PartitionImage
from ottla.controller.metadata.layout import Key, Site
from ottla.controller.metadata.reassignment import cancel, reassign
from ottla.controller.metadata.records import PartitionChanged


def repair(image: MetadataImage, policy: Policy, gone: Collection[int], *, limit: int) -> list[PartitionChanged]:
    """What is to be done now for partitions with replicas on the brokers `gone` (those that are back do not count),
    with at most `limit` automatic reassignments under way afterwards.

    Partitions with the fewest in-sync replicas come first. One without a leader has nobody to copy from, and one that
    somebody else is reassigning is theirs to care for. Where no broker is left to put a replica on, nothing is done.
    """
    gone = frozenset(broker for broker in gone if not image.eligible(broker))
    changes = []
    under_way = 0
    for topic, partition, state in image.all_partitions():
        if not state.automatic:
            continue
        change = _called_off(image, policy, topic.name, partition, state)
        if change is not None:
            changes.append(change)
        else:
            under_way += 1
    called_off = {(image.topic_names[change.topic_id], change.partition) for change in changes}
    partitions = {(topic.name, partition): state.target for topic, partition, state in image.all_partitions()}
    wanted = sorted((_urgency(image, policy, key), key) for key in _damaged(image, gone) if key not in called_off)
    plan = plan_evacuation(sites(image), partitions, gone, (key for _, key in wanted))
    for key, replicas in plan.items():
        topic = image.topics[key[0]]
        state = topic.partitions[key[1]]
        if not state.automatic:
            if under_way >= limit:
                continue
            under_way += 1
        change = reassign(image, policy, topic, key[1], replicas, automatic=True)
        if change is not None:
            changes.append(change)
    return changes


def sites(image: MetadataImage) -> Iterator[Site]:
    """The brokers of the cluster as places for replicas."""
    return (Site(broker.id, broker.rack, image.placeable(broker.id)) for broker in image.brokers.values())


def _damaged(image: MetadataImage, gone: Collection[int]) -> Iterator[Key]:
    for topic, partition, state in image.all_partitions():
        ours = state.automatic or not state.reassigning
        if ours and state.leader != NO_LEADER and not set(gone).isdisjoint(state.target):
            yield topic.name, partition


def _urgency(image: MetadataImage, policy: Policy, key: Key) -> int:
    """In-sync replicas beyond those without which nothing is committed."""
    state = image.topics[key[0]].partitions[key[1]]
    return len(state.isr) - state.required_in_sync(policy.min_insync(image, key[0]))


def _called_off(
    image: MetadataImage, policy: Policy, topic: str, partition: int, state: PartitionImage
) -> PartitionChanged | None:
    """The end of a repair whose brokers are back: all that it would replace are in sync again."""
    if not set(state.original) <= set(state.isr):
        return None
    try:
        return cancel(image, policy, image.topics[topic], partition)
    except Refusal as refusal:  # the ISR has all of them
        raise AssertionError(f"{topic}-{partition} cannot go back to {state.original}: {refusal}") from refusal

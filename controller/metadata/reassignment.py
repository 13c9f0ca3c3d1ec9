"""AlterPartitionReassignments: other replicas for partitions, while they are read and written (KIP-455, KIP-860).

A reassignment first adds replicas and drops none. When all wanted ones are in the ISR it is complete, in the same entry
that puts the last of them there (`change_partition`): only then the others go, and with them their logs. So there are
never fewer in-sync replicas because of a reassignment than there would be without it.

Another target, or a cancellation, may come at any time. A replica that was being added for a target that is given up
goes at once if it has nothing to offer; if it is in the ISR it stays until the new target is complete.
"""

from collections import Counter

from kio.schema.errors import ErrorCode

from ottla.controller.metadata.decision import Decision, Policy, Refusal
from ottla.controller.metadata.image import NO_LEADER, MetadataImage, PartitionImage, TopicImage
from ottla.controller.metadata.partition_change import Assignment, change_partition, eligible_leaders
from ottla.controller.metadata.placement import Replicas, check_replicas
from ottla.controller.metadata.records import PartitionChanged
from ottla.controller.rpc.models.partitions import (
    AlterPartitionReassignments,
    AlterPartitionReassignmentsResponse,
    PartitionResult,
    Reassignment,
)


def alter_reassignments(
    image: MetadataImage, policy: Policy, request: AlterPartitionReassignments
) -> Decision[AlterPartitionReassignmentsResponse]:
    """Answers per partition UNKNOWN_TOPIC_OR_PARTITION, NO_REASSIGNMENT_IN_PROGRESS, INVALID_REPLICA_ASSIGNMENT,
    INVALID_REPLICATION_FACTOR, INVALID_REQUEST (named twice), and POLICY_VIOLATION as a whole."""
    text = policy.limits.request_error(len(request.partitions))
    if text is not None:
        return Decision((), AlterPartitionReassignmentsResponse(error=ErrorCode.policy_violation.value, message=text))
    asked = Counter((item.topic, item.partition) for item in request.partitions)
    changes = []
    results = []
    for item in request.partitions:
        code, message = ErrorCode.none, None
        try:
            if asked[item.topic, item.partition] > 1:
                raise Refusal(ErrorCode.invalid_request, "The partition was named more than once.")
            change = _alter_one(image, policy, item, request.allow_replication_factor_change)
        except Refusal as refusal:
            code, message = refusal.code, refusal.message
        else:
            if change is not None:
                changes.append(change)
        results.append(PartitionResult(topic=item.topic, partition=item.partition, error=code.value, message=message))
    return Decision(tuple(changes), AlterPartitionReassignmentsResponse(partitions=tuple(results)))


def _alter_one(
    image: MetadataImage, policy: Policy, item: Reassignment, allow_factor_change: bool
) -> PartitionChanged | None:
    topic = image.topics.get(item.topic)
    if topic is None:
        raise Refusal(ErrorCode.unknown_topic_or_partition, f"Unable to find a topic named {item.topic}.")
    state = topic.partitions.get(item.partition)
    if state is None:
        raise Refusal(ErrorCode.unknown_topic_or_partition, f"Unable to find partition {item.topic}:{item.partition}.")
    if item.replicas is None:
        return cancel(image, policy, topic, item.partition)
    check_replicas(image, item.replicas)
    before, after = len(state.target), len(item.replicas)
    if not allow_factor_change and before != after:
        raise Refusal(
            ErrorCode.invalid_replication_factor, f"The replication factor is changed from {before} to {after}"
        )
    return reassign(image, policy, topic, item.partition, item.replicas)


def reassign(
    image: MetadataImage,
    policy: Policy,
    topic: TopicImage,
    partition: int,
    target: Replicas,
    *,
    automatic: bool = False,
) -> PartitionChanged | None:
    """The partition on its way to these replicas, or there already if all of them are in the ISR."""
    state = topic.partitions[partition]
    elr = eligible_leaders(state, state.isr, policy.min_insync(image, topic.name)) if state.elr else ()
    return change_partition(
        topic,
        partition,
        isr=state.isr,
        elr=elr,
        eligible=image.eligible,
        assignment=_towards(state, target, automatic=automatic),
    )


def _towards(state: PartitionImage, target: Replicas, *, automatic: bool) -> Assignment:
    original = state.original
    has_something = {*state.isr, *state.elr, state.last_known_leader}
    replicas = (
        *target,
        *(replica for replica in original if replica not in target),
        *(replica for replica in state.adding if replica not in target and replica in has_something),
    )
    adding = tuple(replica for replica in replicas if replica not in original)
    removing = tuple(replica for replica in replicas if replica not in target)
    return Assignment(replicas, adding, removing, automatic and bool(adding or removing))


def cancel(image: MetadataImage, policy: Policy, topic: TopicImage, partition: int) -> PartitionChanged | None:
    """The partition with the replicas that it had when the reassignment began. Raises Refusal: where only new replicas
    have every committed record, going back would be an unclean election."""
    state = topic.partitions[partition]
    if not state.reassigning:
        raise Refusal(ErrorCode.no_reassignment_in_progress, "No partition reassignment is in progress.")
    original = state.original
    isr = tuple(replica for replica in state.isr if replica in original)
    elr = tuple(replica for replica in state.elr if replica in original)
    unclean = policy.unclean(image, topic.name)
    if not isr and elr:
        isr = (next((replica for replica in elr if image.eligible(replica)), elr[0]),)
    if not isr and state.last_known_leader not in original:
        if not unclean:
            raise Refusal(
                ErrorCode.invalid_replica_assignment,
                f"Unable to revert partition assignment for {topic.name}:{partition} because it would require an "
                "unclean leader election.",
            )
        isr = (next((replica for replica in original if image.eligible(replica)), original[0]),)
        elr = ()
    elif state.last_known_leader == NO_LEADER:
        elr = eligible_leaders(state, isr, policy.min_insync(image, topic.name))
    return change_partition(
        topic,
        partition,
        isr=isr,
        elr=elr,
        eligible=image.eligible,
        unclean=unclean,
        assignment=Assignment(original),
    )

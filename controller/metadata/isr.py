"""AlterPartition: a leader asks for another ISR, and the controller makes sure that it may have it.

The checks and their order are Kafka's (KIP-497, KIP-841, KIP-903): they keep a leader that has been replaced, or
that speaks of a replica's earlier life, from putting anybody into an ISR. An ISR in which all wanted replicas are
completes a reassignment (KIP-455), which may end the asker's leadership.
"""

from uuid import UUID

from kio.schema.errors import ErrorCode

from ottla.controller.metadata.brokers import knows_epoch
from ottla.controller.metadata.decision import Decision, Policy
from ottla.controller.metadata.image import MetadataImage, PartitionImage
from ottla.controller.metadata.partition_change import change_partition, eligible_leaders
from ottla.controller.metadata.records import PartitionChanged
from ottla.controller.rpc.models.partitions import (
    AlterPartition,
    AlterPartitionResponse,
    PartitionIsr,
    PartitionIsrResult,
)


def alter_partition(image: MetadataImage, policy: Policy, request: AlterPartition) -> Decision[AlterPartitionResponse]:
    """Answers STALE_BROKER_EPOCH as a whole, and per partition the codes of `_refusal`."""
    if not knows_epoch(image, request.node_id, request.broker_epoch):
        return Decision((), AlterPartitionResponse(error=ErrorCode.stale_broker_epoch.value))
    changes: list[PartitionChanged] = []
    results: list[PartitionIsrResult] = []
    seen: set[tuple[UUID, int]] = set()
    for wish in request.partitions:
        change, result = _alter_one(
            image, policy, request.node_id, wish, repeated=(wish.topic_id, wish.partition) in seen
        )
        seen.add((wish.topic_id, wish.partition))
        results.append(result)
        if change is not None:
            changes.append(change)
    return Decision(tuple(changes), AlterPartitionResponse(partitions=tuple(results)))


def _alter_one(
    image: MetadataImage, policy: Policy, node_id: int, wish: PartitionIsr, *, repeated: bool
) -> tuple[PartitionChanged | None, PartitionIsrResult]:
    topic = image.topic_by_id(wish.topic_id)
    state = None if topic is None else topic.partitions.get(wish.partition)
    if topic is None or state is None:
        code = ErrorCode.unknown_topic_id if topic is None else ErrorCode.unknown_topic_or_partition
        return None, PartitionIsrResult(topic_id=wish.topic_id, partition=wish.partition, error=code.value)
    refusal = ErrorCode.invalid_request if repeated else _refusal(image, state, node_id, wish)
    wanted = {member.id for member in wish.new_isr}
    if refusal is not None or wanted == set(state.isr):
        return None, _result(wish, state, state.isr, refusal or ErrorCode.none)
    change = change_partition(
        topic,
        wish.partition,
        isr=wanted,
        # Who leaves is still in the ISR until this is committed, so it has what was committed until then.
        elr=eligible_leaders(state, wanted, policy.min_insync(image, topic.name)),
        eligible=image.eligible,
    )
    assert change is not None
    return change, _result(wish, change, state.isr if change.isr is None else change.isr, ErrorCode.none)


def _result(
    wish: PartitionIsr, state: PartitionImage | PartitionChanged, isr: tuple[int, ...], code: ErrorCode
) -> PartitionIsrResult:
    return PartitionIsrResult(
        topic_id=wish.topic_id,
        partition=wish.partition,
        error=code.value,
        leader=state.leader,
        leader_epoch=state.leader_epoch,
        isr=isr,
        partition_epoch=state.partition_epoch,
    )


def _refusal(image: MetadataImage, state: PartitionImage, node_id: int, wish: PartitionIsr) -> ErrorCode | None:
    if wish.leader_epoch > state.leader_epoch or wish.partition_epoch > state.partition_epoch:
        # The leader has seen more of the metadata than this controller, which therefore is none any more.
        return ErrorCode.not_controller
    if wish.leader_epoch < state.leader_epoch:
        return ErrorCode.fenced_leader_epoch
    if node_id != state.leader:
        return ErrorCode.invalid_request
    if wish.partition_epoch < state.partition_epoch:
        return ErrorCode.invalid_update_version
    members = [member.id for member in wish.new_isr]
    if len(set(members)) != len(members) or not set(members) <= set(state.replicas) or state.leader not in members:
        return ErrorCode.invalid_request
    for member in wish.new_isr:
        if not image.eligible(member.id) or image.brokers[member.id].epoch != member.broker_epoch:
            return ErrorCode.ineligible_replica
    return None

"""CreateTopics and CreatePartitions: what may be made, and where its replicas go.

A topic with all its partitions and configs is in one entry: it is there wholly or not at all.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from kio.schema.errors import ErrorCode

from ottla.controller.metadata.configs import check_topic_configs
from ottla.controller.metadata.decision import Decision, Policy, Refusal
from ottla.controller.metadata.image import NO_LEADER, MetadataImage, TopicImage
from ottla.controller.metadata.limits import MAX_REPLICATION_FACTOR
from ottla.controller.metadata.placement import Replicas, check_replicas, placer_for
from ottla.controller.metadata.records import ConfigChanged, PartitionCreated, Record, TopicCreated
from ottla.controller.metadata.topic_name import metric_name, topic_name_error
from ottla.controller.rpc.models.topics import (
    CreatePartitions,
    CreatePartitionsResponse,
    CreateTopics,
    CreateTopicsResponse,
    MorePartitions,
    NewTopic,
    TopicResult,
)

if TYPE_CHECKING:
    from random import Random


def new_topic_id(rng: "Random") -> UUID:
    """A random UUID whose base64 form does not begin with '-', which command lines take for an option (KIP-516)."""
    return UUID(int=rng.getrandbits(127), version=4)


def create_topics(
    image: MetadataImage, policy: Policy, request: CreateTopics, rng: "Random"
) -> Decision[CreateTopicsResponse]:
    """Answers per topic INVALID_REQUEST (named twice), INVALID_TOPIC_EXCEPTION, TOPIC_ALREADY_EXISTS, INVALID_CONFIG,
    INVALID_PARTITIONS, INVALID_REPLICATION_FACTOR, INVALID_REPLICA_ASSIGNMENT, POLICY_VIOLATION."""
    asked = Counter(topic.name for topic in request.topics)
    wanted = sum(_partition_count(topic, policy) for topic in request.topics)
    metric_names = {metric_name(name): name for name in image.topics}
    records: list[Record] = []
    results: list[TopicResult] = []
    for topic in request.topics:
        try:
            if asked[topic.name] > 1:
                raise Refusal(ErrorCode.invalid_request, "Duplicate topic name.")
            _allow(policy.limits.request_error(wanted))
            _check_name(image, topic.name, metric_names)
            made, assignments = _create(image, policy, topic, rng)
        except Refusal as refusal:
            results.append(TopicResult(name=topic.name, error=refusal.code.value, message=refusal.message))
            continue
        metric_names[metric_name(topic.name)] = topic.name
        if not request.validate_only:
            records += made
        results.append(
            TopicResult(
                name=topic.name,
                topic_id=None if request.validate_only else made[0].id,
                partitions=len(assignments),
                replication_factor=len(assignments[0]),
            )
        )
    return Decision(tuple(records), CreateTopicsResponse(topics=tuple(results)))


def _partition_count(topic: NewTopic, policy: Policy) -> int:
    if topic.assignments:
        return len(topic.assignments)
    return policy.default_partitions if topic.partitions == -1 else max(topic.partitions, 0)


def _allow(*errors: str | None) -> None:
    """Raises Refusal(POLICY_VIOLATION) for the first of them."""
    for error in errors:
        if error is not None:
            raise Refusal(ErrorCode.policy_violation, error)


def _check_limits(policy: Policy, topic: NewTopic, partitions: int, factor: int) -> None:
    if not topic.internal:
        limits = policy.limits
        _allow(limits.partitions_error(topic.name, partitions), limits.replication_error(topic.name, factor))


def _check_name(image: MetadataImage, name: str, metric_names: dict[str, str]) -> None:
    error = topic_name_error(name)
    if error is not None:
        raise Refusal(ErrorCode.invalid_topic_exception, error)
    if name in image.topics:
        raise Refusal(ErrorCode.topic_already_exists, f"Topic '{name}' already exists.")
    other = metric_names.get(metric_name(name))
    if other is not None:
        raise Refusal(ErrorCode.invalid_topic_exception, f"Topic '{name}' collides with existing topic: {other}")


def _create(
    image: MetadataImage, policy: Policy, topic: NewTopic, rng: "Random"
) -> tuple[tuple[TopicCreated, *tuple[Record, ...]], Sequence[Replicas]]:
    configs = check_topic_configs(topic.configs)
    assignments = _assignments(image, policy, topic, rng)
    created = TopicCreated(id=new_topic_id(rng), name=topic.name, internal=topic.internal)
    records: list[Record] = [
        ConfigChanged(kind="topic", name=topic.name, key=key, value=value) for key, value in configs.items()
    ]
    records += (
        _new_partition(image, created.id, partition, replicas) for partition, replicas in enumerate(assignments)
    )
    return (created, *records), assignments


def _assignments(image: MetadataImage, policy: Policy, topic: NewTopic, rng: "Random") -> Sequence[Replicas]:
    if topic.assignments:
        if topic.replication_factor != -1:
            raise Refusal(
                ErrorCode.invalid_request,
                "A manual partition assignment was specified, but replication factor was not set to -1.",
            )
        if topic.partitions != -1:
            raise Refusal(
                ErrorCode.invalid_request,
                "A manual partition assignment was specified, but numPartitions was not set to -1.",
            )
        if sorted(topic.assignments) != list(range(len(topic.assignments))):
            raise Refusal(
                ErrorCode.invalid_replica_assignment, "partitions should be a consecutive 0-based integer sequence"
            )
        given = [topic.assignments[partition] for partition in range(len(topic.assignments))]
        check_assignments(image, given, len(given[0]))
        _check_limits(policy, topic, len(given), len(given[0]))
        return given
    count = policy.default_partitions if topic.partitions == -1 else topic.partitions
    factor = policy.default_replication_factor if topic.replication_factor == -1 else topic.replication_factor
    if count < 1:
        raise Refusal(
            ErrorCode.invalid_partitions, "Number of partitions must be larger than 0, or -1 for the default."
        )
    if not 1 <= factor <= MAX_REPLICATION_FACTOR:
        raise Refusal(
            ErrorCode.invalid_replication_factor,
            f"Replication factor must be from 1 to {MAX_REPLICATION_FACTOR}, or -1 for the default.",
        )
    _check_limits(policy, topic, count, factor)
    placer = placer_for(image, factor, rng)
    return [placer.place(factor) for _ in range(count)]


def check_assignments(image: MetadataImage, assignments: Sequence[Replicas], replication_factor: int) -> None:
    """Raises Refusal(INVALID_REPLICA_ASSIGNMENT) unless every partition gets so many different, known brokers,
    of which one is up."""

    def refuse(why: str) -> Refusal:
        return Refusal(ErrorCode.invalid_replica_assignment, why)

    for replicas in assignments:
        check_replicas(image, replicas)
        if len(replicas) != replication_factor:
            raise refuse(
                f"The manual partition assignment includes a partition with {len(replicas)} replica(s), but this is "
                f"not consistent with previous partitions, which have {replication_factor} replica(s)."
            )
        if not any(image.eligible(broker_id) for broker_id in replicas):
            raise refuse(
                "All brokers specified in the manual partition assignment are fenced or in controlled shutdown."
            )


def _new_partition(image: MetadataImage, topic_id: UUID, partition: int, replicas: Replicas) -> PartitionCreated:
    """A new partition is empty, hence every replica that is up is in sync."""
    isr = tuple(replica for replica in replicas if image.eligible(replica))
    return PartitionCreated(
        topic_id=topic_id,
        partition=partition,
        replicas=replicas,
        isr=isr or replicas[:1],
        leader=isr[0] if isr else NO_LEADER,
    )


def create_partitions(
    image: MetadataImage, policy: Policy, request: CreatePartitions, rng: "Random"
) -> Decision[CreatePartitionsResponse]:
    """KIP-195. Answers per topic UNKNOWN_TOPIC_OR_PARTITION, INVALID_PARTITIONS, INVALID_REPLICA_ASSIGNMENT,
    INVALID_REPLICATION_FACTOR, POLICY_VIOLATION, INVALID_REQUEST (named twice)."""
    asked = Counter(topic.name for topic in request.topics)
    wanted = sum(_partitions_to_add(image, topic) for topic in request.topics)
    records: list[Record] = []
    results: list[TopicResult] = []
    for topic in request.topics:
        try:
            if asked[topic.name] > 1:
                raise Refusal(ErrorCode.invalid_request, "Duplicate topic name.")
            made = _add_partitions(image, policy, topic, wanted, rng)
        except Refusal as refusal:
            results.append(TopicResult(name=topic.name, error=refusal.code.value, message=refusal.message))
            continue
        if not request.validate_only:
            records += made
        results.append(
            TopicResult(
                name=topic.name,
                topic_id=image.topics[topic.name].id,
                partitions=topic.count,
                replication_factor=_replication_factor(image.topics[topic.name]),
            )
        )
    return Decision(tuple(records), CreatePartitionsResponse(topics=tuple(results)))


def _partitions_to_add(image: MetadataImage, topic: MorePartitions) -> int:
    there = image.topics.get(topic.name)
    return 0 if there is None else max(topic.count - len(there.partitions), 0)


def _replication_factor(topic: TopicImage) -> int:
    return len(topic.partitions[0].target)


def _add_partitions(
    image: MetadataImage, policy: Policy, request: MorePartitions, wanted: int, rng: "Random"
) -> list[PartitionCreated]:
    topic = image.topics.get(request.name)
    if topic is None:
        raise Refusal(ErrorCode.unknown_topic_or_partition, f"Topic '{request.name}' does not exist.")
    have = len(topic.partitions)
    if request.count <= have:
        raise Refusal(
            ErrorCode.invalid_partitions,
            f"The topic {request.name} currently has {have} partition(s); {request.count} would not be an increase.",
        )
    _allow(
        policy.limits.request_error(wanted),
        None if topic.internal else policy.limits.partitions_error(request.name, request.count),
    )
    factor = _replication_factor(topic)
    if request.assignments is None:
        placer = placer_for(
            image, factor, rng, existing=(topic.partitions[partition].target for partition in range(have))
        )
        assignments: Sequence[Replicas] = [placer.place(factor) for _ in range(request.count - have)]
    elif len(request.assignments) != request.count - have:
        raise Refusal(
            ErrorCode.invalid_replica_assignment,
            f"Attempted to add {request.count - have} additional partition(s), but only {len(request.assignments)} "
            "assignment(s) were specified.",
        )
    else:
        assignments = request.assignments
        check_assignments(image, assignments, factor)
    return [_new_partition(image, topic.id, have + position, replicas) for position, replicas in enumerate(assignments)]

"""What can go wrong in a client, as types.

Names follow aiokafka where it has one. A `BrokerResponseError` is an answer that a broker gave; it
names the broker, the partition, the leader epoch and the number of attempts, as far as they are known.
"""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from ottla.client.structs import TopicPartition


class KafkaError(Exception):
    """Base of every error that this library raises on purpose.

    `definite` says of a produced record that it surely is not in the log (True) or may be there all the same (False);
    None where there is nothing to be said.
    """

    retriable = False
    definite: bool | None = None


class IllegalStateError(KafkaError):
    """A method was called that makes no sense in the present state (a bug of the caller)."""


class ProducerClosed(IllegalStateError):
    """The producer was not started, or is stopped."""


class ConsumerStoppedError(IllegalStateError):
    """The consumer was not started, or is stopped."""


class KafkaConnectionError(KafkaError):
    """A broker could not be reached, or the connection broke."""

    retriable = True


class NoBrokersAvailable(KafkaConnectionError):
    """None of the bootstrap servers and known brokers answered."""


class KafkaTimeoutError(KafkaError):
    """The caller's deadline passed; for a produced record its outcome is unknown."""

    retriable = True


class UnsupportedVersionError(KafkaError):
    """The broker has no version of this API that the client can speak."""


class AbortableTransactionError(KafkaError):
    """The transaction cannot be committed any more. Abort it; then the producer can begin another one (KIP-1050).

    `__cause__` is what came in between, if that was an error of its own. Of a commit, `definite` says whether it surely
    had no effect.
    """


class FatalTransactionError(KafkaError):
    """The producer can do no more than be stopped. What became of its transaction, a new producer of the same
    transactional id settles when it starts.

    `definite` says of a commit whether it surely had no effect (True), or may have had one (False).
    """


class BrokerResponseError(KafkaError):
    """A broker answered with an error code."""

    def __init__(
        self,
        code: ErrorCode,
        message: str | None = None,
        *,
        broker: int | None = None,
        partition: TopicPartition | None = None,
        leader_epoch: int | None = None,
        attempts: int | None = None,
    ) -> None:
        self.code = code
        self.broker = broker
        self.partition = partition
        self.leader_epoch = leader_epoch
        self.attempts = attempts
        self.message = message
        self.retriable = code.retriable
        super().__init__(_describe(code, message, broker, partition, leader_epoch, attempts))


class UnknownTopicOrPartitionError(BrokerResponseError):
    """No such topic or partition."""


class TopicAlreadyExistsError(BrokerResponseError):
    """The topic exists."""


class InvalidTopicError(BrokerResponseError):
    """The name is not a legal topic name."""


class NotLeaderOrFollowerError(BrokerResponseError):
    """The broker does not lead this partition."""


class LeaderNotAvailableError(BrokerResponseError):
    """The partition has no leader at the moment."""


class NotEnoughReplicasError(BrokerResponseError):
    """The in-sync replica set is smaller than `min.insync.replicas`."""


class MessageSizeTooLargeError(BrokerResponseError):
    """The record or batch is larger than the client or the topic takes."""


class OutOfOrderSequenceNumber(BrokerResponseError):
    """The partition lost track of this producer: the records may or may not be in the log (KIP-360)."""


class ProducerFenced(FatalTransactionError, BrokerResponseError):
    """A newer incarnation of this producer exists, or its transaction took longer than its timeout and was aborted."""


class InvalidProducerEpochError(BrokerResponseError):
    """A partition has seen a newer epoch of this producer. In a transaction the attempt to abort it tells whether the
    producer is fenced (KIP-588)."""


class OffsetOutOfRangeError(BrokerResponseError):
    """The position is outside of the log, and there is no reset policy."""


class CommitFailedError(BrokerResponseError):
    """The offsets are not committed, and must not be: the partitions may have another owner by now."""


class FencedInstanceIdError(BrokerResponseError):
    """Another consumer has joined under the same `group_instance_id` (KIP-345)."""


class InconsistentGroupProtocolError(BrokerResponseError):
    """The group's members have no assignor in common with this one, or it is of another kind."""


class InvalidSessionTimeoutError(BrokerResponseError):
    """The session timeout is outside of what the broker allows."""


class InvalidGroupIdError(BrokerResponseError):
    """The group id is empty or not allowed."""


class GroupMaxSizeReachedError(BrokerResponseError):
    """The group takes no more members."""


class GroupIdNotFoundError(BrokerResponseError):
    """No such group."""


class NonEmptyGroupError(BrokerResponseError):
    """The group has members."""


class TransactionalIdNotFoundError(BrokerResponseError):
    """No such transactional id."""


class GroupCoordinatorNotAvailableError(BrokerResponseError):
    """The group has no coordinator at the moment."""


class NotCoordinatorForGroupError(BrokerResponseError):
    """The broker does not coordinate this group."""


class GroupLoadInProgressError(BrokerResponseError):
    """The coordinator is still reading what it has to know about the group."""


class UnknownMemberIdError(BrokerResponseError):
    """The coordinator does not know this member (any more)."""


class IllegalGenerationError(BrokerResponseError):
    """The generation of the group is another one."""


class RebalanceInProgressError(BrokerResponseError):
    """The group's members are joining."""


class LogTruncationError(KafkaError):
    """The log was truncated below what this consumer had already read (KIP-320).

    Attributes:
        partition: the partition.
        position: the offset that was to be read next.
        leader_epoch: the epoch of the last record that was read.
        divergent_offset: the first offset whose record is no longer the one that was read.
    """

    def __init__(self, partition: TopicPartition, position: int, leader_epoch: int, divergent_offset: int) -> None:
        self.partition = partition
        self.position = position
        self.leader_epoch = leader_epoch
        self.divergent_offset = divergent_offset
        super().__init__(
            f"log of {partition} was truncated: position {position} in epoch {leader_epoch} "
            f"diverges from offset {divergent_offset} on"
        )


class NoOffsetForPartitionError(KafkaError):
    """A partition has no position and `auto_offset_reset` is "none"."""


class CorruptRecordError(KafkaError):
    """A fetched batch fails its check, and so no record of it is handed out."""


_TYPES: dict[ErrorCode, type[BrokerResponseError]] = {
    ErrorCode.unknown_topic_or_partition: UnknownTopicOrPartitionError,
    ErrorCode.topic_already_exists: TopicAlreadyExistsError,
    ErrorCode.invalid_topic_exception: InvalidTopicError,
    ErrorCode.not_leader_or_follower: NotLeaderOrFollowerError,
    ErrorCode.leader_not_available: LeaderNotAvailableError,
    ErrorCode.not_enough_replicas: NotEnoughReplicasError,
    ErrorCode.not_enough_replicas_after_append: NotEnoughReplicasError,
    ErrorCode.message_too_large: MessageSizeTooLargeError,
    ErrorCode.record_list_too_large: MessageSizeTooLargeError,
    ErrorCode.out_of_order_sequence_number: OutOfOrderSequenceNumber,
    ErrorCode.unknown_producer_id: OutOfOrderSequenceNumber,
    ErrorCode.invalid_producer_epoch: InvalidProducerEpochError,
    ErrorCode.producer_fenced: ProducerFenced,
    ErrorCode.offset_out_of_range: OffsetOutOfRangeError,
    ErrorCode.fenced_instance_id: FencedInstanceIdError,
    ErrorCode.inconsistent_group_protocol: InconsistentGroupProtocolError,
    ErrorCode.invalid_session_timeout: InvalidSessionTimeoutError,
    ErrorCode.invalid_group_id: InvalidGroupIdError,
    ErrorCode.group_max_size_reached: GroupMaxSizeReachedError,
    ErrorCode.group_id_not_found: GroupIdNotFoundError,
    ErrorCode.transactional_id_not_found: TransactionalIdNotFoundError,
    ErrorCode.non_empty_group: NonEmptyGroupError,
    ErrorCode.coordinator_not_available: GroupCoordinatorNotAvailableError,
    ErrorCode.not_coordinator: NotCoordinatorForGroupError,
    ErrorCode.coordinator_load_in_progress: GroupLoadInProgressError,
    ErrorCode.unknown_member_id: UnknownMemberIdError,
    ErrorCode.illegal_generation: IllegalGenerationError,
    ErrorCode.rebalance_in_progress: RebalanceInProgressError,
}


def error_for(
    code: ErrorCode,
    message: str | None = None,
    *,
    broker: int | None = None,
    partition: TopicPartition | None = None,
    leader_epoch: int | None = None,
    attempts: int | None = None,
) -> BrokerResponseError:
    """The typed error for a broker's error code."""
    cls = _TYPES.get(code, BrokerResponseError)
    return cls(code, message, broker=broker, partition=partition, leader_epoch=leader_epoch, attempts=attempts)


def _describe(
    code: ErrorCode,
    message: str | None,
    broker: int | None,
    partition: TopicPartition | None,
    leader_epoch: int | None,
    attempts: int | None,
) -> str:
    where = [
        f"{name} {value}"
        for name, value in (
            ("partition", partition),
            ("broker", broker),
            ("leader epoch", leader_epoch),
            ("attempts", attempts),
        )
        if value is not None
    ]
    text = f"{code.name.upper()} ({code.value})"
    if message:
        text += f": {message}"
    return f"{text} [{', '.join(where)}]" if where else text

"""What can go wrong in a client, as types.

Names follow aiokafka where it has one. Every error says by its fields what it is about: the group, the partition, the
broker, the epochs and the number of attempts, as far as they are known. Its text is made from them.
"""

from __future__ import annotations

from copy import copy
from typing import Any, Final, Self, TypedDict, Unpack

from kio.schema.errors import ErrorCode

from ottla.client.structs import TopicPartition


class Fields(TypedDict, total=False):
    """What an error may be about; None, -1 and () stand for what is not known.

    `partitions` is for what is about several of them, `attempts` is how often the program's request was tried, and
    `leader_epoch` is the newest that is known of the partition (of a commit, the one that was to be committed).
    """

    group_id: str | None
    generation: int | None
    partition: TopicPartition | None
    partitions: tuple[TopicPartition, ...]
    broker: int | None
    leader_epoch: int | None
    attempts: int | None


_MANY: Final = 10
"""How many partitions a text names."""


class KafkaError(Exception):
    """Base of every error that this library raises on purpose.

    `definite` says of a produced record that it surely is not in the log (True) or may be there all the same (False);
    None where there is nothing to be said.
    """

    retriable = False
    definite: bool | None = None
    group_id: str | None = None
    generation: int | None = None
    partition: TopicPartition | None = None
    partitions: tuple[TopicPartition, ...] = ()
    broker: int | None = None
    leader_epoch: int | None = None
    attempts: int | None = None

    def __init__(self, *args: Any, **fields: Unpack[Fields]) -> None:
        super().__init__(*args)
        self._learn(fields)

    @property
    def text(self) -> str:
        """What went wrong, without the fields."""
        return " ".join(map(str, self.args))

    @property
    def fields(self) -> Fields:
        """What is known of where it went wrong."""
        known: Fields = {}
        for name in Fields.__annotations__:
            value = getattr(self, name)
            if value is not None and value != ():
                known[name] = value  # type: ignore[literal-required]
        return known

    def about(self, **fields: Unpack[Fields]) -> Self:
        """The same error, with what is known further up. A new one: several may wait for what has failed once."""
        other = copy(self)
        other._learn(fields)
        other.__cause__, other.__suppress_context__ = self.__cause__, self.__suppress_context__
        return other.with_traceback(self.__traceback__)

    def _learn(self, fields: Fields) -> None:
        vars(self).update((name, value) for name, value in fields.items() if value not in (None, -1, ()))

    def __str__(self) -> str:
        where = [f"{name.removesuffix('_id').replace('_', ' ')} {_shown(value)}" for name, value in self.fields.items()]
        return f"{self.text} [{', '.join(where)}]" if where else self.text


def _shown(value: object) -> str:
    if isinstance(value, tuple) and not isinstance(value, TopicPartition):
        more = f" and {len(value) - _MANY} more" if len(value) > _MANY else ""
        return " ".join(map(str, value[:_MANY])) + more
    return repr(value) if isinstance(value, str) else str(value)


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

    def __init__(self, code: ErrorCode, message: str | None = None, **fields: Unpack[Fields]) -> None:
        super().__init__(code, message, **fields)
        self.code = code
        self.message = message
        self.retriable = code.retriable

    @property
    def text(self) -> str:
        name = f"{self.code.name.upper()} ({self.code.value})"
        return f"{name}: {self.message}" if self.message else name


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
        position: the offset that was to be read next.
        leader_epoch: the epoch of the last record that was read.
        divergent_offset: the first offset whose record is no longer the one that was read, -1 if that is not known.
    """

    def __init__(self, position: int, divergent_offset: int, **fields: Unpack[Fields]) -> None:
        super().__init__(position, divergent_offset, **fields)
        self.position = position
        self.divergent_offset = divergent_offset

    @property
    def text(self) -> str:
        return f"the log was truncated: position {self.position} diverges from offset {self.divergent_offset} on"


class NoOffsetForPartitionError(KafkaError):
    """A partition has no position and `auto_offset_reset` is "none"."""


class CorruptRecordError(KafkaError):
    """A fetched batch fails its check, and so no record of it is handed out.

    `attempts` is how often in a row it was fetched so.
    """


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


def error_for(code: ErrorCode, message: str | None = None, **fields: Unpack[Fields]) -> BrokerResponseError:
    """The typed error for a broker's error code."""
    return _TYPES.get(code, BrokerResponseError)(code, message, **fields)

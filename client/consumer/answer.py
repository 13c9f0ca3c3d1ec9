"""What a Fetch answer means for the partitions that it was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from kio.schema.errors import ErrorCode

from ottla.client.consumer.chunk import Chunk, Deserializer
from ottla.client.consumer.position import PartitionState, Phase, Reset
from ottla.client.errors import CorruptRecordError, KafkaError, LogTruncationError, error_for
from ottla.client.logs import get_logger
from ottla.client.network import Network, code_of
from ottla.wire import FetchPartitionResponse, FetchResponse, NodeEndpoint

States = Mapping[tuple[str, int], PartitionState]
"""By topic and partition. A plain pair is equal to a `TopicPartition`, and looking one up need not make any."""

log = get_logger(__name__)

SHUN: Final = 5.0
"""Seconds for which the leader is not asked whom to fetch from after the replica that it named was of no use."""


class FetchAnswer(NamedTuple):
    """What is needed to understand an answer. `now` is the loop's time in seconds."""

    network: Network
    broker: int
    reset_to: Reset | None
    now: float
    key: Deserializer
    value: Deserializer


def take_in(context: FetchAnswer, response: FetchResponse, states: States) -> bool:
    """Move the states on by what the answer says. True if there is something for the program: records or errors.

    Raises ProtocolError.
    """
    code = code_of(response.error_code)
    if code is not ErrorCode.none:
        for state in states.values():
            _failed(context, state, code, None, ())
        return any(state.error is not None for state in states.values())
    names = context.network.metadata.topic_names
    news = False
    for topic, partitions in response.topics:
        name = topic if isinstance(topic, str) else names.get(topic)
        for partition in partitions:
            known = None if name is None else states.get((name, partition.partition))
            if known is not None:
                news |= _take_in_one(context, known, partition, response.node_endpoints)
    return news


def _take_in_one(
    context: FetchAnswer, state: PartitionState, partition: FetchPartitionResponse, endpoints: Sequence[NodeEndpoint]
) -> bool:
    code = code_of(partition.error_code)
    if code is not ErrorCode.none:
        _failed(context, state, code, partition.current_leader, endpoints)
        return state.error is not None
    if partition.preferred_read_replica >= 0:
        state.preferred = partition.preferred_read_replica
        state.preferred_until = context.now + context.network.options.metadata_max_age
        if partition.preferred_read_replica not in context.network.metadata.brokers:
            context.network.request_refresh()
    state.heard_of(partition.high_watermark, partition.last_stable_offset)
    state.log_start_offset = partition.log_start_offset
    if partition.diverging_epoch is not None and partition.diverging_epoch != (-1, -1):
        epoch, end_offset = partition.diverging_epoch
        truncation = state.validated(epoch, end_offset)
        if truncation is not None:
            on_truncation(state, truncation.about(broker=context.broker), context.reset_to)
        return True
    state.attempts = 0
    return _add_records(context, state, partition)


def _add_records(context: FetchAnswer, state: PartitionState, partition: FetchPartitionResponse) -> bool:
    data = partition.records
    if not data:
        return False
    assert isinstance(data, bytes | memoryview)  # as it is in a decoded answer
    aborted = partition.aborted_transactions or ()
    chunk = Chunk(state.tp, data, broker=context.broker, aborted=aborted, key=context.key, value=context.value)
    # A whole batch always comes first (KIP-74), so without one this is no batch at all.
    wrong = _misplaced(state, chunk) if chunk.headers else f"{len(data)} bytes without a batch"
    if wrong:
        state.error = corrupt(state, state.fetch_offset, wrong, context.broker)
        return True
    last = chunk.headers[-1][1]
    state.add(chunk, last.next_offset, last.leader_epoch)
    return True


def _misplaced(state: PartitionState, chunk: Chunk) -> str:
    """What is wrong with the offsets and leader epochs of these batches, if anything.

    No checksum covers them. If they were believed, a damaged batch would look like a truncated log.
    """
    offset, epoch, leader_epoch = state.fetch_offset, state.fetch_epoch, state.leader_epoch
    for at, (_, header) in enumerate(chunk.headers):
        following = header.base_offset + header.last_offset_delta + 1
        if following <= offset or (at and header.base_offset < offset):
            return f"offsets {header.base_offset} to {header.last_offset} where {offset} is next"
        if header.leader_epoch < epoch or header.leader_epoch > leader_epoch >= 0:
            return f"leader epoch {header.leader_epoch} at offset {header.base_offset}, after {epoch} in {leader_epoch}"
        offset, epoch = following, header.leader_epoch
    return ""


def corrupt(state: PartitionState, offset: int, wrong: str, broker: int | None) -> CorruptRecordError:
    """What `broker` gave from `offset` on fails its check."""
    return CorruptRecordError(
        f"at offset {offset}: {wrong}",
        partition=state.tp,
        broker=broker,
        leader_epoch=state.leader_epoch,
        attempts=state.damaged(offset),
    )


def _failed(
    context: FetchAnswer,
    state: PartitionState,
    code: ErrorCode,
    leader: tuple[int, int] | None,
    endpoints: Sequence[NodeEndpoint],
) -> None:
    network = context.network
    if state.preferred == context.broker:
        # Whatever it is, the leader knows better: a follower may lag, be out of the ISR, or have gone.
        state.stay_with_leader(context.now + SHUN)
        state.retry_at = context.now + network.options.backoff.delay(1, network.options.rng)
        return
    if code is ErrorCode.offset_out_of_range:
        _out_of_range(context, state)
        return
    if not code.retriable and code is not ErrorCode.unknown_server_error:
        state.error = _refused(context, state, code)
        return
    state.attempts += 1
    if leader is not None and network.hint(state.tp, *leader, endpoints):
        state.retry_at = context.now
        return
    state.retry_at = context.now + network.options.backoff.delay(state.attempts, network.options.rng)
    network.request_refresh()


def _refused(context: FetchAnswer, state: PartitionState, code: ErrorCode, text: str | None = None) -> KafkaError:
    return error_for(
        code,
        text,
        broker=context.broker,
        partition=state.tp,
        leader_epoch=state.leader_epoch,
        attempts=state.attempts + 1,
    )


def _out_of_range(context: FetchAnswer, state: PartitionState) -> None:
    if state.fetch_offset != state.position:
        # Only what was fetched ahead is out of range; hand out what there is and look again from there.
        state.retry_at = context.now + context.network.options.backoff.delay(1, context.network.options.rng)
        if not state.chunks:
            state.rewind()
        return
    if context.reset_to is None:
        state.error = _refused(context, state, ErrorCode.offset_out_of_range, f"position {state.position}")
        return
    log.warning("offset_out_of_range", topic=state.tp.topic, partition=state.tp.partition, position=state.position)
    state.reset(context.reset_to)


def on_truncation(state: PartitionState, error: LogTruncationError, reset_to: Reset | None) -> None:
    """Records that were handed out are gone: without a reset policy the program must decide (KIP-320)."""
    state.phase = Phase.VALIDATE
    if reset_to is None:
        state.error = error
        return
    log.warning(
        "log_truncated",
        topic=state.tp.topic,
        partition=state.tp.partition,
        position=error.position,
        leader_epoch=error.leader_epoch,
        divergent_offset=error.divergent_offset,
    )
    if error.divergent_offset >= 0:
        state.go_back(error.divergent_offset)
    else:
        state.reset(reset_to)

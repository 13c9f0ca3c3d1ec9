"""TxnOffsetCommit, v0-v5: positions of a group that count once the producer's transaction has committed (KIP-98).

v2 leader epochs (KIP-320) · v3 flexible; who the consumer is: member, generation, instance (KIP-447) · v4
TRANSACTION_ABORTABLE · v5 the partition of `__consumer_offsets` is put into the transaction with it (KIP-890): a client
sends no AddOffsetsToTxn.

Before a group's first positions in a transaction are written its coordinator asks that of the transaction. Positions of
a transaction under way are UNSTABLE_OFFSET_COMMIT for OffsetFetch with `require_stable`.

Differences from Kafka: whatever keeps the transaction's coordinator from answering is told as
COORDINATOR_LOAD_IN_PROGRESS, upon which clients try again without looking for another coordinator of the group.

librdkafka up to 2.16 at least may wait for good, without its timeout, for a coordinator that has died and is gone from
the metadata (its issue 5511; Kafka's metadata leaves the dead out, too). `connections.max.idle.ms` of some seconds at
the producer ends that: any connection that goes makes it ask anew.
"""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from ottla.broker.api.committed_positions import answer, sort_out, told
from ottla.broker.context import Answer, BrokerContext, Reply
from ottla.broker.coordination import OFFSETS_TOPIC, InTransaction
from ottla.broker.groups import Position, Shard
from ottla.broker.transactions import Producer
from ottla.wire import Request

_KNOWS_LOADING = 2
_KNOWS_ABORTABLE = 4
_ADDS = 5

_COME_AGAIN = frozenset(
    {
        ErrorCode.network_exception,
        ErrorCode.coordinator_not_available,
        ErrorCode.coordinator_load_in_progress,
        ErrorCode.not_coordinator,
        ErrorCode.unknown_topic_or_partition,
        ErrorCode.operation_not_attempted,
    }
)


def handle(context: BrokerContext, request: Request) -> Reply:
    body, version = request.body, request.api_version
    positions, errors = sort_out(context, body, False)
    if not body.group_id or not body.transactional_id:
        invalid = ErrorCode.invalid_request if body.group_id else ErrorCode.invalid_group_id
        return answer(body, False, {}, invalid)
    shard = context.groups.shard_of(body.group_id)
    if isinstance(shard, ErrorCode):
        return answer(body, False, {}, _known(shard, version))
    error = _check(shard, body)
    if error is not ErrorCode.none or not positions:
        return answer(body, False, errors if error is ErrorCode.none else {}, error)

    async def committed() -> Answer:
        outcome = await _commit(context, shard, request, positions)
        return answer(body, False, errors, _known(told(outcome), version))

    return committed()


def _check(shard: Shard, body: object) -> ErrorCode:
    return shard.commits.check_in_transaction(
        getattr(body, "group_id", ""),
        getattr(body, "member_id", ""),
        getattr(body, "group_instance_id", None),
        getattr(body, "generation_id", -1),
    )


async def _commit(context: BrokerContext, shard: Shard, request: Request, positions: list[Position]) -> ErrorCode:
    body, version = request.body, request.api_version
    producer, held = Producer(body.producer_id, body.producer_epoch), shard.log.partition.log
    assert held is not None, "what leads has a log"
    asked = held.producers.ask(producer.id, producer.epoch, 0, strict=version >= _ADDS)
    if isinstance(asked, ErrorCode):
        return asked
    if asked is not None:
        home = (OFFSETS_TOPIC, shard.log.partition.index)
        known_epoch = held.producers.coordinator_epoch(producer.id)
        error = await context.verifier.ask(
            body.transactional_id, producer, home, add=version >= _ADDS, known_epoch=known_epoch
        )
        if error is not ErrorCode.none:
            return _refused(error, version)
        # Meanwhile the group may have gone on to another generation.
        error = _check(shard, body)
        if error is not ErrorCode.none:
            return error
    within = InTransaction(producer.id, producer.epoch, asked)
    return await shard.commits.commit_in_transaction(body.group_id, positions, within)


def _refused(error: ErrorCode, version: int) -> ErrorCode:
    """What the transaction's coordinator said, in words that this API has."""
    if error in _COME_AGAIN or (error is ErrorCode.concurrent_transactions and version < _ADDS):
        return ErrorCode.coordinator_load_in_progress
    if error is ErrorCode.transaction_abortable and version < _KNOWS_ABORTABLE:
        return ErrorCode.invalid_txn_state
    return error


def _known(error: ErrorCode, version: int) -> ErrorCode:
    """Clients of v0 and v1 may fail at the sight of the other code (KAFKA-7296)."""
    loading = error is ErrorCode.coordinator_load_in_progress and version < _KNOWS_LOADING
    return ErrorCode.coordinator_not_available if loading else error

"""Produce, v3-v13: one record batch per partition.

v5 log start offset · v7 zstd (KIP-110) · v8 error messages (KIP-467) · v10 the new leader's address with the error
(KIP-951) · v11 TRANSACTION_ABORTABLE · v12 a batch adds its partition to the transaction (KIP-890; no change in form)
· v13 topics by id (KIP-516).

Differences from Kafka: an error of ours never leaves as UNKNOWN_SERVER_ERROR, after which the Java client would write
again under a new sequence (KAFKA-14034): a disk error is KAFKA_STORAGE_ERROR, anything else closes the connection.
A transactional batch in a request without a transactional id is refused by itself with
TRANSACTIONAL_ID_AUTHORIZATION_FAILED, not the request with it. Partitions are always verified with the coordinator
(transaction.partition.verification.enable is not read). A batch to a compacted topic is opened, to look for keys; it is
MESSAGE_TOO_LARGE if it has more records than could stand in `max.message.bytes` uncompressed, or decompresses to more
than 32 times that.

This is the hot path: it runs without a task and without a look at a single record; acks=1 is answered before it
returns, acks=all costs one callback however many partitions there are. Only batches that are not in the codec that
their topic's `compression.type` names, and those that begin a transaction, may have to wait for their append.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from kio.schema.errors import ErrorCode

from ottla.broker.batch_checks import BadBatch, check_batch
from ottla.broker.context import BrokerContext
from ottla.broker.coordination import INTERNAL_TOPICS
from ottla.broker.leadership import LED_ELSEWHERE, hinted_endpoints, leader_hint
from ottla.broker.quotas import PRODUCE
from ottla.broker.recompression import Batch
from ottla.broker.replication import Acks, Partition
from ottla.broker.transactional_produce import Verifying, verify
from ottla.records import TRANSACTIONAL_BIT
from ottla.wire import (
    CLOSE,
    NO_RESPONSE,
    Close,
    Later,
    NoResponse,
    ProducePartitionResponse,
    ProduceRequest,
    Raw,
    Request,
    encode_produce_response,
    on_the_bill,
)

HINTS_SINCE = 10
TOPIC_IDS_SINCE = 13
MAX_TIMEOUT_S = 300.0
ADMIN_CLIENT = "__admin_client"
"""The client id by which Kafka knows its own tools; only they may write to internal topics."""

NOT_TRANSACTIONAL = BadBatch(
    ErrorCode.transactional_id_authorization_failed, "The request has no transactional id, and the batch is of one."
)

Rows = list[tuple[str, list[ProducePartitionResponse]]]


def handle(context: BrokerContext, request: Request) -> Raw | NoResponse | Close | Later:
    body: ProduceRequest = request.body
    if body.topic_ids:
        # An id that is not known has no name, as no topic has the empty one.
        names = context.view.image.topic_names
        body.topics = [
            (names.get(topic_id, ""), rows) for topic_id, (_, rows) in zip(body.topic_ids, body.topics, strict=True)
        ]
    refusal = _refusal(body)
    if refusal is not None:
        return CLOSE if body.acks == 0 else _refuse_all(request.api_version, body, refusal)
    production = Production(context, request, body)
    if body.transactional_id is not None:
        return _produce_verified(context, request, body, production)
    production.append_all()
    production.charge(request)
    if production.wait.done:
        return production.answer(production.wait.errors)
    return production.answer_later()


def _refusal(body: ProduceRequest) -> ErrorCode | None:
    if body.acks not in (-1, 0, 1):
        return ErrorCode.invalid_required_acks
    if body.transactional_id == "":
        return ErrorCode.invalid_request
    return None


def _produce_verified(
    context: BrokerContext, request: Request, body: ProduceRequest, production: Production
) -> Raw | NoResponse | Close | Later:
    """The same within a transaction, once its coordinator has been asked about whatever it has to be."""
    assert body.transactional_id is not None
    version = request.api_version
    verifying = verify(context, version, body, body.transactional_id)
    if isinstance(verifying, ErrorCode):
        return CLOSE if body.acks == 0 else _refuse_all(version, body, verifying)
    production.verifying = verifying
    production.charge(request)
    if not verifying.answers:
        production.append_all()
        if production.wait.done:
            return production.answer(production.wait.errors)
        return production.answer_later()
    later = Later(verifying.give_up, holds=True)

    def ready() -> None:
        try:
            production.append_all()
        except Exception as error:  # noqa: BLE001 - handed on to the wire
            later.fail(error)
        else:
            production.answer_later(later)
            later.let_go()

    verifying.then(version, on_the_bill(request, ready))
    return later


def _refuse_all(version: int, body: ProduceRequest, error: ErrorCode) -> Raw:
    rows = [
        (topic, [ProducePartitionResponse(index, error) for index, _ in partitions])
        for topic, partitions in body.topics
    ]
    return encode_produce_response(version, rows, topic_ids=body.topic_ids)


class Production:
    """One request: what was appended where, and what is waited for. A slot is the n-th partition of the request.

    `verifying`: what is known of its transaction, if it is of one.
    """

    __slots__ = (
        "_acks",
        "_admin",
        "_body",
        "_broken",
        "_context",
        "_listener",
        "_rows",
        "_throttle_ms",
        "_version",
        "failed",
        "verifying",
        "wait",
    )

    def __init__(self, context: BrokerContext, request: Request, body: ProduceRequest) -> None:
        self._context = context
        self._version = request.api_version
        self._admin = request.client_id == ADMIN_CLIENT
        self._listener = request.connection.listener
        self._body = body
        self._acks = cast(Acks, body.acks)
        self._rows: Rows = []
        self._broken: Exception | None = None
        self._throttle_ms = 0
        self.verifying: Verifying | None = None
        self.wait = context.replicas.produce_wait()
        self.failed = False

    def charge(self, request: Request) -> None:
        """Count the record bytes, and the time until now, against the client's quotas."""
        if self._context.quotas.produces:
            size = sum(len(records or b"") for _, partitions in self._body.topics for _, records in partitions)
            self._throttle_ms = self._context.quotas.charge(PRODUCE, size, request)
        if request.bill is not None:
            self._throttle_ms = max(self._throttle_ms, request.bill.charge(request))

    def append_all(self) -> None:
        now_ms = self._context.clock()
        slot = 0
        for topic, partitions in self._body.topics:
            rows = []
            for index, records in partitions:
                rows.append(self._append(topic, index, records, slot, now_ms))
                slot += 1
            self._rows.append((topic, rows))

    def _append(
        self, topic: str, index: int, records: bytes | memoryview | None, slot: int, now_ms: int
    ) -> ProducePartitionResponse:
        context = self._context
        if not topic and self._version >= TOPIC_IDS_SINCE:
            return self._error(topic, index, ErrorCode.unknown_topic_id)
        if topic in INTERNAL_TOPICS and not self._admin:
            return self._error(topic, index, ErrorCode.invalid_topic_exception)
        partition = context.replicas.partition(topic, index)
        if isinstance(partition, ErrorCode):
            return self._error(topic, index, partition)
        error = partition.check_leader()
        if error is not ErrorCode.none:
            return self._error(topic, index, error)
        limits = context.limits.of(topic)
        header = check_batch(records, self._version, limits, now_ms)
        if isinstance(header, BadBatch):
            return self._bad(index, header)
        assert records is not None
        verification, verifying = None, self.verifying
        if verifying is not None:
            if slot in verifying.refused:
                return self._bad(index, verifying.refused[slot])
            verification = verifying.verifications.get(slot)
        elif header.attributes & TRANSACTIONAL_BIT:
            return self._bad(index, NOT_TRANSACTIONAL)
        if limits.codec >= 0 or context.recompression.busy:
            batch = Batch(records, header, limits)
            ready = context.recompression.at_once(partition, batch)
            if ready is None:
                return self._append_later(partition, batch, slot)
            if isinstance(ready, BadBatch):
                return self._bad(index, ready)
            records, header = ready.records, ready.header
        appended = context.replicas.append(partition, records, header, acks=self._acks, verification=verification)
        if isinstance(appended, ErrorCode):
            return self._error(topic, index, appended)
        partition.acknowledge(appended.last_offset + 1, self._acks, self.wait, slot)
        return ProducePartitionResponse(
            index, 0, appended.base_offset, appended.log_append_time, appended.log_start_offset
        )

    def _append_later(self, partition: Partition, batch: Batch, slot: int) -> ProducePartitionResponse:
        """The append comes when the batch is compressed anew; until then the slot waits, and the row is a blank."""

        def append(ready: Batch | BadBatch) -> None:
            try:
                row, waits = self._append_ready(partition, ready, slot)
            except Exception as error:  # noqa: BLE001 - handed on to whoever waits for the answer
                self._broken, waits = error, False
            else:
                self._put(slot, row)
            if not waits:
                self.wait.settle(slot, ErrorCode.none)

        self.wait.expect(slot)
        self._context.recompression.put(partition, batch, append)
        return ProducePartitionResponse(partition.index, 0)

    def _append_ready(
        self, partition: Partition, ready: Batch | BadBatch, slot: int
    ) -> tuple[ProducePartitionResponse, bool]:
        """The row, and whether the slot has to wait on."""
        topic, index = partition.topic, partition.index
        if isinstance(ready, BadBatch):
            return self._bad(index, ready), False
        verification = None if self.verifying is None else self.verifying.verifications.get(slot)
        appended = self._context.replicas.append(
            partition, ready.records, ready.header, acks=self._acks, verification=verification
        )
        if isinstance(appended, ErrorCode):
            return self._error(topic, index, appended), False
        waits = partition.acknowledge(appended.last_offset + 1, self._acks, self.wait, slot)
        row = ProducePartitionResponse(
            index, 0, appended.base_offset, appended.log_append_time, appended.log_start_offset
        )
        return row, waits

    def _bad(self, index: int, bad: BadBatch) -> ProducePartitionResponse:
        self.failed = True
        return ProducePartitionResponse(index, bad.error, error_message=bad.message)

    def _error(self, topic: str, index: int, error: ErrorCode) -> ProducePartitionResponse:
        self.failed = True
        if error in LED_ELSEWHERE and self._version >= HINTS_SINCE:
            leader, epoch = leader_hint(self._context, topic, index)
            return ProducePartitionResponse(index, error, leader_id=leader, leader_epoch=epoch)
        return ProducePartitionResponse(index, error)

    # Answering

    def answer_later(self, later: Later | None = None) -> Later:
        """The answer, once every partition is acknowledged, failed or timed out; in `later` if there is one already."""
        if later is None:
            later = Later(self.wait.cancel)
        else:
            later.unwanted = self.wait.cancel

        def settled(errors: Mapping[int, ErrorCode]) -> None:
            try:
                answer = self.answer(errors)
            except Exception as error:  # noqa: BLE001 - handed on to the wire
                later.fail(error)
            else:
                later.give(answer)

        timeout_s = self._body.timeout_ms / 1000
        if not 0.0 <= timeout_s <= MAX_TIMEOUT_S:
            timeout_s = 0.0 if timeout_s < 0.0 else MAX_TIMEOUT_S
        self.wait.start(timeout_s, settled)
        return later

    def answer(self, late_errors: Mapping[int, ErrorCode]) -> Raw | NoResponse | Close:
        """`late_errors` by slot: what was appended, but not acknowledged, or what did not get as far in time."""
        if self._broken is not None:
            raise self._broken
        if late_errors:
            self._put_errors(late_errors)
        if self._acks == 0:
            return CLOSE if self.failed else NO_RESPONSE
        if not self.failed:
            return encode_produce_response(
                self._version, self._rows, throttle_ms=self._throttle_ms, topic_ids=self._body.topic_ids
            )
        leaders = {row.leader_id for _, rows in self._rows for row in rows if row.leader_id >= 0}
        endpoints = hinted_endpoints(self._context, leaders, self._listener) if leaders else ()
        return encode_produce_response(
            self._version,
            self._rows,
            throttle_ms=self._throttle_ms,
            node_endpoints=endpoints,
            topic_ids=self._body.topic_ids,
        )

    def _put_errors(self, late_errors: Mapping[int, ErrorCode]) -> None:
        for slot, error in late_errors.items():
            topic, row = self._row(slot)
            self._put(slot, self._error(topic, row.partition, error))

    def _row(self, slot: int) -> tuple[str, ProducePartitionResponse]:
        for topic, rows in self._rows:
            if slot < len(rows):
                return topic, rows[slot]
            slot -= len(rows)
        raise IndexError(slot)

    def _put(self, slot: int, row: ProducePartitionResponse) -> None:
        for _, rows in self._rows:
            if slot < len(rows):
                rows[slot] = row
                return
            slot -= len(rows)

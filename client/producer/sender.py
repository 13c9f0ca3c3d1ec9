"""The producer's shell: carries the core's requests to the brokers, and their answers back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Final
from uuid import UUID

from kio.schema.errors import ErrorCode

from ottla.client.errors import KafkaError, UnsupportedVersionError
from ottla.client.logs import get_logger
from ottla.client.network import Network, code_of, pick
from ottla.client.producer.batch import Batch, Outcome, ProducerIdentity
from ottla.client.producer.core import Answer, Call, ProducerCore
from ottla.client.producer.transactions.core import TransactionCore
from ottla.client.stepping import Stepper
from ottla.client.structs import TopicPartition
from ottla.records import encode_batch
from ottla.wire import (
    ConnectionLost,
    KafkaConnection,
    NodeEndpoint,
    ProducePartitionResponse,
    ProduceResponse,
    ProtocolError,
    RequestTimedOut,
    decode_produce_response,
    encode_produce_request,
)

PRODUCE: Final = 0
PRODUCE_VERSIONS: Final = (3, 13)
ADDS_PARTITIONS: Final = 12
TOPIC_IDS: Final = 13
INIT_PRODUCER_ID: Final = 22
INIT_PRODUCER_ID_VERSIONS: Final = (0, 4)
MAX_IN_FLIGHT: Final = 5
"""Requests in flight to one broker (max.in.flight.requests.per.connection)."""
STALL: Final = 1.0
"""Seconds without an answer after which other brokers are asked whether the leader has changed."""

LEFT_OUT: Final = Answer(ErrorCode.unknown_server_error, message="the answer leaves this partition out")

log = get_logger(__name__)


class Sender:
    """Steps that dispatch, and a callback for each answer.

    Args:
        acks: -1, 0 or 1.
        compression: number of the codec.
        on_outcomes: told the fate of batches as it becomes known.
        transactions: those that the batches belong to, if they do.
    """

    def __init__(
        self,
        network: Network,
        core: ProducerCore,
        *,
        acks: int,
        compression: int,
        on_outcomes: Callable[[list[Outcome]], None],
        transactions: TransactionCore | None = None,
    ) -> None:
        self._network = network
        self._core = core
        self._acks = acks
        self._compression = compression
        self._on_outcomes = on_outcomes
        self._transactions = transactions
        self._transactional_id = None if transactions is None else transactions.transactional_id
        self._stepper = Stepper(self._step, self._crash)
        self._in_flight: dict[int, int] = {}
        self._started: dict[int, float] = {}
        self._identifying: asyncio.Task[None] | None = None
        self.failure: BaseException | None = None
        """Why the sender cannot go on, if it cannot."""
        network.on_change(self.wake)

    def start(self) -> None:
        """Begin to send; InitProducerId goes out at once."""
        self._stepper.start()
        if self._core.needs_identity:
            self._begin_identify()

    def wake(self) -> None:
        """Something changed that may let a batch go."""
        self._stepper.wake()

    async def stop(self) -> None:
        """Stop without waiting for anything that is in flight."""
        self._stepper.stop()
        if self._identifying is not None:
            self._identifying.cancel()
            await asyncio.gather(self._identifying, return_exceptions=True)

    def _crash(self, error: BaseException) -> None:
        """A broken invariant: nothing more is sent, and the records that wait are not left hanging."""
        if self.failure is not None:
            return
        self._stepper.stop()
        self.failure = error
        log.error("producer_failed", error=repr(error))
        self._on_outcomes(self._core.fail_all(None, f"the producer failed: {error!r}"))

    def _step(self) -> float | None:
        """Send what can be sent now; the result is when to look again."""
        now = asyncio.get_running_loop().time()
        if not self._core.buffered_bytes:
            return self._stall(now)
        expired = self._core.expire(now)
        if expired:
            self._on_outcomes(expired)
        if self._core.needs_identity and self._core.pending and self._identifying is None:
            self._begin_identify()
        while True:
            dispatch = self._core.dispatch(now, self._network.metadata.leader, self._slots)
            for call in dispatch.calls:
                self._send(call, now)
            if not (dispatch.calls and dispatch.more):
                break
        wake_ups = [] if dispatch.wake_at is None else [dispatch.wake_at]
        for node in dispatch.wanted_nodes:
            if self._network.peek(node) is None:
                wait = self._network.open_soon(node)
                if wait > 0:
                    wake_ups.append(now + wait)
                    self._network.request_refresh()
        if dispatch.leaderless:
            self._network.request_refresh()
        stall = self._stall(now)
        if stall is not None:
            wake_ups.append(stall)
        return min(wake_ups, default=None)

    def _stall(self, now: float) -> float | None:
        """A paused broker shows as silence only: ask the others about its partitions, once a second. When to do so."""
        if not self._started:
            return None
        oldest = min(self._started.values())
        if now - oldest < STALL:
            return oldest + STALL
        self._network.request_refresh()
        return now + STALL

    def _slots(self, node: int) -> int:
        if self._network.peek(node) is None:
            return 0
        return MAX_IN_FLIGHT - self._in_flight.get(node, 0)

    def _send(self, call: Call, now: float) -> None:
        connection = self._network.peek(call.node)
        if connection is None:
            raise RuntimeError(f"broker {call.node} was dispatched to without a connection")
        self._in_flight[call.node] = self._in_flight.get(call.node, 0) + 1
        self._started[call.attempt] = now
        try:
            self._write(connection, call)
        except UnsupportedVersionError as error:
            self._soon(call, Answer(ErrorCode.unsupported_version, message=str(error)))
        except ConnectionLost:
            self._soon(call, None)

    def _write(self, connection: KafkaConnection, call: Call) -> None:
        """Write the request, now: the order of the calls is the order on the wire."""
        topics: dict[str, list[tuple[int, bytes]]] = {}
        for batch in call.batches:
            topic, index = batch.tp
            entry = (index, batch.payload or self._payload(batch))
            if topic in topics:
                topics[topic].append(entry)
            else:
                topics[topic] = [entry]
        timeout = self._network.options.request_timeout
        version, ids = self._version(connection, topics)
        body = encode_produce_request(
            version,
            list(topics.items()),
            acks=self._acks,
            timeout_ms=int(timeout * 1000),
            transactional_id=self._transactional_id,
            topic_ids=ids,
        )
        if self._acks == 0:
            connection.send(PRODUCE, version, body)
            self._soon(call, Answer(ErrorCode.none))
            return
        names = dict(zip(ids, topics, strict=True)) if ids else None
        connection.call_then(PRODUCE, version, body, partial(self._answered, call, version, names), timeout=timeout)

    def _version(self, connection: KafkaConnection, topics: Collection[str]) -> tuple[int, list[UUID]]:
        """And the ids of the topics, if it has ids: then a request that arrives late, when there is another topic of
        the name, is refused (KIP-516)."""
        low, high = self._versions()
        version = pick(connection, PRODUCE, (low, high))
        if version < TOPIC_IDS:
            return version, []
        known = self._network.metadata.topics
        ids = [topic_id for name in topics if name in known and (topic_id := known[name].topic_id)]
        if len(ids) == len(topics):
            return version, ids
        return pick(connection, PRODUCE, (low, TOPIC_IDS - 1)), []

    def _versions(self) -> tuple[int, int]:
        """From version 12 on a Produce also adds its partitions to the transaction (KIP-890)."""
        low, high = PRODUCE_VERSIONS
        if self._transactions is None:
            return low, high
        return (ADDS_PARTITIONS, high) if self._transactions.second else (low, ADDS_PARTITIONS - 1)

    def _soon(self, call: Call, answer: Answer | None) -> None:
        """Settle what needs no answer of the broker, after the present step. None: the request is lost."""

        def settle() -> None:
            if self._stepper.running:
                now = asyncio.get_running_loop().time()
                self._settle(call, self._core.on_lost(call, now) if answer is None else self._all(call, answer))

        asyncio.get_running_loop().call_soon(settle)

    def _answered(
        self, call: Call, version: int, names: Mapping[UUID, str] | None, answer: memoryview | Exception
    ) -> None:
        if not self._stepper.running:
            return  # after `stop`
        try:
            try:
                if not isinstance(answer, memoryview):
                    raise answer
                outcomes = self._outcomes(call, decode_produce_response(answer, version), names)
            except (ConnectionLost, RequestTimedOut, ProtocolError):
                outcomes = self._core.on_lost(call, asyncio.get_running_loop().time())
                self._network.request_refresh()
            self._settle(call, outcomes)
        except Exception as error:  # noqa: BLE001  whoever waits for a record is told
            self._crash(error)

    def _settle(self, call: Call, outcomes: list[Outcome]) -> None:
        """What became of a request is known."""
        self._in_flight[call.node] -= 1
        del self._started[call.attempt]
        self._on_outcomes(outcomes)
        self._stepper.step_now()

    def _all(self, call: Call, answer: Answer) -> list[Outcome]:
        now = asyncio.get_running_loop().time()
        return [outcome for batch in call.batches for outcome in self._core.on_answer(call, batch, answer, now)]

    def _payload(self, batch: Batch) -> bytes:
        if batch.payload is None:
            producer_id, epoch = batch.identity or (-1, -1)
            batch.payload = encode_batch(
                batch.records,
                compression=self._compression,
                producer_id=producer_id,
                producer_epoch=epoch,
                base_sequence=batch.sequence,
                transactional=self._transactions is not None,
            )
        return batch.payload

    def _outcomes(self, call: Call, response: ProduceResponse, names: Mapping[UUID, str] | None) -> list[Outcome]:
        """What the answer means, all of which is read before any of it is believed; `names` of the ids in it, if it has
        ids. Raises ProtocolError."""
        now = asyncio.get_running_loop().time()
        answers: dict[tuple[str, int], ProducePartitionResponse] = {}
        for at, (name, partitions) in enumerate(response.topics):
            topic = name if names is None else names.get(response.topic_ids[at], "")
            for partition in partitions:
                answers[topic, partition.partition] = partition
        told: list[Answer] = []
        for batch in call.batches:
            if batch.tp in answers:
                told.append(self._answer(batch.tp, answers[batch.tp], response.node_endpoints))
            else:
                told.append(LEFT_OUT)
        outcomes: list[Outcome] = []
        for batch, answer in zip(call.batches, told, strict=True):
            outcomes += self._core.on_answer(call, batch, answer, now)
        return outcomes

    def _answer(
        self, tp: TopicPartition, partition: ProducePartitionResponse, endpoints: Sequence[NodeEndpoint]
    ) -> Answer:
        code = code_of(partition.error_code)
        rerouted = False
        if code is not ErrorCode.none and code.retriable:
            rerouted = self._network.hint(tp, partition.leader_id, partition.leader_epoch, endpoints)
            if not rerouted:
                self._network.request_refresh()
        return Answer(
            code,
            partition.base_offset,
            partition.log_append_time,
            partition.log_start_offset,
            partition.error_message,
            rerouted,
        )

    def _begin_identify(self) -> None:
        self._identifying = asyncio.get_running_loop().create_task(self._identify(), name="InitProducerId")

    async def _identify(self) -> None:
        """Get a producer id, for as long as it takes; what waits for it is bounded by the delivery timeout."""
        values = {"transactional_id": None, "transaction_timeout": 60000, "producer_id": -1, "producer_epoch": -1}
        try:
            answer = await self._network.call_any(
                INIT_PRODUCER_ID,
                INIT_PRODUCER_ID_VERSIONS,
                values,
                patience=2.0,
                retry_if=lambda a: a.error_code if a.error_code.retriable else None,
            )
            if answer.error_code is ErrorCode.none:
                self._core.identity = ProducerIdentity(answer.producer_id, answer.producer_epoch)
            else:
                self._on_outcomes(self._core.fail_all(answer.error_code, "InitProducerId was refused"))
        except UnsupportedVersionError as error:
            self._on_outcomes(self._core.fail_all(ErrorCode.unsupported_version, str(error)))
        except KafkaError as error:
            log.warning("producer_id_not_available_yet", error=str(error))
        finally:
            self._identifying = None
            self.wake()

"""The producer's shell: carries the core's requests to the brokers, and their answers back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import structlog
from kio.schema.errors import ErrorCode

from ottla.client.errors import KafkaError, UnsupportedVersionError
from ottla.client.network import Network, pick
from ottla.client.producer.batch import Batch, Outcome, ProducerIdentity
from ottla.client.producer.core import Answer, Call, ProducerCore
from ottla.client.stepping import step_when_due
from ottla.client.structs import TopicPartition
from ottla.records import encode_batch
from ottla.wire import (
    ConnectionLost,
    KafkaConnection,
    ProtocolError,
    RequestTimedOut,
    decode,
    encode_produce_request,
    response_type,
)

PRODUCE: Final = 0
PRODUCE_VERSIONS: Final = (3, 12)
INIT_PRODUCER_ID: Final = 22
INIT_PRODUCER_ID_VERSIONS: Final = (0, 4)
MAX_IN_FLIGHT: Final = 5
"""Requests in flight to one broker (max.in.flight.requests.per.connection)."""
STALL: Final = 1.0
"""Seconds without an answer after which other brokers are asked whether the leader has changed."""

_Sent = UnsupportedVersionError | ConnectionLost | tuple[int, asyncio.Future[memoryview]] | None
"""What writing a request gave: an error, version and answer to come, or None for a request without an answer."""

log = structlog.get_logger(__name__)


class Sender:
    """One task that dispatches, and one per request in flight.

    Args:
        acks: -1, 0 or 1.
        compression: number of the codec.
        on_outcomes: told the fate of batches as it becomes known.
    """

    def __init__(
        self,
        network: Network,
        core: ProducerCore,
        *,
        acks: int,
        compression: int,
        on_outcomes: Callable[[list[Outcome]], None],
    ) -> None:
        self._network = network
        self._core = core
        self._acks = acks
        self._compression = compression
        self._on_outcomes = on_outcomes
        self._wake = asyncio.Event()
        self._in_flight: dict[int, int] = {}
        self._started: dict[int, float] = {}
        self._requests: dict[asyncio.Task[None], _Sent] = {}
        self._identifying: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self.failure: BaseException | None = None
        """Why the sender cannot go on, if it cannot."""
        network.on_change(self.wake)

    def start(self) -> None:
        """Begin to send; InitProducerId goes out at once."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="producer sender")
        if self._core.needs_identity:
            self._begin_identify()

    def wake(self) -> None:
        """Something changed that may let a batch go."""
        self._wake.set()

    async def stop(self) -> None:
        """Stop without waiting for anything that is in flight."""
        sent = list(self._requests.values())
        tasks = [*self._requests, *(t for t in (self._identifying, self._task) if t is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for answer in sent:
            if isinstance(answer, tuple):
                # A task that had not begun does not pass its cancellation on to what it was to wait for.
                future = answer[1]
                if not future.cancel() and not future.cancelled():
                    future.exception()

    async def _run(self) -> None:
        try:
            await step_when_due(self._wake, self._step)
        except Exception as error:
            self._crash(error)
            raise

    def _crash(self, error: BaseException) -> None:
        """A broken invariant: nothing more is sent, and the records that wait are not left hanging."""
        self.failure = error
        log.error("producer_failed", error=repr(error))
        self._on_outcomes(self._core.fail_all(None, f"the producer failed: {error!r}"))

    def _step(self) -> float | None:
        """Send what can be sent now; the result is when to look again."""
        now = asyncio.get_running_loop().time()
        self._on_outcomes(self._core.expire(now))
        if self._core.needs_identity and self._core.pending and self._identifying is None:
            self._begin_identify()
        while True:
            dispatch = self._core.dispatch(now, self._network.metadata.leader, self._slots)
            for call in dispatch.calls:
                self._send(call, now)
            if not dispatch.calls:
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
        wake_ups += self._stalls(now)
        return min(wake_ups, default=None)

    def _stalls(self, now: float) -> list[float]:
        """A paused broker shows as silence only: ask the others about its partitions, once a second."""
        if not self._started:
            return []
        oldest = min(self._started.values())
        if now - oldest < STALL:
            return [oldest + STALL]
        self._network.request_refresh()
        return [now + STALL]

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
        answer = self._write(connection, call)
        task = asyncio.get_running_loop().create_task(self._settle(call, answer), name=f"produce {call.attempt}")
        self._requests[task] = answer
        task.add_done_callback(self._finished)

    def _write(self, connection: KafkaConnection, call: Call) -> _Sent:
        """Write the request, now: the order of the calls is the order on the wire."""
        topics: dict[str, list[tuple[int, bytes]]] = {}
        for batch in call.batches:
            topics.setdefault(batch.tp.topic, []).append((batch.tp.partition, self._payload(batch)))
        timeout = self._network.options.request_timeout
        try:
            version = pick(connection, PRODUCE, PRODUCE_VERSIONS)
        except UnsupportedVersionError as error:
            return error
        body = encode_produce_request(version, list(topics.items()), acks=self._acks, timeout_ms=int(timeout * 1000))
        if self._acks != 0:
            return version, connection.call_raw(PRODUCE, version, body, timeout=timeout)
        try:
            connection.send(PRODUCE, version, body)
        except ConnectionLost as error:
            return error
        return None

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._requests.pop(task, None)
        error = None if task.cancelled() else task.exception()
        if error is not None and self.failure is None:
            self._crash(error)
            if self._task is not None:
                self._task.cancel()

    async def _settle(self, call: Call, sent: _Sent) -> None:
        outcomes: list[Outcome] = []
        loop = asyncio.get_running_loop()
        try:
            if isinstance(sent, UnsupportedVersionError):
                outcomes = self._all(call, Answer(ErrorCode.unsupported_version, message=str(sent)))
            elif sent is None:
                outcomes = self._all(call, Answer(ErrorCode.none))
            elif isinstance(sent, ConnectionLost):
                outcomes = self._core.on_lost(call, loop.time())
            else:
                version, answer = sent
                outcomes = self._answered(call, decode(response_type(PRODUCE, version), await answer))
        except (ConnectionLost, RequestTimedOut, ProtocolError):
            outcomes = self._core.on_lost(call, loop.time())
            self._network.request_refresh()
        finally:
            self._in_flight[call.node] -= 1
            del self._started[call.attempt]
            self._on_outcomes(outcomes)
            self.wake()

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
            )
        return batch.payload

    def _answered(self, call: Call, response: Any) -> list[Outcome]:
        now = asyncio.get_running_loop().time()
        answers = {
            TopicPartition(topic.name, partition.index): partition
            for topic in response.responses
            for partition in topic.partition_responses
        }
        endpoints = getattr(response, "node_endpoints", ())
        outcomes: list[Outcome] = []
        for batch in call.batches:
            partition = answers.get(batch.tp)
            if partition is None:
                answer = Answer(ErrorCode.unknown_server_error, message="the answer leaves this partition out")
            else:
                answer = self._answer(batch.tp, partition, endpoints)
            outcomes += self._core.on_answer(call, batch, answer, now)
        return outcomes

    def _answer(self, tp: TopicPartition, partition: Any, endpoints: Any) -> Answer:
        code: ErrorCode = partition.error_code
        rerouted = False
        if code is not ErrorCode.none and code.retriable:
            rerouted = self._network.hint(tp, getattr(partition, "current_leader", None), endpoints)
            if not rerouted:
                self._network.request_refresh()
        appended_at = partition.log_append_time
        return Answer(
            code,
            partition.base_offset,
            -1 if appended_at is None else int(appended_at.timestamp() * 1000),
            getattr(partition, "log_start_offset", -1),
            getattr(partition, "error_message", None),
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

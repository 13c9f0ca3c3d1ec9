"""The cluster as a client sees it: connections, metadata that is kept fresh, and requests that find their broker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, TypedDict, Unpack

from kio.schema.errors import ErrorCode

from ottla.client.choice import BrokerChoice
from ottla.client.errors import (
    IllegalStateError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NoBrokersAvailable,
    UnsupportedVersionError,
    error_for,
)
from ottla.client.metadata import ClusterMetadata
from ottla.client.options import Address, ClientOptions
from ottla.client.pool import ConnectionPool
from ottla.client.structs import TopicPartition
from ottla.wire import ConnectionLost, KafkaConnection, NodeEndpoint, ProtocolError, RequestTimedOut

METADATA: Final = 3
METADATA_VERSIONS: Final = (1, 13)
PATIENCE: Final = 2.0
"""Seconds that one broker may take over a question that any of them can answer."""
_GRACE = 0.5
_CODES: Final[dict[int, ErrorCode]] = {code.value: code for code in ErrorCode}

Values = Mapping[str, Any]


class How(TypedDict, total=False):
    """The keyword arguments of `Network.ask_any`."""

    timeout: float | None
    patience: float
    retry_if: Callable[[Any], ErrorCode | None]


class Told(NamedTuple):
    """An answer, the broker that gave it if its id is known, and how many were asked before it did."""

    answer: Any
    broker: int | None
    attempts: int


class Network:
    """Shared by everything in one client. `start` and `close` bracket its life; nothing runs before `start`."""

    def __init__(self, options: ClientOptions, *, allow_auto_create: bool = False) -> None:
        self.options = options
        self.metadata = ClusterMetadata()
        self.topics: set[str] = set()
        """The topics whose metadata is kept fresh."""
        self.all_topics = False
        self._allow_auto_create = allow_auto_create
        self._pool = ConnectionPool(options, self._on_connection)
        self._choice = BrokerChoice(options, self.metadata, self._pool)
        self._listeners: list[Callable[[], None]] = []
        self._refreshing: asyncio.Task[None] | None = None
        self._ageing: asyncio.Task[None] | None = None
        self._refreshed_at = float("-inf")
        self._tried_at = float("-inf")
        self._fruitless = 0
        self._told_by: int | None = None
        """Who gave the last metadata."""
        self._started = self._closed = False

    async def start(self) -> None:
        """Learn about the cluster. Raises NoBrokersAvailable when no bootstrap server answers in time."""
        if self._started:
            raise IllegalStateError("started twice")
        self._started = True
        await self.until(lambda: self._refreshed_at > float("-inf"), self.options.request_timeout)
        self._ageing = asyncio.get_running_loop().create_task(self._age(), name="metadata ageing")

    async def close(self) -> None:
        """Stop the tasks and close the connections."""
        self._closed = True
        tasks = [task for task in (self._refreshing, self._ageing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._pool.close()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever metadata was refreshed or a connection came or went."""
        self._listeners.append(listener)

    def feature(self, name: str) -> int:
        """The level of a feature that the cluster has finalised, 0 if it has not, as far as that is known here."""
        return self._pool.features.get(name, 0)

    def address(self, node_id: int) -> Address | None:
        """Where a node is, if that is known."""
        broker = self.metadata.brokers.get(node_id)
        return Address(broker.host, broker.port) if broker is not None else None

    def peek(self, node_id: int, channel: str = "") -> KafkaConnection | None:
        """The open connection to a node, if there is one."""
        broker = self.metadata.brokers.get(node_id)
        return self._pool.peek((broker.host, broker.port), channel) if broker is not None else None

    def open_soon(self, node_id: int, channel: str = "") -> float:
        """Begin to connect; the result says in how many seconds to ask again if that is not allowed yet."""
        address = self.address(node_id)
        if address is None:
            return 0.0
        self._pool.open_soon(address, channel)
        return self._pool.wait_before(address)

    async def connection(self, node_id: int, channel: str = "") -> KafkaConnection:
        """The connection to a node, opened if need be. Raises KafkaConnectionError."""
        address = self.address(node_id)
        if address is None:
            raise KafkaConnectionError("its address is not known", broker=node_id)
        return await self._pool.get(address, channel)

    async def call(
        self,
        node_id: int,
        api_key: int,
        versions: tuple[int, int],
        values: Values,
        *,
        timeout: float | None = None,
        channel: str = "",
    ) -> Any:
        """Ask one node. Raises KafkaConnectionError, KafkaTimeoutError, UnsupportedVersionError."""
        address = self.address(node_id)
        if address is None:
            raise KafkaConnectionError("its address is not known", broker=node_id)
        return await self._call(address, api_key, versions, values, timeout, channel)

    async def call_any(
        self, api_key: int, versions: tuple[int, int], values: Values | Callable[[float], Values], **how: Unpack[How]
    ) -> Any:
        """The answer of any broker: `ask_any` for who need not know whose it is."""
        return (await self.ask_any(api_key, versions, values, **how)).answer

    async def ask_any(
        self,
        api_key: int,
        versions: tuple[int, int],
        values: Values | Callable[[float], Values],
        *,
        timeout: float | None = None,
        patience: float = PATIENCE,
        retry_if: Callable[[Any], ErrorCode | None] = lambda answer: None,
    ) -> Told:
        """Ask any broker, another one after each failure, until one answers and `retry_if` finds no error to retry.

        `patience` is how many seconds one broker may take; it doubles after each round in which every broker has taken
        too long. For a request that says itself how long the broker may take, `values` is a function of those seconds:
        the broker's own answer that it could not do it is waited for a little longer.
        Raises NoBrokersAvailable, KafkaTimeoutError, UnsupportedVersionError, or the last error that was to be retried.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (timeout or self.options.request_timeout)
        attempts = 0
        tried: set[Address] = set()
        while True:
            attempts += 1
            fresh = [address for address in self._choice.candidates() if address not in tried]
            if not fresh:
                tried.clear()
                patience *= 2
                fresh = self._choice.candidates()
            address = fresh[0]
            tried.add(address)
            seconds = min(max(deadline - loop.time(), 0.01), patience)
            error: KafkaError
            try:
                if callable(values):
                    answer = await self._call(address, api_key, versions, values(seconds), seconds + _GRACE, "")
                else:
                    answer = await self._call(address, api_key, versions, values, seconds, "")
                code = retry_if(answer)
                if code is None or code is ErrorCode.none:
                    self._choice.trust(address)
                    return Told(answer, self._node_at(address), attempts)
                error = error_for(code, broker=self._node_at(address))
                self._choice.doubt(address)
            except KafkaConnectionError as caught:
                error = NoBrokersAvailable(f"no broker answered: {caught.text}", broker=caught.broker)
            except KafkaTimeoutError as caught:
                self._choice.doubt(address)
                error = caught
            # Straight to the next broker; only a whole round in vain is followed by a pause.
            wait = self.options.backoff.delay(attempts, self.options.rng) if len(fresh) == 1 else 0.0
            if loop.time() + wait >= deadline:
                raise error.about(attempts=attempts)
            await asyncio.sleep(wait)

    def request_refresh(self) -> None:
        """Have metadata fetched soon: at once, or after a backoff if that has just been done in vain."""
        if self._refreshing is None and not self._closed:
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh_soon(), name="metadata refresh")

    def hint(self, tp: TopicPartition, leader_id: int, leader_epoch: int, endpoints: Iterable[NodeEndpoint]) -> bool:
        """Take in the leader that an error answer names, -1 if it names none (KIP-951). True if the partition has a
        newer leader now."""
        return self.metadata.apply_hint(tp, leader_id, leader_epoch, endpoints)

    async def until(self, condition: Callable[[], bool], timeout: float) -> None:
        """Refresh metadata until `condition` holds. Raises KafkaTimeoutError after `timeout` seconds,
        NoBrokersAvailable if no broker answered at all in that time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        answered = self._refreshed_at
        attempts = 0
        while not condition():
            attempts += self._refreshing is None
            self.request_refresh()
            task = self._refreshing
            if task is None:
                raise KafkaConnectionError("the client is closed")
            await asyncio.wait([task], timeout=max(0.0, deadline - loop.time()))
            if task.cancelled():
                raise KafkaConnectionError("the client is closed")
            if task.done():
                task.result()
            if not condition() and loop.time() >= deadline:
                if self._refreshed_at == answered:
                    servers = ", ".join(map(str, self._choice.candidates()))
                    raise NoBrokersAvailable(f"no broker answered within {timeout:g} s: {servers}", attempts=attempts)
                text = f"metadata did not show what was waited for within {timeout:g} s"
                raise KafkaTimeoutError(text, broker=self._told_by, attempts=attempts)

    async def refreshed(self) -> None:
        """Wait for metadata that was asked for after this call. Raises NoBrokersAvailable."""
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        await self.until(lambda: self._refreshed_at > asked_at, self.options.request_timeout)

    async def ensure_topic(self, topic: str, timeout: float) -> None:
        """Wait until a topic's partitions are known.

        Raises what the brokers say of the topic when the time is over or when waiting does not help.
        """
        self.topics.add(topic)

        def settled() -> bool:
            known = self.metadata.topics.get(topic)
            return known is not None and (bool(known.partitions) or not known.error.retriable)

        try:
            await self.until(settled, timeout)
        except NoBrokersAvailable:
            self.topics.discard(topic)
            raise
        except KafkaTimeoutError as error:
            known = self.metadata.topics.get(topic)
            self.topics.discard(topic)
            if known is not None and known.error is not ErrorCode.none:
                raise error_for(known.error, f"topic {topic!r}", **error.fields) from None
            raise
        known = self.metadata.topics[topic]
        if not known.partitions:
            self.topics.discard(topic)
            raise error_for(known.error, f"topic {topic!r}", broker=self._told_by)

    async def fetch_metadata(self, topics: Iterable[str] | None, timeout: float | None = None) -> Told:
        """A fresh Metadata answer of any broker about `topics` (None: all of them), without creating any."""
        names = None if topics is None else [{"name": name, "topic_id": None} for name in topics]
        values = {"topics": names, "allow_auto_topic_creation": False}
        return await self.ask_any(METADATA, METADATA_VERSIONS, values, timeout=timeout)

    # -- refreshing ----------------------------------------------------------------------------------------

    async def _refresh_soon(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            since = loop.time() - self._tried_at
            if since > 2 * self.options.backoff.limit:
                self._fruitless = 0
            elif self._fruitless:
                await asyncio.sleep(max(0.0, self.options.backoff.delay(self._fruitless, self.options.rng) - since))
            self._tried_at = loop.time()
            version = self.metadata.version
            everything = self.all_topics
            names = None if everything else [{"name": n, "topic_id": None} for n in sorted(self.topics)]
            values = {"topics": names, "allow_auto_topic_creation": self._allow_auto_create}
            answer, teller = await self._ask_quickly(values)
            if teller is not None:
                self.metadata.update(answer, all_topics=everything)
                self._told_by = self._node_at(teller)
                self._refreshed_at = loop.time()
            self._fruitless = 0 if self.metadata.version != version else self._fruitless + 1
        finally:
            self._refreshing = None
        self._notify()

    async def _ask_quickly(self, values: Values) -> tuple[Any, Address | None]:
        """Ask brokers for metadata: the next one as soon as one fails or is slow. The answer and whose it is; None if
        all fail."""
        asked: dict[asyncio.Task[Any], Address] = {}
        waiting: list[asyncio.Task[Any]] = []
        candidates = self._choice.candidates()
        try:
            while candidates or waiting:
                if candidates:
                    address = candidates.pop(0)
                    call = self._call(address, METADATA, METADATA_VERSIONS, values, 10.0, "")
                    waiting.append(asyncio.get_running_loop().create_task(call))
                    asked[waiting[-1]] = address
                await asyncio.wait(
                    waiting,
                    timeout=self.options.hedge if candidates else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                done = [task for task in waiting if task.done()]
                waiting = [task for task in waiting if not task.done()]
                for task in done:
                    error = task.exception()
                    if error is None:
                        return task.result(), asked[task]
                    if not isinstance(error, KafkaError):
                        raise error
            return None, None
        finally:
            for task in waiting:
                task.cancel()
            # All of them: one may have failed in the very moment in which another one answered.
            await asyncio.gather(*asked, return_exceptions=True)

    async def _age(self) -> None:
        while True:
            await asyncio.sleep(self.options.metadata_max_age)
            self.request_refresh()

    async def _call(
        self,
        address: Address,
        api_key: int,
        versions: tuple[int, int],
        values: Values,
        timeout: float | None,
        channel: str,
    ) -> Any:
        try:
            connection = await self._pool.get(address, channel)
            return await exchange(connection, api_key, versions, values, timeout or self.options.request_timeout)
        except KafkaError as error:
            raise error.about(broker=self._node_at(address)) from error.__cause__

    def _node_at(self, address: Address) -> int | None:
        return next((b.node_id for b in self.metadata.brokers.values() if Address(b.host, b.port) == address), None)

    def _on_connection(self, address: Address, up: bool) -> None:
        # Whoever led from there may be replaced already: know it before the next request needs it.
        if not up and self._node_at(address) is not None:
            self.request_refresh()
        self._notify()

    def _notify(self) -> None:
        for listener in self._listeners:
            listener()


async def exchange(
    connection: KafkaConnection, api_key: int, versions: tuple[int, int], values: Values, timeout: float
) -> Any:
    """One request on an open connection, in the highest common version, with this library's errors."""
    version = pick(connection, api_key, versions)
    try:
        return await connection.call(api_key, version, values, timeout=timeout)
    except RequestTimedOut as error:
        raise KafkaTimeoutError(str(error)) from error
    except (ConnectionLost, ProtocolError, OSError) as error:
        raise KafkaConnectionError(str(error) or type(error).__name__) from error


def code_of(number: int) -> ErrorCode:
    """The error code with this number. Raises ProtocolError."""
    try:
        return _CODES[number]
    except KeyError:
        raise ProtocolError(f"there is no error code {number}") from None


def pick(connection: KafkaConnection, api_key: int, versions: tuple[int, int]) -> int:
    """The highest common version. Raises UnsupportedVersionError."""
    try:
        return connection.pick(api_key, *versions)
    except ProtocolError as error:
        raise UnsupportedVersionError(str(error)) from error

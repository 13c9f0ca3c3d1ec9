"""The broker that coordinates a group or the transactions of an id, as far as one client knows it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from kio.schema.errors import ErrorCode

from ottla.client.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    error_for,
)
from ottla.client.logs import get_logger
from ottla.client.network import Network
from ottla.client.structs import BrokerMetadata

FIND_COORDINATOR: Final = 10
FIND_COORDINATOR_VERSIONS: Final = (0, 5)
GROUP_KEY: Final = 0
TRANSACTION_KEY: Final = 1
_WHAT: Final = {GROUP_KEY: "group", TRANSACTION_KEY: "transactional id"}
PATIENCE: Final = 1.0
"""Seconds that one broker may take to name the coordinator."""
DOUBT: Final = 2.0
"""Seconds without an answer after which others are asked whether the coordinator is still the same."""

CHANNEL: Final = "group"
JOIN_CHANNEL: Final = "join"
"""A join waits for all members, and holds up whatever follows it on its connection."""

GONE: Final = frozenset({ErrorCode.not_coordinator, ErrorCode.coordinator_not_available})
"""Answers after which the coordinator has to be looked up again."""

log = get_logger(__name__)

T = TypeVar("T")


class Coordinator:
    """Looks up who coordinates one group or one transactional id, asks it, and notices when it is another one."""

    def __init__(self, network: Network, key: str, key_type: int = GROUP_KEY) -> None:
        self.node: int | None = None
        self.asked: int | None = None
        """Who was asked last."""
        self._network = network
        self._key = key
        self._key_type = key_type
        self.what = f"{_WHAT[key_type]} {key!r}"
        self._finding: asyncio.Task[int] | None = None

    async def close(self) -> None:
        if self._finding is not None:
            self._finding.cancel()
            await asyncio.gather(self._finding, return_exceptions=True)

    def lost(self, node: int) -> None:
        """This node is not the coordinator, or cannot be reached."""
        if self.node == node:
            self.node = None

    async def find(self) -> int:
        """Its node id, however long it takes to learn it. Raises the error of an answer that waiting will not change,
        and UnsupportedVersionError."""
        if self.node is not None:
            return self.node
        if self._finding is None:
            self._finding = asyncio.get_running_loop().create_task(self._find(), name="find coordinator")
            self._finding.add_done_callback(self._found)
        return await asyncio.shield(self._finding)

    def _found(self, task: asyncio.Task[int]) -> None:
        self._finding = None
        if not task.cancelled() and task.exception() is None:
            self.node = task.result()

    async def _find(self) -> int:
        options = self._network.options
        attempts = 0
        while True:
            attempts += 1
            try:
                return await self._ask(attempts)
            except KafkaError as error:
                if not error.retriable:
                    raise
            await asyncio.sleep(options.backoff.delay(attempts, options.rng))

    async def _ask(self, attempts: int = 1) -> int:
        values = {"key": self._key, "key_type": self._key_type, "coordinator_keys": [self._key]}
        # Version 0 knows groups only.
        versions = (max(FIND_COORDINATOR_VERSIONS[0], self._key_type), FIND_COORDINATOR_VERSIONS[1])
        answer, teller, _ = await self._network.ask_any(
            FIND_COORDINATOR, versions, values, timeout=3 * PATIENCE, patience=PATIENCE
        )
        rows = getattr(answer, "coordinators", None)
        row = answer if rows is None else next((each for each in rows if each.key == self._key), None)
        code = ErrorCode.coordinator_not_available if row is None else row.error_code
        if row is None or code is not ErrorCode.none:
            text = getattr(row, "error_message", None) or f"coordinator of {self.what}"
            raise error_for(code, text, broker=teller, attempts=attempts)
        node = int(row.node_id)
        brokers = self._network.metadata.brokers
        known = brokers.get(node)
        if known is None or (known.host, known.port) != (row.host, row.port):
            brokers[node] = BrokerMetadata(node, row.host, row.port, known.rack if known is not None else None)
        return node

    async def call(
        self,
        api_key: int,
        versions: tuple[int, int],
        values: Mapping[str, Any],
        *,
        timeout: float,
        channel: str = CHANNEL,
    ) -> tuple[Any, int]:
        """The answer and who gave it. Raises what `find` and `Network.call` raise; whoever did not answer is no longer
        taken for the coordinator."""
        node = self.asked = await self.find()
        loop = asyncio.get_running_loop()
        work = self._network.call(node, api_key, versions, values, timeout=timeout, channel=channel)
        asking = loop.create_task(work, name=f"ask coordinator {node}")
        try:
            while not (await asyncio.wait([asking], timeout=DOUBT))[0]:
                # A paused broker shows as silence only; a join may rightly take minutes.
                if await self._moved(node) and not asking.done():
                    raise KafkaConnectionError(f"{self.what} is no longer coordinated by this broker", broker=node)
            return asking.result(), node
        except (KafkaConnectionError, KafkaTimeoutError):
            self.lost(node)
            raise
        finally:
            if not asking.done():
                asking.cancel()
            # Also what came too late for anybody to look at has been seen then.
            await asyncio.gather(asking, return_exceptions=True)

    async def _moved(self, node: int) -> bool:
        try:
            now = await self._ask()
        except KafkaError:
            # Nobody knows of another one.
            return False
        if now == node:
            return False
        log.info("coordinator_moved", key=self._key, of=_WHAT[self._key_type], old=node, new=now)
        self.node = now
        return True


async def at_coordinator(
    network: Network,
    key: str,
    timeout: float,
    ask: Callable[[Coordinator], Awaitable[T]],
    *,
    key_type: int = GROUP_KEY,
) -> T:
    """What the coordinator answers, whoever that is by then. Raises the last error in the end."""
    coordinator = Coordinator(network, key, key_type)
    options = network.options
    last: KafkaError = KafkaTimeoutError(f"no answer of the coordinator of {coordinator.what} within {timeout:g} s")
    attempts = 0
    try:
        async with asyncio.timeout(timeout):
            while True:
                attempts += 1
                try:
                    return await ask(coordinator)
                except KafkaError as error:
                    last = error
                    if not error.retriable:
                        break
                await asyncio.sleep(options.backoff.delay(attempts, options.rng))
    except TimeoutError:
        last = last.about(broker=last.broker or coordinator.asked)
    finally:
        await coordinator.close()
    raise last.about(attempts=attempts) from last.__cause__

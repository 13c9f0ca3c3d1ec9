"""Questions that every broker answers for its own part."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from kio.schema.errors import ErrorCode

from ottla.client.errors import error_for
from ottla.client.network import Network


async def ask_everybody(
    network: Network, api_key: int, versions: tuple[int, int], values: Mapping[str, Any], timeout: float
) -> dict[int, Any]:
    """The answers of all brokers, by broker, each asked again for so many seconds while it has an error to retry.

    Raises what one of them says in the end; KafkaConnectionError, KafkaTimeoutError.
    """
    await network.refreshed()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout

    async def ask(node: int) -> Any:
        attempts = 0
        while True:
            attempts += 1
            answer = await network.call(node, api_key, versions, values, timeout=timeout)
            code = answer.error_code
            if code is ErrorCode.none:
                return answer
            wait = network.options.backoff.delay(attempts, network.options.rng)
            if loop.time() + wait > deadline or not code.retriable:
                raise error_for(code, broker=node, attempts=attempts)
            await asyncio.sleep(wait)

    nodes = sorted(network.metadata.brokers)
    return dict(zip(nodes, await asyncio.gather(*map(ask, nodes)), strict=True))

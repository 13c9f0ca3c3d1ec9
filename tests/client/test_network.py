"""What the part below producer, consumer and admin does with its connections."""

from __future__ import annotations

import asyncio
import gc
import random
from typing import Any

import pytest

from ottla.client.errors import KafkaConnectionError
from ottla.client.network import Network
from ottla.client.options import Address, ClientOptions


@pytest.mark.parametrize("fails", [0, 1])
async def test_a_broker_that_fails_when_another_one_answers_is_not_left_unheard(
    fails: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metadata is asked for at two brokers, and both outcomes are there in one step of the loop."""
    options = ClientOptions(bootstrap=(Address("a", 1), Address("b", 2)), rng=random.Random(1), hedge=0.01)
    network = Network(options)
    both, asked = asyncio.Event(), 0

    async def call(*_: Any) -> str:
        nonlocal asked
        mine, asked = asked, asked + 1
        if asked == 2:
            asyncio.get_running_loop().call_soon(both.set)
        await both.wait()
        if mine == fails:
            raise KafkaConnectionError("reset")
        return "metadata"

    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    monkeypatch.setattr(network, "_call", call)
    answer, _ = await network._ask_quickly({})
    assert answer == "metadata"
    gc.collect()
    assert (asked, complaints) == (2, [])

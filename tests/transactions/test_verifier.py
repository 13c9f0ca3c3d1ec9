"""Leaders of partitions ask the coordinator of a transaction whether they are in it (KIP-890)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from kio.schema.errors import ErrorCode

from ottla.broker.transactions import Producer, verifier
from ottla.wire import ConnectionLost
from tests.broker.world import World

NONE = ErrorCode.none
P, Q = Producer(1000, 3), Producer(1001, 0)


class Coordinator:
    """Answers what `errors` has for (transactional id, partition index), and when `let_go` is set."""

    def __init__(self, world: World) -> None:
        self.errors: dict[tuple[str, int], ErrorCode] = {}
        self.let_go = asyncio.Event()
        self.seen: list[list[tuple[str, int, bool, list[int]]]] = []
        self.lost = False
        world.peers.answer = self.answer

    async def answer(self, _node_id: int, _key: int, request: Any) -> Mapping[str, Any]:
        self.seen.append(
            [
                (
                    row.transactional_id,
                    row.producer_epoch,
                    row.verify_only,
                    [index for topic in row.topics for index in topic.partitions],
                )
                for row in request.transactions
            ]
        )
        await self.let_go.wait()
        if self.lost:
            raise ConnectionLost("gone")
        return {"results_by_transaction": [self.row(row) for row in request.transactions]}

    def row(self, row: Any) -> dict[str, Any]:
        name = row.transactional_id
        return {
            "transactional_id": name,
            "topic_results": [
                {
                    "name": topic.name,
                    "results_by_partition": [
                        {"partition_index": index, "partition_error_code": self.errors.get((name, index), NONE)}
                        for index in topic.partitions
                    ],
                }
                for topic in row.topics
            ],
        }


async def test_what_comes_meanwhile_goes_together_in_the_next_request(world: World) -> None:
    world.add_topic("__transaction_state", replicas=(2, 3), leader=2)
    coordinator = Coordinator(world)
    coordinator.errors = {("a", 1): ErrorCode.transaction_abortable, ("c", 0): ErrorCode.producer_fenced}
    ask = world.broker.context.verifier.ask
    first = ask("a", P, ("t", 0), add=False)
    rest = [
        ask("a", P, ("t", 1), add=False),
        ask("a", P, ("t", 2), add=False),
        ask("c", Q, ("t", 0), add=True),
        ask("a", P, ("t", 0), add=True),
    ]
    async with asyncio.timeout(10):
        while not coordinator.seen:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert not first.done()
        coordinator.let_go.set()
        assert await first is NONE
        found = [await each for each in rest]
    assert found == [ErrorCode.transaction_abortable, NONE, ErrorCode.invalid_producer_epoch, NONE]
    assert coordinator.seen == [
        [("a", 3, True, [0])],
        [("a", 3, True, [1, 2]), ("c", 0, False, [0])],
        [("a", 3, False, [0])],
    ]


async def test_a_coordinator_that_cannot_be_asked(world: World) -> None:
    coordinator = Coordinator(world)
    ask = world.broker.context.verifier.ask
    assert await ask("a", P, ("t", 0), add=False) is ErrorCode.coordinator_not_available
    world.add_topic("__transaction_state", replicas=(2, 3), leader=2)
    coordinator.lost = True
    coordinator.let_go.set()
    assert await ask("a", P, ("t", 0), add=False) is ErrorCode.network_exception
    coordinator.lost = False
    assert await ask("a", P, ("t", 0), add=False) is NONE, "it may be asked again"


async def test_questions_are_bounded_and_nobody_waits_for_a_broker_that_ends(world: World, monkeypatch: Any) -> None:
    monkeypatch.setattr(verifier, "MAX_WAITING", 2)
    world.add_topic("__transaction_state", replicas=(2, 3), leader=2)
    Coordinator(world)
    asked = [world.broker.context.verifier.ask("a", P, ("t", index), add=False) for index in range(4)]
    assert [each.done() for each in asked] == [False, False, False, True]
    assert asked[3].result() is ErrorCode.coordinator_not_available
    await world.close()
    await asyncio.sleep(0)
    assert [each.result() for each in asked[:3]] == [ErrorCode.network_exception] * 3

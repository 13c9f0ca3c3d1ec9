"""The active controller and the view over the real Raft driver, with its log in memory."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

from ottla.controller import (
    ActiveController,
    ControllerSettings,
    Message,
    MetadataView,
    RaftConfig,
    RaftDriver,
    RaftStatus,
)
from ottla.controller.metadata import Policy
from ottla.controller.rpc import CreateTopics, Heartbeat, NewTopic, RegisterBrokerResponse
from tests.metadata.cluster import CLUSTER_ID, check_invariants, registration
from tests.raft.memory_storage import MemoryStorage


class NoPeers:
    def send(self, to: int, message: Message) -> None:
        raise AssertionError("a quorum of one has nobody to send to")


class Node:
    """A quorum of one. `leading` is set once it reigns."""

    def __init__(self, storage: MemoryStorage) -> None:
        self.view = MetadataView(CLUSTER_ID)
        self.driver = RaftDriver(
            RaftConfig(1, frozenset({1})),
            storage,
            NoPeers(),
            random.Random(0),
            run_blocking=self._run_blocking,
            on_apply=self.view.on_apply,
            on_snapshot=self.view.on_snapshot,
            snapshot_source=self.view.snapshot_source,
            snapshot_entries=20,
        )
        self.controller = ActiveController(
            1, self.driver, self.view, ControllerSettings(Policy(), rebalance_interval_s=None), random.Random(0)
        )
        self.leading = asyncio.Event()
        self.driver.subscribe(self.controller.on_status)
        self.driver.subscribe(self._note)

    def _note(self, status: RaftStatus) -> None:
        if status.leading:
            self.leading.set()

    async def _run_blocking(self, function: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, function)

    async def start(self) -> "Node":
        await self.driver.start()
        async with asyncio.timeout(10):
            await self.leading.wait()
        return self

    async def stop(self) -> None:
        self.controller.stop()
        await self.driver.stop()


async def test_what_was_answered_is_there_after_a_restart_through_snapshots() -> None:
    storage = MemoryStorage()
    node = await Node(storage).start()
    registered = await node.controller.handle(registration(1), 1)
    assert isinstance(registered, RegisterBrokerResponse)
    assert registered.epoch == registered.offset, "nothing but decisions is in the log within a term"
    await node.controller.handle(
        Heartbeat(node_id=1, epoch=registered.epoch, applied_offset=node.view.image.offset), caller=1
    )
    topics = [CreateTopics(topics=(NewTopic(name=f"t{i}", partitions=2),)) for i in range(60)]
    answers = await asyncio.gather(*(node.controller.handle(request, 1) for request in topics))
    assert not any(answer.error for answer in answers)
    assert [answer.offset for answer in answers] == sorted(answer.offset for answer in answers)
    image = await node.view.wait_for(answers[-1].offset, timeout=10)
    assert len(image.topics) == 60
    check_invariants(image)
    await node.stop()

    again = await Node(storage).start()
    assert again.view.image.topics == image.topics
    assert again.view.image.brokers == image.brokers
    second = await again.controller.handle(registration(1, "second"), 1)
    assert isinstance(second, RegisterBrokerResponse)
    assert not second.error
    assert second.epoch > registered.epoch
    await again.stop()

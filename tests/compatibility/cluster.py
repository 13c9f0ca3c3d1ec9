"""A real three-node cluster as plain functions see it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from ottla.cluster import NodeState, Supervisor, free_base_port, prepare
from ottla.wire import KafkaConnection
from tests.compatibility.background import BackgroundLoop
from tests.compatibility.model import Admin

T = TypeVar("T")

METADATA, METADATA_VERSION = 3, 12


def eventually(probe: Callable[[], T | None], what: str, *, within: float = 20.0) -> T:
    """Ask until ``probe`` gives something else than None or False; AssertionError when the time is over."""
    deadline = time.monotonic() + within
    while True:
        found = probe()
        if found is not None and found is not False:
            return found
        assert time.monotonic() < deadline, f"not within {within:g} s: {what}"
        time.sleep(0.02)


class Cluster:
    """Node processes below one directory; whatever changes a node returns when the change has taken place."""

    def __init__(self, loop: BackgroundLoop, supervisor: Supervisor) -> None:
        self._loop = loop
        self._supervisor = supervisor
        self.layout = supervisor.layout

    @classmethod
    def start_new(
        cls,
        loop: BackgroundLoop,
        directory: Path,
        nodes: int,
        settings: Mapping[str, str | int | bool],
        *,
        racks: bool = False,
    ) -> Cluster:
        """Prepare and start ``nodes`` nodes on free ports; with ``racks`` node n stands in rack-n."""

        async def start() -> Supervisor:
            layout = prepare(directory, nodes=nodes, base_port=free_base_port(nodes), settings=settings)
            for node in layout.nodes if racks else ():
                with node.config_file.open("a", encoding="utf-8") as config:
                    config.write(f'"broker.rack" = "rack-{node.id}"\n')
            supervisor = Supervisor(layout)
            await supervisor.start()
            return supervisor

        return cls(loop, loop.run(start()))

    @property
    def bootstrap(self) -> str:
        return self.layout.bootstrap

    def kill(self, node: int) -> None:
        """SIGKILL."""

        async def kill() -> None:
            process = self._supervisor.node(node)
            process.kill()
            await process.gone()

        self._loop.run(kill())

    def stop(self, node: int) -> None:
        """SIGTERM, until the node has ended by itself."""
        self._loop.run(self._supervisor.node(node).stop())

    def start(self, node: int) -> None:
        """Until the node is ready."""
        self._loop.run(self._supervisor.node(node).start())

    def restore(self) -> None:
        """Every node runs, whatever a test left behind."""

        def starts() -> list[Coroutine[None, None, None]]:
            processes = self._supervisor.nodes.values()
            return [process.start() for process in processes if process.state is NodeState.DOWN]

        async def restore() -> None:
            await asyncio.gather(*starts())

        self._loop.run(restore())

    def down(self) -> None:
        """Stop every node."""
        self._loop.run(self._supervisor.stop(within=10.0))

    def make(self, admin: Admin, topic: str, *words: int, **more: Any) -> None:
        """Have ``admin`` create the topic, and wait until every node knows it.

        Whoever asks another broker right after the answer may be told, by Kafka too, that there is no such topic.
        """
        admin.create(topic, *words, **more)
        self.wait_until_known(topic)

    def wait_until_known(self, topic: str, partitions: int | None = None) -> None:
        """Until every node has the same topic of that name, with so many partitions if that is given."""

        def known() -> bool:
            found = {self._loop.run(_describe(node.kafka, topic)) for node in self.layout.nodes}
            return len(found) == 1 and all(one and partitions in (None, one[1]) for one in found)

        eventually(known, f"every node knows {topic}")

    def partition_directory(self, node: int, topic: str, partition: int) -> Path:
        return self.layout.node(node).data_directory / f"{topic}-{partition}"


async def _describe(address: str, topic: str) -> tuple[UUID, int] | None:
    """The topic's id and number of partitions as one node has them; None when it does not know the topic."""
    host, _, port = address.rpartition(":")
    connection = await KafkaConnection.open(host, int(port), timeout=5.0)
    try:
        values = {"topics": [{"name": topic}], "allow_auto_topic_creation": False}
        answer = await connection.call(METADATA, METADATA_VERSION, values)
    finally:
        connection.abort()
    (found,) = answer.topics
    return None if found.error_code else (found.topic_id, len(found.partitions))

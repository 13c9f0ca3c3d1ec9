"""What the scenarios share: one partition to look at, what was acknowledged of it, and the question at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from ottla.broker import Partition
from ottla.client import TopicPartition
from ottla.simulation import Anomaly, SimulatedCluster, SimulationError, run
from ottla.simulation.messages import Message
from ottla.simulation.replicas import replicas_are_equal
from ottla.wire import FetchResponse, decode_fetch_response

T = TypeVar("T")

TOPIC, PARTITIONS = "orders", 5
# In front of a response's body: the correlation id, and no tagged fields.
_RESPONSE_HEADER = 5
_FETCH_VERSION = 17


class Broken(Exception):
    """A promise was not kept."""


class Stage:
    """`index` is a partition of TOPIC that no replica of leads the controllers too, so that their RPC can be held;
    `replicas` are its replicas, in the order in which they are elected. `acknowledged`: values by offset. `patience`:
    virtual seconds for everything to be well at the end."""

    def __init__(self, cluster: SimulatedCluster, index: int) -> None:
        self.cluster = cluster
        self.index = index
        self.acknowledged: dict[int, bytes] = {}
        self.patience = 20.0
        self.replicas = self.image().replicas

    def image(self, node_id: int | None = None) -> Any:
        """The partition in the metadata of a node; of the active controller if not said otherwise."""
        node = self.cluster.nodes[self.cluster.controller() if node_id is None else node_id].node
        return node.quorum.view.image.topics[TOPIC].partitions[self.index]

    def on(self, node_id: int) -> Partition:
        found = self.cluster.partition_on(node_id, TOPIC, self.index)
        if found is None:
            raise SimulationError(f"node {node_id} has no replica")
        return found

    def leader(self) -> int:
        return self.cluster.leader(TOPIC, self.index)

    def others(self, *but: int) -> list[int]:
        """The replicas without these."""
        return [node_id for node_id in self.replicas if node_id not in but]

    def everybody_but(self, *but: int) -> list[int]:
        return [node_id for node_id in self.cluster.nodes if node_id not in but]

    async def write(self, value: bytes, **options: Any) -> int:
        """One record, by a producer of its own; `options` are the producer's. Returns its offset."""
        async with self.cluster.producer(linger_ms=0, **options) as producer:
            offset: int = (await producer.send_and_wait(TOPIC, value, partition=self.index)).offset
        if options.get("acks", "all") == "all":
            if offset in self.acknowledged:
                raise Broken(f"{self.acknowledged[offset]!r} and {value!r} were both acknowledged at {offset}")
            self.acknowledged[offset] = value
        return offset

    async def led_by_another(self, before: int, *, within: float = 30.0) -> int:
        """Once somebody else than `before` leads in the eyes of the controller and in its own. Returns who."""

        def changed() -> bool:
            try:
                leader = self.image().leader
            except SimulationError:
                return False
            return leader not in (before, -1) and self.cluster.nodes[leader].alive and self.on(leader).is_leader

        await self.cluster.until(changed, f"node {before} is replaced as leader", within=within)
        return int(self.image().leader)

    # -- the end

    async def ends_well(self) -> None:
        """Heal everything, start everybody, and look. Raises Broken, TimeoutError."""
        cluster = self.cluster
        cluster.heal()
        for node in cluster.nodes.values():
            node.resume()
            if not node.alive:
                node.start()
        await cluster.until(lambda: cluster.full(TOPIC), "every replica is in sync", within=self.patience)
        offset = await asyncio.wait_for(self.write(b"the end"), self.patience)
        await cluster.until(lambda: self._settled(offset + 1), "everybody has everything", within=self.patience)
        try:
            replicas_are_equal(cluster, TOPIC, PARTITIONS)
        except Anomaly as different:
            raise Broken(str(different)) from different
        records = await self.read()
        for at, value in self.acknowledged.items():
            if records.get(at) != value:
                raise Broken(f"{value!r} was acknowledged at {at}, where there is {records.get(at)!r} now")

    def _settled(self, end: int) -> bool:
        ends = {self.on(node_id).high_watermark for node_id in self.replicas}
        return ends | {self.on(node_id).log_end_offset for node_id in self.replicas} == {end}

    async def read(self) -> dict[int, bytes]:
        """Everything in the partition, as somebody sees it who comes late."""
        where = TopicPartition(TOPIC, self.index)
        end = self.on(self.leader()).high_watermark
        found: dict[int, bytes] = {}
        async with self.cluster.consumer(auto_offset_reset="earliest") as consumer:
            consumer.assign([where])
            async with asyncio.timeout(self.patience):
                while await consumer.position(where) < end:
                    for records in (await consumer.getmany(timeout_ms=500)).values():
                        found |= {record.offset: record.value for record in records}
        return found


def fetched(message: Message) -> FetchResponse:
    """What a leader answered to a follower."""
    return decode_fetch_response(memoryview(message.body)[_RESPONSE_HEADER:], _FETCH_VERSION)


def tells_high_watermark(stage: Stage, at_least: int) -> Callable[[Message], bool]:
    """For `hold`: an answer to a follower's fetch from which it learns of such a high watermark."""

    def tells(message: Message) -> bool:
        rows = [row for _, rows in fetched(message).topics for row in rows]
        return any(row.partition == stage.index and row.high_watermark >= at_least for row in rows)

    return tells


def play(
    story: Callable[[Stage], Awaitable[T]],
    *,
    seed: int = 1,
    nodes: int = 5,
    watched: bool = True,
    patience: float = 20.0,
    configs: dict[str, str] | None = None,
    **settings: str,
) -> T:
    """Run a story in a new cluster, up to and with `ends_well`. Settings and configs are Kafka's, with underscores.

    Without `watched` the invariants are not looked after: what comes out is then what a user would see of it.
    Raises Broken, Anomaly.
    """

    async def scenario() -> T:
        names = {name.replace("_", "."): value for name, value in settings.items()}
        async with SimulatedCluster(nodes=nodes, settings=names) as cluster:
            if not watched:
                cluster.invariants.leave()
            await cluster.create_topic(TOPIC, PARTITIONS, **(configs or {}))
            image = cluster.nodes[cluster.controller()].node.quorum.view.image.topics[TOPIC]  # type: ignore[union-attr]
            free = [index for index, state in image.partitions.items() if cluster.controller() not in state.replicas]
            stage = Stage(cluster, free[0] if free else 0)
            stage.patience = patience
            try:
                result = await story(stage)
                await stage.ends_well()
            except TimeoutError as error:
                raise Broken(f"it never ends: {error}") from error
            if cluster.world.complaints:
                raise Broken(f"nobody handled {cluster.world.complaints[:2]}")
            return result

    return run(scenario, f"scenario {seed}")

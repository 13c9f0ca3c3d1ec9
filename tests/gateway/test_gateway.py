"""The HTTP listener: health, readiness with reasons, and metrics under the names that dashboards know."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ottla.broker.replication import LeaderState
from ottla.controller import BrokerImage, Delta, Listener, MetadataImage, PartitionImage, TopicImage
from ottla.gateway import Gateway, MetadataChanges, NodeViews, ReplicaRow, replica_rows
from ottla.gateway import app as app_module
from ottla.log import CleanerStatus
from ottla.wire import Stats

TOPIC = UUID(int=1)


def image(*partitions: PartitionImage, offset: int = 7) -> MetadataImage:
    brokers = {
        id: BrokerImage(id, 1, f"life-{id}", (Listener("PLAINTEXT", f"node-{id}", 9092),), fenced=id == 3)
        for id in (1, 2, 3)
    }
    topic = TopicImage(TOPIC, "events", dict(enumerate(partitions)))
    return MetadataImage("c1", offset, brokers, {"events": topic}, {TOPIC: "events"})


def partition(leader: int, isr: tuple[int, ...], epoch: int = 4) -> PartitionImage:
    return PartitionImage((1, 2, 3), isr, leader, epoch, 9)


def row(index: int, *, leads: bool, in_sync: int) -> ReplicaRow:
    followers = {2: 95, 3: -1} if leads else {}
    return ReplicaRow(
        "events", index, leads, 4, 90, 10, 100, 4096, 2, 3, in_sync, followers, last_stable_offset=85, producers=2
    )


@dataclass
class Quorum:
    leader_id: int = 1
    term: int = 6
    high_watermark: int = 41


@dataclass
class Fake:
    active: bool = True
    reasons: dict[str, str] = field(default_factory=dict)
    stats: Stats = field(default_factory=Stats)
    base: str = ""

    def views(self) -> NodeViews:
        state = image(partition(1, (1, 2)), partition(2, (2,)), partition(-1, ()))
        return NodeViews(
            node_id=1,
            reasons_not_ready=lambda: self.reasons,
            image=lambda: state,
            quorum=Quorum,
            is_active_controller=lambda: self.active,
            raft_log_end=lambda: 42,
            raft_dropped=lambda: 5,
            standings=lambda: {2: "watching", 3: "dead"},
            replicas=lambda: [row(0, leads=True, in_sync=2), row(1, leads=False, in_sync=1)],
            traffic=lambda: self.stats,
            changes=lambda: MetadataChanges(1, state),
            cleaner=lambda: CleanerStatus(3, 0.755),
        )

    async def get(self, path: str) -> tuple[int, str, str]:
        async with aiohttp.ClientSession() as session, session.get(self.base + path) as response:
            return response.status, response.content_type, await response.text()

    async def samples(self) -> dict[tuple[str, ...], float]:
        _, _, text = await self.get("/metrics")
        found: dict[tuple[str, ...], float] = {}
        for family in text_string_to_metric_families(text):
            assert family.documentation
            for sample in family.samples:
                key = (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items())))
                assert key not in found
                found[key] = sample.value
        return found


@pytest.fixture
async def fake() -> AsyncIterator[Fake]:
    fake = Fake()
    gateway = Gateway(fake.views())
    fake.base = f"http://127.0.0.1:{await gateway.start('127.0.0.1', 0)}"
    yield fake
    await gateway.stop()


async def test_health_is_about_the_process_only(fake: Fake) -> None:
    fake.reasons = {"broker": "fenced"}
    status, kind, text = await fake.get("/healthz")
    assert (status, kind, text) == (200, "application/json", '{"status": "ok", "node": 1}\n')


async def test_readiness_gives_its_reasons(fake: Fake) -> None:
    assert (await fake.get("/readyz"))[::2] == (200, '{"ready": true, "node": 1, "reasons": {}}\n')
    fake.reasons = {"broker": "fenced"}
    assert (await fake.get("/readyz"))[::2] == (
        503,
        '{"ready": false, "node": 1, "reasons": {"broker": "fenced"}}\n',
    )


async def test_metrics_of_the_cluster_come_from_the_active_controller(fake: Fake) -> None:
    samples = await fake.samples()
    assert samples["kafka_brokers",] == 2
    assert samples["kafka_broker_info", "address=node-2:9092", "id=2"] == 1
    assert samples["kafka_topic_partitions", "topic=events"] == 3
    assert samples["kafka_topic_partition_leader", "partition=2", "topic=events"] == -1
    assert samples["kafka_topic_partition_in_sync_replica", "partition=0", "topic=events"] == 2
    assert samples["kafka_topic_partition_leader_is_preferred", "partition=0", "topic=events"] == 1
    assert samples["kafka_topic_partition_leader_is_preferred", "partition=1", "topic=events"] == 0
    assert samples["kafka_topic_partition_under_replicated_partition", "partition=1", "topic=events"] == 1
    assert samples["kafka_controller_kafkacontroller_offlinepartitionscount", "node=1"] == 1
    fake.active = False
    names = {key[0] for key in await fake.samples()}
    assert "kafka_brokers" not in names
    assert "kafka_topic_partition_leader" not in names
    assert "kafka_topic_partition_current_offset" in names


async def test_offsets_come_from_the_partitions_leader_only(fake: Fake) -> None:
    samples = await fake.samples()
    assert samples["kafka_topic_partition_current_offset", "partition=0", "topic=events"] == 90
    assert samples["kafka_topic_partition_oldest_offset", "partition=0", "topic=events"] == 10
    assert ("kafka_topic_partition_current_offset", "partition=1", "topic=events") not in samples


async def test_metrics_of_this_node(fake: Fake) -> None:
    fake.stats.requests.update({0: 11, 1: 22, 18: 3})
    fake.stats.bytes_in = 1234
    samples = await fake.samples()
    assert samples["kafka_server_replicamanager_partitioncount", "node=1"] == 2
    assert samples["kafka_server_replicamanager_leadercount", "node=1"] == 1
    assert samples["kafka_server_replicamanager_underreplicatedpartitions", "node=1"] == 1
    assert samples["kafka_server_replicamanager_atminisrpartitioncount", "node=1"] == 1
    assert samples["kafka_server_replicamanager_reassigningpartitions", "node=1"] == 0
    assert samples["kafka_server_replicamanager_produceridcount", "node=1"] == 4
    assert samples["kafka_server_replicamanager_partitionswithlatetransactionscount", "node=1"] == 0
    assert samples["kafka_cluster_partition_laststableoffsetlag", "node=1", "partition=0", "topic=events"] == 5
    assert samples["kafka_cluster_partition_underminisr", "node=1", "partition=0", "topic=events"] == 0
    assert samples["kafka_log_log_size", "node=1", "partition=1", "topic=events"] == 4096
    assert samples["kafka_controller_kafkacontroller_activecontrollercount", "node=1"] == 1
    assert samples["kafka_server_raftmetrics_current_epoch", "node=1"] == 6
    assert samples["kafka_server_raftmetrics_high_watermark", "node=1"] == 41
    assert samples["kafka_server_raftmetrics_log_end_offset", "node=1"] == 42
    assert samples["kafka_server_brokertopicmetrics_totalproducerequests_total", "node=1"] == 11
    assert samples["kafka_server_brokertopicmetrics_totalfetchrequests_total", "node=1"] == 22
    assert samples["ottla_requests_total", "api=ApiVersions", "node=1"] == 3
    assert samples["ottla_network_received_bytes_total", "node=1"] == 1234
    assert samples["ottla_replica_lag", "partition=0", "replica=2", "topic=events"] == 5
    assert ("ottla_replica_lag", "partition=0", "replica=3", "topic=events") not in samples
    assert samples["ottla_peer_standing", "node=1", "peer=3", "standing=dead"] == 1
    assert samples["ottla_raft_messages_dropped_total", "node=1"] == 5
    assert samples["ottla_ready", "node=1"] == 1
    assert samples["kafka_log_logcleanermanager_uncleanable_partitions_count", "node=1"] == 3
    assert samples["kafka_log_logcleanermanager_max_dirty_percent", "node=1"] == 75


async def test_two_nodes_in_one_process_do_not_mix(fake: Fake) -> None:
    other = Gateway(Fake(active=False).views())
    port = await other.start("127.0.0.1", 0)
    await fake.samples()
    second = Fake(base=f"http://127.0.0.1:{port}")
    assert ("kafka_brokers",) not in await second.samples()
    await other.stop()


async def test_unknown_paths_and_methods_are_refused(fake: Fake) -> None:
    assert (await fake.get("/secrets"))[0] == 404
    async with aiohttp.ClientSession() as session, session.post(fake.base + "/healthz") as response:
        assert response.status == 405


async def test_connections_are_bounded(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "MAX_CONNECTIONS", 1)
    port = int(fake.base.rpartition(":")[2])
    _, first = await asyncio.open_connection("127.0.0.1", port)
    first.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    await first.drain()
    second, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(5):
        assert await second.read() == b""
    first.close()
    writer.close()


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (partition(1, (1, 2, 3)), partition(1, (1, 2)), (1, 0, 0, 0)),
        (partition(1, (1, 2)), partition(1, (1, 2, 3)), (0, 1, 0, 0)),
        (partition(2, (1, 2)), partition(2, (2,)), (0, 0, 0, 0)),  # for node 2 to count
        (partition(2, (1, 2)), partition(1, (1,), 5), (0, 0, 1, 0)),
        (partition(2, (2,)), partition(1, (1,), 5), (0, 0, 1, 1)),
        (partition(-1, (1,)), partition(1, (1,), 5), (0, 0, 1, 0)),
        (partition(1, (1,)), partition(1, (1,), 5), (0, 0, 0, 0)),
    ],
)
def test_each_change_is_counted_by_one_node(
    before: PartitionImage, after: PartitionImage, expected: tuple[int, ...]
) -> None:
    changes = MetadataChanges(1, image(before))
    changes.see(image(after, offset=8), Delta(partitions=frozenset({("events", 0)})))
    seen: Any = (changes.isr_shrinks, changes.isr_expands, changes.elections, changes.unclean_elections)
    assert seen == expected


class Producers:
    """Of a log in which a transaction is open."""

    oldest_transaction_ms = 1000

    def __len__(self) -> int:
        return 3


def test_rows_of_a_led_a_followed_and_an_unopened_replica() -> None:
    leader = LeaderState(
        node_id=1,
        image=partition(1, (1, 2)),
        log_end=100,
        durable_end=100,
        high_watermark=90,
        min_insync=2,
        max_lag_s=30.0,
        now=0.0,
    )
    common = {
        "topic": "events",
        "index": 0,
        "leader_epoch": 4,
        "high_watermark": 90,
        "log_start_offset": 10,
        "log_end_offset": 100,
        "min_insync": 2,
        "last_stable_offset": 85,
        "log": SimpleNamespace(size=4096, producers=Producers()),
        "image": partition(1, (1, 2)),
    }
    led = SimpleNamespace(**common, role=leader, is_leader=True)
    followed = SimpleNamespace(**common, role=object(), is_leader=False)
    unopened = SimpleNamespace(**common | {"log": None}, role=object(), is_leader=False)
    moving = SimpleNamespace(
        **common | {"image": replace(partition(1, (1, 2)), adding=(3,))}, role=leader, is_leader=True
    )
    rows = list(replica_rows(cast(Any, [led, followed, unopened, moving])))
    base = ReplicaRow(
        "events", 0, True, 4, 90, 10, 100, 4096, 2, 3, 2, {2: -1, 3: -1}, last_stable_offset=85, producers=3
    )
    assert rows == [base, base._replace(is_leader=False, followers={}), base._replace(replicas=2, reassigning=True)]
    (late,) = replica_rows(cast(Any, [led]), late_before_ms=1001)
    assert late == base._replace(late=True)


def test_importing_the_gateway_does_not_import_prometheus() -> None:
    code = "import sys, ottla.gateway; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

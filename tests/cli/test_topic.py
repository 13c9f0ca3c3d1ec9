"""`ottla topic`, `ottla config`, `ottla quota` and `ottla log-dirs` against nodes of our own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from ottla.client import Admin, NewTopic, Producer
from tests.cli.running import asked, ottla, refused, serving, told

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with serving(tmp_path_factory.mktemp("cli"), nodes=2) as servers:
        yield servers


@pytest_asyncio.fixture(loop_scope="module")
async def topic(bootstrap: str, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """Two partitions on both nodes, five records in the first; a topic of its own for each test."""
    name = request.node.name
    async with Admin(bootstrap_servers=bootstrap) as admin, Producer(bootstrap_servers=bootstrap) as producer:
        await admin.create_topics([NewTopic(name, 2, 2)])
        for number in range(5):
            await producer.send_and_wait(name, b"%d" % number, partition=0)
    yield name


class TestTopic:
    async def test_create_with_everything(self, bootstrap: str) -> None:
        words = ("topic", "create", "made", "--replica-assignment", "2:1,1:2", "-c", "retention.ms=5000")
        assert await told(*words, "--validate-only", bootstrap=bootstrap) == "Valid topic made.\n"
        assert "made" not in await told("topic", "list", bootstrap=bootstrap)
        assert await told(*words, bootstrap=bootstrap) == "Created topic made.\n"
        (found,) = await asked("topic", "describe", "made", bootstrap=bootstrap)
        assert [one["replicas"] for one in found["partitions"]] == [[2, 1], [1, 2]]
        assert found["configs"] == {"retention.ms": "5000"}
        assert "TOPIC_ALREADY_EXISTS" in await refused(*words, bootstrap=bootstrap)

    async def test_describe_in_kafkas_lines(self, bootstrap: str, topic: str) -> None:
        lines = (await told("topic", "describe", topic, bootstrap=bootstrap)).splitlines()
        assert lines[0].startswith(f"Topic: {topic}\tTopicId: ")
        assert "PartitionCount: 2\tReplicationFactor: 2\tConfigs: " in lines[0]
        assert lines[1].startswith(f"\tTopic: {topic}\tPartition: 0\tLeader: ")
        assert "\tElr: \tLastKnownElr: " in lines[1]

    async def test_only_the_partitions_that_somebody_should_look_at(self, bootstrap: str, topic: str) -> None:
        for flag in ("--under-replicated-partitions", "--unavailable-partitions", "--under-min-isr-partitions"):
            assert await told("topic", "describe", topic, flag, bootstrap=bootstrap) == ""
        await told("topic", "alter", topic, "-c", "min.insync.replicas=2", bootstrap=bootstrap)
        lines = await told("topic", "describe", topic, "--at-min-isr-partitions", bootstrap=bootstrap)
        assert lines.count(f"\tTopic: {topic}\tPartition: ") == 2
        await told("topic", "alter", topic, "-c", "min.insync.replicas=3", bootstrap=bootstrap)
        found = await asked("topic", "describe", "--under-min-isr-partitions", bootstrap=bootstrap)
        assert [one["name"] for one in found] == [topic]
        assert topic in await told("topic", "describe", "--topics-with-overrides", bootstrap=bootstrap)

    async def test_where_partitions_begin_and_end(self, bootstrap: str, topic: str) -> None:
        rows = await asked("topic", "describe", topic, "-o", bootstrap=bootstrap)
        assert [(row["partition"], row["log_start_offset"], row["high_watermark"]) for row in rows] == [
            (0, 0, 5),
            (1, 0, 0),
        ]
        out = await told("topic", "describe", topic, "--offsets", bootstrap=bootstrap)
        assert out.split("\n")[0].split() == [
            "TOPIC",
            "PARTITION",
            "LEADER",
            "EPOCH",
            "REPLICAS",
            "LOG-START-OFFSET",
            "HIGH-WATERMARK",
        ]

    async def test_alter(self, bootstrap: str, topic: str) -> None:
        words = ("topic", "alter", topic, "-p", "3", "--replica-assignment", "2:1", "-c", "retention.ms=7")
        assert "could be altered" in await told(*words, "--validate-only", bootstrap=bootstrap)
        assert await told(*words, bootstrap=bootstrap) == f"Altered topic {topic}.\n"
        (found,) = await asked("topic", "describe", topic, bootstrap=bootstrap)
        assert found["partitions"][2]["replicas"] == [2, 1]
        assert found["configs"] == {"retention.ms": "7"}
        await told("topic", "alter", topic, "--delete-config", "retention.ms", bootstrap=bootstrap)
        (found,) = await asked("topic", "describe", topic, bootstrap=bootstrap)
        assert found["configs"] == {}
        assert "INVALID_PARTITIONS" in await refused("topic", "alter", topic, "-p", "1", bootstrap=bootstrap)
        assert "nothing to alter" in await refused("topic", "alter", topic, bootstrap=bootstrap, status=2)

    async def test_delete_records(self, bootstrap: str, topic: str, tmp_path: Path) -> None:
        rows = await asked("topic", "delete-records", topic, "--offset", "2", "-p", "0", bootstrap=bootstrap)
        assert rows == [{"topic": topic, "partition": 0, "low_watermark": 2}]
        out = await told("topic", "delete-records", topic, "--offset", "end", bootstrap=bootstrap)
        assert [line.split() for line in out.splitlines()] == [
            ["TOPIC", "PARTITION", "LOW-WATERMARK"],
            [topic, "0", "5"],
            [topic, "1", "0"],
        ]
        file = tmp_path / "offsets.json"
        file.write_text(json.dumps({"partitions": [{"topic": topic, "partition": 1, "offset": 0}], "version": 1}))
        rows = await asked("topic", "delete-records", "--offset-json-file", str(file), bootstrap=bootstrap)
        assert rows == [{"topic": topic, "partition": 1, "low_watermark": 0}]
        words = ("topic", "delete-records", topic, "--offset", "9")
        assert "OFFSET_OUT_OF_RANGE" in await refused(*words, bootstrap=bootstrap)
        assert "no partition 7" in await refused(*words, "-p", "7", bootstrap=bootstrap)
        assert "give a topic" in await refused("topic", "delete-records", bootstrap=bootstrap, status=2)
        file.write_text("[]")
        words = ("topic", "delete-records", "--offset-json-file", str(file))
        assert "does not list partitions" in await refused(*words, bootstrap=bootstrap)


class TestConfig:
    async def test_set_describe_delete(self, bootstrap: str, topic: str) -> None:
        where = ("--topic", topic)
        out = await told("config", "set", "retention.ms=5", "segment.ms=6", *where, bootstrap=bootstrap)
        assert out == f"Completed updating config for topic {topic}.\n"
        out = await told("config", "describe", *where, bootstrap=bootstrap)
        rows = [line.split() for line in out.splitlines()]
        assert ["KEY", "VALUE", "SOURCE"] in rows
        assert ["retention.ms", "5", "DYNAMIC_TOPIC_CONFIG"] in rows
        assert not [row for row in rows if row[0] == "flush.ms"]
        await told("config", "set", "cleanup.policy=compact", "--append", *where, bootstrap=bootstrap)
        words = ("config", "describe", "cleanup.policy", "--synonyms", "--documentation", *where)
        (found,) = await asked(*words, bootstrap=bootstrap)
        assert (found["value"], found["type"], found["read_only"]) == ("delete,compact", "LIST", False)
        assert found["synonyms"][1] == {"name": "log.cleanup.policy", "value": "delete", "source": "DEFAULT_CONFIG"}
        assert found["documentation"]
        await told("config", "delete", "retention.ms", "cleanup.policy", *where, bootstrap=bootstrap)
        everything = await asked("config", "describe", "--all", *where, bootstrap=bootstrap)
        assert {one["name"]: one["value"] for one in everything}["cleanup.policy"] == "delete"

    async def test_validate_only_changes_nothing(self, bootstrap: str, topic: str) -> None:
        words = ("config", "set", "retention.ms=5", "--validate-only", "--topic", topic)
        assert "could be updated" in await told(*words, bootstrap=bootstrap)
        (found,) = await asked("config", "describe", "retention.ms", "--topic", topic, bootstrap=bootstrap)
        assert found["source"] == "DEFAULT_CONFIG"
        words = ("config", "set", "retention.ms=soon", "--validate-only", "--topic", topic)
        assert "INVALID_CONFIG" in await refused(*words, bootstrap=bootstrap)

    async def test_of_one_broker_and_of_all(self, bootstrap: str) -> None:
        await told("config", "set", "log.retention.ms=70000", "--default", bootstrap=bootstrap)
        await told("config", "set", "log.retention.ms=80000", "--broker", "2", bootstrap=bootstrap)
        (found,) = await asked("config", "describe", "log.retention.ms", "--default", bootstrap=bootstrap)
        assert (found["value"], found["source"]) == ("70000", "DYNAMIC_DEFAULT_BROKER_CONFIG")
        (found,) = await asked("config", "describe", "log.retention.ms", "--broker", "2", bootstrap=bootstrap)
        assert (found["value"], found["source"]) == ("80000", "DYNAMIC_BROKER_CONFIG")
        everything = {
            one["name"]: one for one in await asked("config", "describe", "--broker", "1", bootstrap=bootstrap)
        }
        assert everything["node.id"]["value"] == "1"
        assert everything["node.id"]["read_only"]
        await told("config", "delete", "log.retention.ms", "--broker", "2", bootstrap=bootstrap)
        await told("config", "delete", "log.retention.ms", "--default", bootstrap=bootstrap)

    async def test_of_a_group(self, bootstrap: str) -> None:
        await told("config", "set", "consumer.heartbeat.interval.ms=9000", "--group", "g", bootstrap=bootstrap)
        (found,) = await asked("config", "describe", "--group", "g", bootstrap=bootstrap)
        assert (found["name"], found["value"], found["source"]) == (
            "consumer.heartbeat.interval.ms",
            "9000",
            "GROUP_CONFIG",
        )

    async def test_what_is_refused(self, bootstrap: str, topic: str) -> None:
        assert "node.id" in await refused("config", "set", "node.id=7", "--broker", "1", bootstrap=bootstrap)
        assert "no config nothing" in await refused(
            "config", "describe", "nothing", "--topic", topic, bootstrap=bootstrap
        )
        assert "not KEY=VALUE" in await refused("config", "set", "a", "--default", bootstrap=bootstrap, status=2)
        assert "not the id" in await refused("config", "describe", "--broker", "x", bootstrap=bootstrap, status=2)


async def test_apis(bootstrap: str) -> None:
    """What a running broker announces is what the code says; the reasons are the code's."""
    first = bootstrap.split(",")[0]
    asked_of = {row["key"]: row["served"] for row in await asked("apis", "--all", bootstrap=first)}
    status, out, err = await ottla("apis", "--format", "json", "--all")
    assert (status, err) == (0, "")
    known = json.loads(out)
    assert {row["key"]: row["served"] for row in known} == asked_of
    assert all(row["reason"] for row in known if row["missing"])
    status, out, _ = await ottla("apis", "--gaps")
    assert out.splitlines()[0].split() == ["KEY", "API", "KAFKA", "SERVED", "MISSING", "WHY"]
    assert not [line for line in out.splitlines() if " Metadata " in line]
    assert "not HOST:PORT" in await refused("apis", bootstrap="nowhere", status=2)
    assert "cannot connect" in await refused("apis", bootstrap="127.0.0.1:1")


async def test_log_directories(bootstrap: str, topic: str) -> None:
    rows = await asked("log-dirs", "--topic", topic, bootstrap=bootstrap)
    assert [row["broker"] for row in rows] == [1, 2]
    for row in rows:
        assert row["total_bytes"] >= row["usable_bytes"] > 0
        assert [(one["topic"], one["partition"], one["offset_lag"]) for one in row["replicas"]] == [
            (topic, 0, 0),
            (topic, 1, 0),
        ]
        assert row["replicas"][0]["size"] > row["replicas"][1]["size"] == 0
    out = await told("log-dirs", "--broker", "2", bootstrap=bootstrap)
    assert out.split("\n")[0].split() == ["BROKER", "DIR", "REPLICAS", "SIZE", "TOTAL", "USABLE"]
    out = await told("log-dirs", "--topic", topic, "--replicas", bootstrap=bootstrap)
    assert len(out.splitlines()) == 5


class TestQuota:
    async def test_set_describe_and_delete(self, bootstrap: str) -> None:
        whose = ("--user", "alice", "--client-id", "<default>")
        await told("quota", "set", "producer_byte_rate=2000", "request_percentage=12.5", *whose, bootstrap=bootstrap)
        (found,) = await asked("quota", "describe", *whose, bootstrap=bootstrap)
        assert found["entity"] == {"user": "alice", "client-id": None}
        assert found["values"] == {"producer_byte_rate": 2000.0, "request_percentage": 12.5}
        lines = (await told("quota", "describe", bootstrap=bootstrap)).splitlines()
        assert [line.split() for line in lines] == [
            ["USER", "CLIENT-ID", "QUOTA", "VALUE"],
            ["alice", "<default>", "producer_byte_rate", "2000"],
            ["alice", "<default>", "request_percentage", "12.5"],
        ]
        words = ("quota", "delete", "producer_byte_rate", "request_percentage")
        assert "could be changed" in await told(*words, "--validate-only", *whose, bootstrap=bootstrap)
        assert await asked("quota", "describe", *whose, bootstrap=bootstrap) == [found]
        await told(*words, *whose, bootstrap=bootstrap)
        assert await asked("quota", "describe", bootstrap=bootstrap) == []

    async def test_validate_only_changes_nothing(self, bootstrap: str) -> None:
        whose = ("--validate-only", "--user", "alice")
        assert await asked("quota", "set", "producer_byte_rate=2", *whose, bootstrap=bootstrap) == {"status": "valid"}
        assert "INVALID_REQUEST" in await refused("quota", "set", "speed=1", *whose, bootstrap=bootstrap)
        assert await asked("quota", "describe", bootstrap=bootstrap) == []

    async def test_what_cannot_be(self, bootstrap: str) -> None:
        async def why(*words: str, status: int) -> str:
            return await refused("quota", "set", *words, bootstrap=bootstrap, status=status)

        assert "greater than 0" in await why("producer_byte_rate=0", "--user", "u", status=1)
        assert "does not exist" in await why("speed=1", "--user", "u", status=1)
        assert "not a number" in await why("speed=x", "--user", "u", status=2)
        assert "say whose" in await why("speed=1", status=2)

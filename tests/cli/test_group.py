"""`ottla group` and `ottla consume --group` against a node of our own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from ottla.client import Admin, Consumer, NewTopic, Producer, TopicPartition
from tests.cli.running import ottla, refused, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
SETTINGS = {"group.initial.rebalance.delay.ms": 0, "offsets.topic.num.partitions": 3}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with serving(tmp_path_factory.mktemp("cli"), nodes=1, settings=SETTINGS) as servers:
        yield servers


@pytest_asyncio.fixture(loop_scope="module")
async def topic(bootstrap: str, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """Two partitions of ten records each, a second apart; a topic of its own for each test."""
    name = request.node.name
    async with Admin(bootstrap_servers=bootstrap) as admin, Producer(bootstrap_servers=bootstrap) as producer:
        await admin.create_topics([NewTopic(name, 2, 1)])
        for number in range(20):
            moment = 1_700_000_000_000 + number // 2 * 1000
            await producer.send(name, b"%d" % number, partition=number % 2, timestamp_ms=moment)
    yield name


async def asked(*words: str, bootstrap: str) -> Any:
    status, out, err = await ottla("group", *words, "--format", "json", bootstrap=bootstrap)
    assert (status, err) == (0, "")
    return json.loads(out)


async def test_a_group_reads_on_where_it_was(bootstrap: str, topic: str) -> None:
    words = ("consume", topic, "--group", "reader", "--from-beginning")
    status, first, err = await ottla(*words, "-n", "7", bootstrap=bootstrap)
    assert (status, err) == (0, "")
    status, rest, err = await ottla(*words, "--exit-at-end", bootstrap=bootstrap)
    assert (status, err) == (0, "")
    assert (len(first.split()), len(rest.split())) == (7, 13)
    assert sorted(map(int, (first + rest).split())) == list(range(20))


async def test_what_a_group_looks_like(bootstrap: str, topic: str) -> None:
    async with Consumer(topic, bootstrap_servers=bootstrap, group_id="seen", auto_offset_reset="earliest") as consumer:
        await consumer.getone(TopicPartition(topic, 0))
        await consumer.commit({TopicPartition(topic, 0): 4})
        (row,) = [row for row in await asked("list", bootstrap=bootstrap) if row["group"] == "seen"]
        assert row == {
            "group": "seen",
            "type": row["type"],
            "protocol": "consumer",
            "state": "Stable",
            "coordinator": 1,
        }
        rows = await asked("describe", "seen", bootstrap=bootstrap)
        places = [(row["partition"], row["current_offset"], row["log_end_offset"], row["lag"]) for row in rows]
        assert places == [(0, 4, 10, 6), (1, None, 10, None)]
        assert {row["consumer_id"] for row in rows} == {consumer.group_metadata().member_id}
        (member,) = await asked("describe", "seen", "--members", bootstrap=bootstrap)
        assert (member["partitions"], member["assignment"]) == (2, f"{topic}(0,1)")
        (state,) = await asked("describe", "seen", "--state", bootstrap=bootstrap)
        assert (state["state"], state["assignment_strategy"], state["members"]) == ("Stable", "range", 1)
        status, out, _ = await ottla("group", "describe", "seen", bootstrap=bootstrap)
        assert status == 0
        assert out.splitlines()[0].split()[:6] == [
            "GROUP",
            "TOPIC",
            "PARTITION",
            "CURRENT-OFFSET",
            "LOG-END-OFFSET",
            "LAG",
        ]
        for refused in (("delete", "seen"), ("reset-offsets", "seen", "--to-earliest")):
            status, _, err = await ottla("group", *refused, bootstrap=bootstrap)
            assert (status, "has" in err, "members" in err) == (1, True, True)
    assert not [row for row in await asked("list", "--state", "Stable", bootstrap=bootstrap) if row["group"] == "seen"]


async def test_resetting_offsets(bootstrap: str, topic: str) -> None:
    async def reset(*to: str) -> dict[int, int]:
        told = await asked("reset-offsets", "moved", *to, bootstrap=bootstrap)
        return {row["partition"]: row["new_offset"] for row in told["offsets"]}

    async def committed() -> dict[int, int]:
        async with Admin(bootstrap_servers=bootstrap) as admin:
            return {tp.partition: at.offset for tp, at in (await admin.list_consumer_group_offsets("moved")).items()}

    assert await reset("--topic", topic, "--to-latest", "--dry-run") == {0: 10, 1: 10}
    assert await committed() == {}
    assert await reset("--topic", f"{topic}:1", "--to-offset", "6") == {1: 6}
    assert await committed() == {1: 6}
    assert await reset("--topic", topic, "--to-current") == {0: 10, 1: 6}
    assert await reset("--shift-by", "-4") == {0: 6, 1: 2}
    assert await reset("--shift-by", "100", "--execute") == {0: 10, 1: 10}
    assert await reset("--to-earliest", "--all-topics") == {0: 0, 1: 0}
    assert await reset("--to-datetime", "2023-11-14T22:13:25") == {0: 5, 1: 5}
    assert await reset("--to-datetime", "2023-11-14T23:13:25.001+01:00") == {0: 6, 1: 6}
    assert await reset("--by-duration", "PT1H") == {0: 10, 1: 10}
    assert await reset("--by-duration", "P36500D") == {0: 0, 1: 0}
    assert await committed() == {0: 0, 1: 0}


async def test_deleting(bootstrap: str, topic: str) -> None:
    async with Admin(bootstrap_servers=bootstrap) as admin:
        tp = TopicPartition(topic, 0)
        await admin.alter_consumer_group_offsets("gone", {tp: 3})
        await admin.delete_consumer_group_offsets("gone", [TopicPartition(topic, 1)])
        assert (await admin.list_consumer_group_offsets("gone"))[tp].offset == 3
    assert await asked("delete", "gone", "--dry-run", bootstrap=bootstrap) == {
        "group": "gone",
        "status": "would be deleted",
    }
    assert await asked("delete", "gone", bootstrap=bootstrap) == {"group": "gone", "status": "deleted"}
    status, _, err = await ottla("group", "delete", "gone", bootstrap=bootstrap)
    assert status == 1
    assert "GROUP_ID_NOT_FOUND" in err


async def test_what_cannot_be_deleted_keeps_nothing_else(bootstrap: str, topic: str) -> None:
    async with Admin(bootstrap_servers=bootstrap) as admin:
        for name in ("first", "last"):
            await admin.alter_consumer_group_offsets(name, {TopicPartition(topic, 0): 3})
    async with Consumer(topic, bootstrap_servers=bootstrap, group_id="busy"):
        names = ("first", "busy", "nobody", "last")
        dry = await ottla("group", "delete", *names, "--dry-run", bootstrap=bootstrap)
        wet = await ottla("group", "delete", *names, bootstrap=bootstrap)
        (kept,) = [row["group"] for row in await asked("list", bootstrap=bootstrap) if row["group"] in names]
    assert kept == "busy"
    assert (dry[0], dry[1].splitlines()) == (1, ["Would delete group first.", "Would delete group last."])
    assert (wet[0], wet[1].splitlines()) == (1, ["Deleted group first.", "Deleted group last."])
    for told, text in ((dry[2], "would not be deleted: "), (wet[2], "is not deleted: ")):
        busy, nobody = told.splitlines()
        assert busy.startswith(f"ottla: group 'busy' {text}it has") and "members" in busy
        assert nobody.startswith(f"ottla: group 'nobody' {text}there is no such group: GROUP_ID_NOT_FOUND")


async def test_a_group_of_the_new_protocol(bootstrap: str, topic: str) -> None:
    more = {"group_protocol": "consumer", "group_instance_id": "one"}
    async with Consumer(
        topic, bootstrap_servers=bootstrap, group_id="new", auto_offset_reset="earliest", **more
    ) as consumer:
        await consumer.commit({TopicPartition(topic, 1): 4})
        rows = {row["group"]: row for row in await asked("list", "--type", "consumer", bootstrap=bootstrap)}
        assert (rows["new"]["type"], rows["new"]["state"]) == ("consumer", "Stable")
        assert all(row["type"] == "consumer" for row in rows.values())
        assert "new" not in {row["group"] for row in await asked("list", "--type", "classic", bootstrap=bootstrap)}
        rows = await asked("describe", "new", bootstrap=bootstrap)
        places = [(row["partition"], row["current_offset"], row["log_end_offset"], row["lag"]) for row in rows]
        assert places == [(0, None, 10, None), (1, 4, 10, 6)]
        (member,) = await asked("describe", "new", "--members", bootstrap=bootstrap)
        assert (member["instance_id"], member["assignment"]) == ("one", f"{topic}(0,1)")
        (state,) = await asked("describe", "new", "--state", bootstrap=bootstrap)
        assert (state["state"], state["assignment_strategy"], state["members"]) == ("Stable", "uniform", 1)


@pytest.mark.parametrize("where", ["nowhere", "nowhere:0"])
async def test_resetting_offsets_of_an_unknown_topic(bootstrap: str, where: str) -> None:
    words = ("group", "reset-offsets", "moved", "--to-earliest", "--topic", where)
    told = await refused(*words, bootstrap=bootstrap)
    assert "UNKNOWN_TOPIC_OR_PARTITION" in told and "nowhere" in told


async def test_resetting_offsets_of_an_unknown_partition(bootstrap: str, topic: str) -> None:
    words = ("group", "reset-offsets", "moved", "--to-earliest", "--topic", f"{topic}:1,7")
    assert await refused(*words, bootstrap=bootstrap) == f"ottla: topic {topic!r} has no partition 7\n"


async def test_reading_as_a_member_of_ones_choice(bootstrap: str, topic: str) -> None:
    """Topics whose whole name matches, the protocol, a static id."""
    async with Admin(bootstrap_servers=bootstrap) as admin, Producer(bootstrap_servers=bootstrap) as producer:
        await admin.create_topics([NewTopic(f"{topic}_too", 1, 1)])
        await producer.send_and_wait(f"{topic}_too", b"100")
        for protocol in ("classic", "consumer"):
            group = f"chosen-{protocol}"
            how = ("--group", group, "--group-protocol", protocol, "--group-instance-id", "one", "--from-beginning")
            words = ("consume", "--include", topic.replace("reading", "(reading|writing)"), *how, "--exit-at-end")
            status, out, err = await ottla(*words, bootstrap=bootstrap)
            assert (status, err) == (0, "")
            assert sorted(map(int, out.split())) == list(range(20))
            assert group in {row["group"] for row in await asked("list", "--type", protocol, bootstrap=bootstrap)}
            places = await admin.list_consumer_group_offsets(group)
            assert {tp: at.offset for tp, at in places.items()} == {TopicPartition(topic, n): 10 for n in (0, 1)}


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("t", "--include", "t.*", "--group", "g"),
        ("--include", "t.*"),
        ("t", "--group-protocol", "consumer"),
        ("t", "--group-instance-id", "i"),
        ("t", "--group", "g", "--group-protocol", "other"),
    ],
)
async def test_wrong_usage_of_consume(words: tuple[str, ...]) -> None:
    status, out, err = await ottla("consume", *words, bootstrap="127.0.0.1:1")
    assert (status, out) == (2, "")
    assert err


@pytest.mark.parametrize(
    "words",
    [
        ("reset-offsets", "g"),
        ("reset-offsets", "g", "--to-earliest", "--to-latest"),
        ("reset-offsets", "g", "--to-datetime", "soon"),
        ("reset-offsets", "g", "--by-duration", "1h"),
        ("reset-offsets", "g", "--to-earliest", "--topic", "t:x"),
        ("reset-offsets", "g", "--to-earliest", "--dry-run", "--execute"),
    ],
)
async def test_wrong_usage_is_told_before_anything_is_asked(words: tuple[str, ...]) -> None:
    status, out, err = await ottla("group", *words, bootstrap="127.0.0.1:1")
    assert (status, out) == (2, "")
    assert err

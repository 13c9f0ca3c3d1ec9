"""What a node has on disk, read by Apache Kafka's own tools from its jars.

`make peers` runs this with `APACHE_KAFKA_JARS`: a directory with the jars of `org.apache.kafka:kafka_2.13` and of what
it depends on (`mvn dependency:copy-dependencies`). It needs java.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.compatibility.cluster import Cluster, eventually
from tests.compatibility.kafka_python import KafkaPython

WITHIN_S = 60
RECORDS = 30
OFFSET, GROUP, REGEX = "1", "2", "16"
MODERN_GROUP, MODERN_MEMBER, ASSIGNED = "3", "5", "8"
"""Types of keys in __consumer_offsets."""

_KEYED = re.compile(r"^\| offset: .* key: (\{.*\}) payload: (.*)$")
_HARMLESS = ("SLF4J", "Non-consecutive offsets", "  ")
Rows = dict[tuple[str, str], Any]


def dump(files: Iterable[Path], *words: str) -> str:
    """What Kafka's DumpLogSegments says of these files. The gaps between offsets of which it tells are no fault in a
    topic that is compacted, or has batches without records."""
    jars = os.environ.get("APACHE_KAFKA_JARS")
    assert jars, "APACHE_KAFKA_JARS is not set: a directory with the jars of org.apache.kafka:kafka_2.13"
    line = ["java", "-cp", f"{jars}/*", "kafka.tools.DumpLogSegments", "--files", ",".join(map(str, files)), *words]
    done = subprocess.run(line, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert done.returncode == 0, done.stderr
    complaints = [text for text in done.stderr.splitlines() if not text.startswith(_HARMLESS)]
    assert complaints == [], complaints
    return done.stdout


def segments(cluster: Cluster, node: int, topic: str) -> Iterator[Path]:
    """Those with something in them."""
    (plan,) = (each for each in cluster.layout.nodes if each.id == node)
    for directory in sorted((plan.directory / "data").glob(f"{topic}-*")):
        yield from (path for path in sorted(directory.glob("*.log")) if path.stat().st_size)


def last_values(cluster: Cluster, groups: set[str]) -> Rows:
    """The last value of every key of these groups, by type and the rest of the key; None where it was deleted."""
    rows: Rows = {}
    for line in dump(segments(cluster, 1, "__consumer_offsets"), "--offsets-decoder").splitlines():
        found = _KEYED.match(line)
        if found is None:
            assert "endTxnMarker" in line or not line.startswith("|"), line
            continue
        key = json.loads(found[1])
        data = key["data"]
        group = data.pop("groupId", None) or data.pop("group")
        if group in groups:
            value = None if found[2] == "<DELETE>" else json.loads(found[2])["data"]
            rows[key["type"], " ".join([group, *map(str, data.values())])] = value
    return rows


def consume(cluster: Cluster, group: str, topic: str, **options: Any) -> Consumer:
    """A member that has read everything, and committed it."""
    settings = {"bootstrap.servers": cluster.bootstrap, "group.id": group, "auto.offset.reset": "earliest"}
    consumer = Consumer({**settings, "enable.auto.commit": False, **options})
    consumer.subscribe([topic])
    count = 0
    while count < RECORDS:
        got = consumer.consume(RECORDS, 10)
        assert got, f"{count} of {RECORDS} records"
        count += len(got)
    consumer.commit(asynchronous=False)
    return consumer


@pytest.fixture
def filled(cluster: Cluster, topic: str) -> str:
    with KafkaPython().admin(cluster.bootstrap) as admin:
        cluster.make(admin, topic, 3, 3)
    producer = Producer({"bootstrap.servers": cluster.bootstrap})
    for number in range(RECORDS):
        producer.produce(topic, b"%d" % number, partition=number % 3)
    assert producer.flush(WITHIN_S) == 0
    return topic


def test_the_topic_of_offsets(cluster: Cluster, filled: str) -> None:
    modern = {"group.protocol": "consumer"}
    kinds = {"classic": {}, "static": {"group.instance.id": "one"}, "modern": modern, "regex": modern, "gone": {}}
    groups = {kind: f"{kind}-{filled}" for kind in kinds}
    for kind, options in kinds.items():
        wanted, group = f"^{filled}$" if kind == "regex" else filled, groups[kind]
        member = consume(cluster, group, wanted, **options)
        if kind == "gone":
            member.close()
            admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
            admin.delete_consumer_groups([group])[group].result(WITHIN_S)
            continue
        rows = eventually(
            lambda group=group: _committed(last_values(cluster, {group}), group, filled),  # type: ignore[misc]
            f"what {kind} has committed is on disk",
            within=WITHIN_S,
        )
        _check_members(rows, kind, group, filled)
        for index in range(3):
            assert rows[OFFSET, f"{group} {filled} {index}"]["offset"] == RECORDS // 3
        member.close()
    rows = eventually(
        lambda: (found := last_values(cluster, set(groups.values()))).get((GROUP, groups["gone"]), 0) is None and found,
        "a deleted group has a tombstone",
        within=WITHIN_S,
    )
    assert all(rows[OFFSET, f"{groups['gone']} {filled} {index}"] is None for index in range(3))
    assert not [key for key, value in rows.items() if key[0] in (MODERN_MEMBER, ASSIGNED, REGEX) and value is not None]


def _committed(rows: Rows, group: str, topic: str) -> Rows | None:
    return rows if all((OFFSET, f"{group} {topic} {index}") in rows for index in range(3)) else None


def _check_members(rows: Rows, kind: str, group: str, topic: str) -> None:
    if kind in ("classic", "static"):
        (member,) = rows[GROUP, group]["members"]
        assert rows[GROUP, group]["protocolType"] == "consumer"
        assert member["clientHost"] == "/127.0.0.1"
        assert member["groupInstanceId"] == ("one" if kind == "static" else None)
        return
    assert rows[MODERN_GROUP, group]["epoch"] >= 1
    ((_, member),) = ((key, value) for key, value in rows.items() if key[0] == MODERN_MEMBER)
    assert member["subscribedTopicNames"] == ([] if kind == "regex" else [topic])
    ((_, assigned),) = ((key, value) for key, value in rows.items() if key[0] == ASSIGNED)
    assert [sorted(row["partitions"]) for row in assigned["assignedPartitions"]] == [[0, 1, 2]]
    if kind == "regex":
        ((_, resolved),) = ((key, value) for key, value in rows.items() if key[0] == REGEX)
        assert resolved["topics"] == [topic]


def test_the_topic_of_transactions(cluster: Cluster, filled: str) -> None:
    name = f"tx-{filled}"
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "transactional.id": name})
    producer.init_transactions(WITHIN_S)
    member = consume(cluster, name, filled)
    for end in (producer.commit_transaction, producer.abort_transaction):
        producer.begin_transaction()
        producer.produce(filled, b"x", partition=0)
        producer.send_offsets_to_transaction([TopicPartition(filled, 1, 7)], member.consumer_group_metadata())
        end(WITHIN_S)
    member.close()

    def states() -> list[str] | None:
        told = dump(segments(cluster, 1, "__transaction_state"), "--transaction-log-decoder")
        found = re.findall(rf"transactionalId={name} .*state=(\w+)", told)
        return found if found[-1:] == ["CompleteAbort"] else None

    seen = eventually(states, "both transactions have ended on disk", within=WITHIN_S)
    for state in ("Empty", "Ongoing", "PrepareCommit", "CompleteCommit", "PrepareAbort", "CompleteAbort"):
        assert state in seen
    rows = last_values(cluster, {name})
    assert rows[OFFSET, f"{name} {filled} 1"]["offset"] == 7


def test_a_topic_of_records_and_its_indexes(cluster: Cluster, filled: str) -> None:
    """Every batch is valid, and each index fits the log; of control batches, too."""
    (segment,) = (path for path in segments(cluster, 1, filled) if path.parent.name == f"{filled}-0")
    told = dump([segment], "--print-data-log", "--deep-iteration")
    assert re.findall(r"payload: (\d+)", told) == [str(number) for number in range(0, RECORDS, 3)]
    assert set(re.findall(r"isvalid: (\w+)", told)) == {"true"}
    for suffix in (".index", ".timeindex"):
        path = segment.with_suffix(suffix)
        if path.exists():
            dump([path], "--index-sanity-check")

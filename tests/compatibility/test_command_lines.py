"""kafka-python's admin command line, as people run it, against the cluster.

Its JSON form breaks on what it finds no text for (topic ids, partitions as keys) whoever the broker is; those answers
are read in its raw form.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest

from tests.compatibility.cluster import Cluster, eventually
from tests.compatibility.kafka_python import KafkaPython
from tests.compatibility.model import Message
from tests.compatibility.transactional import transactional

COMMAND = Path(sys.executable).with_name("kafka-python")
WITHIN_S = 60


class Tool:
    """`kafka-python admin`, talking to one node."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap.split(",")[0]

    def run(self, *words: str, form: str = "json") -> subprocess.CompletedProcess[str]:
        line = [str(COMMAND), "admin", "-b", self.bootstrap, "-l", "ERROR", "--format", form, *words]
        return subprocess.run(line, capture_output=True, text=True, timeout=WITHIN_S, check=False)

    def asked(self, *words: str) -> Any:
        """What it prints as JSON."""
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def told(self, *words: str) -> str:
        """What it prints in its raw form, without its line breaks."""
        done = self.run(*words, form="raw")
        assert done.returncode == 0, done.stderr
        return " ".join(done.stdout.split())

    def refused(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode != 0, done.stdout
        return done.stdout + done.stderr


@pytest.fixture
def tool(cluster: Cluster) -> Tool:
    return Tool(cluster.bootstrap)


@pytest.fixture
def made(cluster: Cluster, topic: str) -> str:
    """A topic of two partitions, five records in the first."""
    library = KafkaPython()
    with library.admin(cluster.bootstrap) as admin:
        cluster.make(admin, topic, 2, 3)
    library.write(cluster.bootstrap, topic, [Message(b"v")] * 5)
    return topic


def test_topics(tool: Tool, cluster: Cluster, topic: str) -> None:
    created = tool.asked("topics", "create", "-t", topic, "--num-partitions", "2", "--replication-factor", "3")
    assert [(row["name"], row["error_code"], row["num_partitions"]) for row in created["topics"]] == [(topic, 0, 2)]
    cluster.wait_until_known(topic)
    assert topic in tool.asked("topics", "list")
    (found,) = tool.asked("topics", "describe", "-t", topic)
    assert [len(partition["isr_nodes"]) for partition in found["partitions"]] == [3, 3]
    tool.asked("topics", "delete", "-t", topic)
    eventually(lambda: topic not in tool.asked("topics", "list"), "the topic is gone")


def test_partitions(tool: Tool, cluster: Cluster, made: str) -> None:
    grown = tool.asked("partitions", "create", "-p", f"{made}:3", "--validate-only")
    assert grown["results"][0]["error_code"] == 0
    tool.asked("partitions", "create", "-p", f"{made}:3")
    cluster.wait_until_known(made, 3)
    described = tool.told("partitions", "describe", "-t", made)
    assert described.count("'partition_index': ") == 3
    assert described.count("'eligible_leader_replicas': ") == 3
    assert "'low_watermark': 2" in tool.told("partitions", "delete-records", "-r", f"{made}:0:2")
    specs = {"earliest": 2, "latest": 5, "earliest-local": 2, "latest-tiered": -1, "max-timestamp": None}
    for spec, offset in specs.items():
        found = tool.asked("partitions", "list-offsets", "-p", f"{made}:0:{spec}")[made]["0"]
        assert 2 <= found["offset"] < 5 if offset is None else found["offset"] == offset
    elected = tool.asked("partitions", "elect-leaders", "-t", made)
    (results,) = elected["replica_election_results"]
    assert {row["error_code"] for row in results["partition_result"]} == {84}, "ELECTION_NOT_NEEDED"


def test_elections_and_reassignments(tool: Tool, made: str) -> None:
    (found,) = tool.asked("topics", "describe", "-t", made)
    row = found["partitions"][1]
    leader, *others = row["replica_nodes"]
    assert row["leader_id"] == leader
    order = ",".join(map(str, [*others, leader]))
    assert tool.asked("partitions", "alter-reassignments", "-r", f"{made}:1={order}") == {f"{made}:1": None}
    elected = tool.asked("partitions", "elect-leaders", "-p", f"{made}:1")
    (results,) = elected["replica_election_results"]
    assert [row["error_code"] for row in results["partition_result"]] == [0]

    def of_partition() -> dict[str, Any]:
        (found,) = tool.asked("topics", "describe", "-t", made)
        row = found["partitions"][1]
        assert isinstance(row, dict)
        return row

    eventually(lambda: of_partition()["leader_id"] == others[0], "the first of the new order leads")
    tool.asked("partitions", "alter-reassignments", "-r", f"{made}:1=2,3")
    listed = ("partitions", "list-reassignments", "-p", f"{made}:1")
    eventually(lambda: tool.asked(*listed) == {}, "it is done", within=60)
    eventually(lambda: sorted(of_partition()["replica_nodes"]) == [2, 3], "it is known")


def test_a_reassignment_under_way(tool: Tool, cluster: Cluster, made: str) -> None:
    """To a broker that is down; then it is cancelled."""
    tool.asked("partitions", "alter-reassignments", "-r", f"{made}:1=1,2")
    listed = ("partitions", "list-reassignments", "-p", f"{made}:1")
    eventually(lambda: tool.asked(*listed) == {}, "the third has no replica", within=60)
    cluster.stop(3)
    assert tool.asked("partitions", "alter-reassignments", "-r", f"{made}:1=3,1") == {f"{made}:1": None}
    (move,) = tool.asked("partitions", "list-reassignments").values()
    assert (move["adding_replicas"], move["removing_replicas"]) == ([3], [2])
    assert tool.asked("partitions", "alter-reassignments", "-r", f"{made}:1=cancel") == {f"{made}:1": None}
    assert tool.asked(*listed) == {}
    cancelled = tool.asked("partitions", "alter-reassignments", "-r", f"{made}:1=cancel")
    assert cancelled == {f"{made}:1": "NoReassignmentInProgressError"}


def test_configs(tool: Tool, made: str) -> None:
    def of_topic(key: str) -> dict[str, Any]:
        found = tool.asked("configs", "describe", "-r", "topic", "-n", made, "-c", key)["topic"][made][key]
        assert isinstance(found, dict)
        return found

    change = ("configs", "alter", "-r", "topic", "-n", made, "-c", "retention.ms=86400000")
    tool.asked(*change, "--validate-only")
    assert of_topic("retention.ms")["config_source"] == "DEFAULT_CONFIG"
    assert tool.asked(*change) == {"topic": {made: "OK"}}
    eventually(lambda: of_topic("retention.ms")["value"] == "86400000", "the new value")
    tool.asked("configs", "reset", "-r", "topic", "-n", made, "-c", "retention.ms")
    eventually(lambda: of_topic("retention.ms")["value"] == "604800000", "the default")
    # AlterConfigs: everything else goes back to its default.
    assert tool.asked(*change[:-1], "segment.ms=86400000", "--force-alter") == {"topic": {made: "OK"}}
    eventually(lambda: of_topic("segment.ms")["value"] == "86400000", "the new value")


def test_configs_of_brokers_and_groups(tool: Tool) -> None:
    broker = ("-r", "broker", "-n", "2", "-c")
    assert tool.asked("configs", "alter", *broker, "log.retention.ms=700000000") == {"broker": {"2": "OK"}}

    def of_broker() -> Any:
        return tool.asked("configs", "describe", *broker, "log.retention.ms")["broker"]["2"]["log.retention.ms"]

    eventually(lambda: of_broker()["config_source"] == "DYNAMIC_BROKER_CONFIG", "the broker has heard of it")
    tool.asked("configs", "reset", *broker, "log.retention.ms")
    eventually(lambda: of_broker()["value"] is None, "it has its default again")
    group = ("-r", "group", "-n", "a-group", "-c", "consumer.session.timeout.ms")
    assert tool.asked("configs", "alter", *group[:-1], group[-1] + "=50000") == {"group": {"a-group": "OK"}}
    eventually(lambda: "a-group" in tool.asked("configs", "list").get("group", ()), "the group is listed")
    (found,) = tool.asked("configs", "describe", *group)["group"]["a-group"].values()
    assert found["value"] == "50000"
    tool.asked("configs", "reset", *group)


def test_groups(tool: Tool, made: str) -> None:
    group = f"group-of-{made}"
    assert tool.asked("groups", "alter-offsets", "-g", group, "-o", f"{made}:0:4") == {f"{made}:0": "NoError"}
    assert tool.asked("groups", "list-offsets", "-g", group)[made]["0"]["offset"] == 4
    assert group in json.dumps(tool.asked("groups", "list"))
    assert "Empty" in json.dumps(tool.asked("groups", "describe", "-g", group))
    tool.told("groups", "reset-offsets", "-g", group, "-p", f"{made}:0", "-s", "earliest")
    assert tool.asked("groups", "list-offsets", "-g", group)[made]["0"]["offset"] == 0
    assert tool.asked("groups", "delete-offsets", "-g", group, "-p", f"{made}:0") == {f"{made}:0": "NoError"}
    tool.asked("groups", "alter-offsets", "-g", group, "-o", f"{made}:0:4")
    tool.asked("groups", "delete", "-g", group)
    assert group not in json.dumps(tool.asked("groups", "list"))


@pytest.mark.parametrize("instance", [None, "the-instance"], ids=["dynamic", "static"])
def test_groups_with_members(tool: Tool, cluster: Cluster, made: str, instance: str | None) -> None:
    group = f"living-group-of-{made}"
    assignments: list[object] = []

    def described() -> Any:
        return tool.asked("groups", "describe", "-g", group)[group]

    def assigned(times: int) -> bool:
        consumer.poll(0.1)
        return len(assignments) == times

    settings = {"bootstrap.servers": cluster.bootstrap, "group.id": group, "client.id": "the-member"}
    consumer = confluent_kafka.Consumer(settings | ({} if instance is None else {"group.instance.id": instance}))
    try:
        consumer.subscribe([made], on_assign=lambda _, partitions: assignments.append(partitions))
        eventually(lambda: assigned(1), "it has its partitions", within=60)
        (row,) = [row for row in tool.asked("groups", "list") if row["group_id"] == group]
        assert row["group_state"] == described()["group_state"] == "Stable"
        (member,) = described()["members"]
        assert (member["client_id"], member["group_instance_id"]) == ("the-member", instance)
        who = ("-m", member["member_id"]) if instance is None else ("-i", instance)
        removed = tool.asked("groups", "remove-members", "-g", group, *who, "--reason", "a test")
        assert list(removed.values()) == ["NoError"]
        # It must have seen this, too, before it is closed: librdkafka would wait for ever (its issue 4884).
        eventually(lambda: assigned(2), "it is told, and joins again", within=60)
        (again,) = described()["members"]
        assert again["member_id"] != member["member_id"]
    finally:
        consumer.close()
    remove = ("groups", "remove-members", "-g", group, *who)
    if instance is not None:
        assert list(tool.asked(*remove).values()) == ["NoError"], "one with an instance id does not leave by itself"
    assert list(tool.asked(*remove).values()) == ["UnknownMemberIdError"]


def test_the_cluster(tool: Tool, cluster: Cluster, made: str) -> None:
    assert f"'cluster_id': '{cluster.layout.cluster_id}'" in tool.told("cluster", "describe")
    quorum = tool.told("cluster", "describe-quorum")
    assert "'topic_name': '__cluster_metadata'" in quorum
    assert quorum.count("'replica_id': ") == 3
    assert "'AlterConfigs': (0, 2)" in tool.told("cluster", "api-versions")
    (version,) = tool.asked("cluster", "broker-version", "--broker", "2").values()
    assert tuple(map(int, version.split(".")[:1])) >= (4,)


def test_log_directories(tool: Tool, cluster: Cluster, made: str) -> None:
    directories = tool.told("cluster", "describe-log-dirs", "--topic", made)
    assert directories.count("'total_bytes': ") == 3
    assert directories.count("'partition_index': ") == 6
    here = cluster.layout.node(2).data_directory
    assert f"'log_dir': '{here}'" in directories
    move = ("cluster", "alter-log-dirs", "-a")
    assert tool.asked(*move, f"{made}:0:2={here}") == {f"{made}:0:2": "NoError"}
    assert tool.asked(*move, f"{made}:0:2={here}-more") == {f"{made}:0:2": "LogDirNotFoundError"}
    assert tool.asked(*move, f"{made}:9:2={here}") == {f"{made}:9:2": "ReplicaNotAvailableError"}


def test_features(tool: Tool) -> None:
    feature = "transaction.version"

    def finalized() -> list[int]:
        return list(tool.asked("cluster", "describe-features", "-f", feature)[feature]["finalized"])

    assert finalized() == [2, 2]
    down = ("cluster", "update-features", "--downgrade", "-f", f"{feature}=1")
    assert tool.asked(*down, "--validate-only") == {feature: "OK"}
    assert finalized() == [2, 2]
    try:
        assert tool.asked(*down) == {feature: "OK"}
        assert finalized() == [1, 1]
    finally:
        assert tool.asked("cluster", "update-features", "-f", f"{feature}=2") == {feature: "OK"}
    assert finalized() == [2, 2]
    assert "InvalidUpdateVersion" in tool.refused("cluster", "update-features", "-f", f"{feature}=9")


def test_transactions(tool: Tool, cluster: Cluster, made: str) -> None:
    name = f"transaction-of-{made}"
    with transactional("confluent-kafka", cluster.bootstrap, name) as one:
        one.begin()
        for index in range(2):
            one.send(made, index, b"in a transaction")
        one.flush()
        listed = tool.asked("transactions", "list", "--id-pattern", f"transaction-of-{made}", "--state", "Ongoing")
        assert set(listed) == {"1", "2", "3"}
        ((row,),) = [rows for rows in listed.values() if rows]
        assert (row["transactional_id"], row["state"]) == (name, "Ongoing")
        told = tool.asked("transactions", "describe", "--transactional-id", name)[name]
        assert (told["state"], told["producer_id"]) == ("Ongoing", row["producer_id"])
        assert told["topic_partitions"] == [{"topic": made, "partition": index} for index in range(2)]
        assert listed[str(told["coordinator_id"])] == [row]

        def producer() -> dict[str, Any]:
            states = tool.asked("transactions", "describe-producers", "-t", made, "-p", "0")
            (found,) = [each for each in states[f"{made}:0"]["active_producers"] if each["producer_id"] == who]
            assert isinstance(found, dict)
            return found

        who, epoch = told["producer_id"], told["producer_epoch"]
        assert (producer()["producer_epoch"], producer()["current_transaction_start_offset"]) == (epoch, 5)
        hanging = tool.asked("transactions", "find-hanging", "--max-transaction-timeout-ms=-300000")
        assert name in [row["transactional_id"] for row in hanging]
        assert tool.asked("transactions", "find-hanging") == [], "none for as long as that"
        words = ("--producer-id", str(who), "--producer-epoch", str(epoch))
        tool.asked("transactions", "abort", "-t", made, "-p", "0", *words)
        assert producer()["current_transaction_start_offset"] == -1
        with KafkaPython().reader(cluster.bootstrap, made) as reading:
            assert reading.bounds()[1] == 7, "five records, one that was taken back, and the marker"
        assert "TransactionalId" in tool.refused("transactions", "describe", "--transactional-id", "no-such-id")
        one.abort()
    told = tool.asked("transactions", "describe", "--transactional-id", name)[name]
    assert told["state"] == "CompleteAbort"
    assert tool.asked("transactions", "list", "--id-pattern", name, "--state", "Ongoing") == {"1": [], "2": [], "3": []}


def test_what_is_refused(tool: Tool, made: str) -> None:
    """It says why, for what makes no sense and for what is not served."""
    wrong = tool.asked("configs", "alter", "-r", "topic", "-n", made, "-c", "retention.ms=soon")
    assert wrong["topic"][made].startswith("[Error 40] InvalidConfigurationError")
    assert "InvalidPartitions" in tool.refused("partitions", "create", "-p", f"{made}:1")
    assert "DescribeAclsRequest" in tool.refused("acls", "describe")

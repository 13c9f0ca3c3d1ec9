"""`ottla broker`, `ottla rebalance` and `ottla partition`, carried out against a simulated cluster."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from ottla.cli import broker, partition, rebalance
from ottla.cli.main import Command, CommandError, build_parser, main
from ottla.client import ConfigResource
from ottla.simulation import SimulatedCluster


class Shell:
    """Runs the commands of one cluster; `__call__` returns what was printed."""

    def __init__(self, cluster: SimulatedCluster, capsys: pytest.CaptureFixture[str]) -> None:
        self.cluster = cluster
        self._capsys = capsys
        self.status = 0

    async def __call__(self, *words: str) -> str:
        modules: dict[str, Command] = {"broker": broker, "rebalance": rebalance, "partition": partition}
        self._capsys.readouterr()
        async with self.cluster.admin() as admin:
            self.status = await modules[words[0]].work(admin, build_parser(words[0]).parse_args(words))  # type: ignore[attr-defined]
        return self._capsys.readouterr().out

    def state(self, topic: str, index: int = 0):
        node = self.cluster.nodes[self.cluster.controller()].node
        return node.quorum.view.image.topics[topic].partitions[index]

    def held_by(self, broker: int) -> int:
        node = self.cluster.nodes[self.cluster.controller()].node
        return sum(broker in state.replicas for _, _, state in node.quorum.view.image.all_partitions())

    def under_way(self) -> list[int]:
        """The partitions of "orders" that are being reassigned."""
        node = self.cluster.nodes[self.cluster.controller()].node
        found = node.quorum.view.image.topics["orders"].partitions
        return [index for index, state in found.items() if state.adding or state.removing]

    async def throttles(self, topic: str) -> list[str]:
        async with self.cluster.admin() as admin:
            configs = await admin.describe_configs([ConfigResource("topic", topic), ConfigResource("broker", "")])
        found = [row for each in configs.values() for row in each.items()]
        return [name for name, entry in found if "throttled" in name and "repair" not in name and entry.value]

    async def replica_counts(self) -> dict[int, int]:
        return {row["id"]: row["replicas"] for row in json.loads(await self("broker", "list", "--format", "json"))}


@pytest.fixture
def shell(simulated_cluster: SimulatedCluster, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(simulated_cluster, capsys)


@pytest.mark.simulation(nodes=4, limit=300)
async def test_a_broker_is_drained_and_removed_and_a_new_one_is_filled(
    simulated_cluster: SimulatedCluster, shell: Shell
):
    cluster = shell.cluster
    await cluster.create_topic("orders", 8)
    gone = cluster.add_broker()
    await cluster.nodes[gone].ready()
    out = await shell("rebalance", "--dry-run")
    assert "replicas are copied" in out and shell.held_by(gone) == 0
    async with cluster.traffic("orders", 8, interval=0.05) as traffic:
        out = await shell("rebalance", "--batch", "3")
        assert "preferred leaders elected" in out
        counts = await shell.replica_counts()
        assert max(counts.values()) - min(counts.values()) <= 1 and sum(counts.values()) == 24
        assert await shell("rebalance") == "Nothing to move.\n"

        out = await shell("broker", "drain", str(gone), "--throttle", "1000000")
        assert f"ottla broker remove {gone}" in out and shell.held_by(gone) == 0
        assert "cordoned" in next(line for line in (await shell("broker", "list")).splitlines() if line[0] == str(gone))
        await shell("rebalance")
        assert shell.held_by(gone) == 0, "it stays empty"
        await cluster.create_topic("more", 8)
        assert shell.held_by(gone) == 0
        async with cluster.admin() as admin:
            configs = await admin.describe_configs([ConfigResource("topic", "orders")])
        assert not any("throttled" in name and entry.value for each in configs.values() for name, entry in each.items())

        with pytest.raises(CommandError, match="stop it first"):
            await shell("broker", "remove", str(gone))
        await cluster.stop(gone)
        await shell("broker", "remove", str(gone))
        cluster.forget(gone)
        assert str(gone) not in [line.split()[0] for line in (await shell("broker", "list")).splitlines()]
        await traffic.start_reading()
        await traffic.stop_writing(within=60)
        await traffic.read_everything()
        assert traffic.ledger.verdict().clean


@pytest.mark.simulation(nodes=4, limit=300)
async def test_what_was_interrupted_is_waited_for(
    simulated_cluster: SimulatedCluster, shell: Shell, capsys: pytest.CaptureFixture[str]
):
    """Until then the broker is not empty, and the throttle is in force."""
    cluster = shell.cluster
    await cluster.create_topic("orders", 8)
    async with cluster.producer() as producer:
        for number in range(400):
            await producer.send("orders", bytes(1000), partition=number % 8)

    async def interrupt(*words: str) -> str:
        capsys.readouterr()
        running = asyncio.create_task(shell(*words))
        await cluster.until(lambda: len(shell.under_way()) > 0, "it has begun")
        await cluster.advance(3)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return capsys.readouterr().err

    held = shell.held_by(4)
    assert "The same command waits for it" in await interrupt("broker", "drain", "4", "--throttle", "100")
    assert (await shell.replica_counts())[4] == shell.held_by(4) == held
    assert "on their way already" in await shell("broker", "drain", "4", "--dry-run")
    with pytest.raises(CommandError, match=f"a replica of {held} partitions"):
        await shell("broker", "remove", "4")
    out = await shell("broker", "drain", "4", "--throttle", "1000000")
    assert f"{held} partitions are on their way already.\nBroker 4 holds no replicas." in out
    assert not shell.under_way() and shell.held_by(4) == 0 and await shell.throttles("orders") == []

    await shell("broker", "uncordon", "4")
    await interrupt("rebalance", "--throttle", "100")
    assert await shell.throttles("orders")
    out = await shell("rebalance", "--throttle", "1000000")
    assert "on their way already" in out and "Nothing to move." in out
    assert not shell.under_way() and shell.held_by(4) == 6 and await shell.throttles("orders") == []


@pytest.mark.simulation(nodes=3)
async def test_a_broker_that_nobody_can_stand_in_for_is_not_drained(simulated_cluster: SimulatedCluster, shell: Shell):
    await shell.cluster.create_topic("orders", 2)
    with pytest.raises(CommandError, match="no other broker is left for 2 partitions: orders-0, orders-1"):
        await shell("broker", "drain", "1")
    with pytest.raises(CommandError, match="drain 1 first"):
        await shell("broker", "remove", "1")
    with pytest.raises(CommandError, match="there is no broker 9"):
        await shell("broker", "drain", "9")
    assert " up " in (await shell("broker", "list")).splitlines()[1], "and it is not cordoned"


@pytest.mark.simulation(nodes=4)
async def test_a_dead_broker_is_drained_and_removed(simulated_cluster: SimulatedCluster, shell: Shell):
    cluster = shell.cluster
    await cluster.create_topic("orders", 4)
    dead = cluster.kill(next(node for node in cluster.nodes if node != cluster.controller()))
    await cluster.until(lambda: all(shell.state("orders", index).leader != dead for index in range(4)), "it is fenced")
    for _ in range(2):
        out = await shell("broker", "drain", str(dead))
        assert (
            "does not run" in out
            and f"holds no replicas. To take it out of the cluster: ottla quorum remove {dead}" in out
        )
        assert shell.held_by(dead) == 0
    assert " fenced " in await shell("broker", "list")
    await shell("broker", "remove", str(dead))


@pytest.mark.simulation(nodes=4)
async def test_a_broker_that_does_not_answer_is_listed_and_given_nothing(
    simulated_cluster: SimulatedCluster, shell: Shell
):
    """Nobody has fenced it yet."""
    cluster = shell.cluster
    await cluster.create_topic("orders", 4)
    silent = cluster.pause(next(node for node in cluster.nodes if node not in (cluster.controller(), 4)))
    states = {row["id"]: row["state"] for row in json.loads(await shell("broker", "list", "--format", "json"))}
    assert states == dict.fromkeys(cluster.nodes, "up") | {silent: "silent"}
    with pytest.raises(CommandError, match="no other broker is left"):
        await shell("broker", "drain", "4")
    cluster.resume(silent)
    await shell("broker", "drain", "4")
    assert shell.held_by(4) == 0


@pytest.mark.simulation(nodes=4)
async def test_uncordon(simulated_cluster: SimulatedCluster, shell: Shell):
    await shell.cluster.create_topic("orders", 4)
    await shell("broker", "drain", "4")
    await shell("broker", "uncordon", "4")
    await shell("rebalance")
    assert shell.held_by(4) == 3


@pytest.mark.simulation(nodes=4)
async def test_generate_execute_verify(simulated_cluster: SimulatedCluster, shell: Shell, tmp_path: Path):
    """kafka-reassign-partitions.sh's three steps, and its files."""
    cluster = shell.cluster
    await cluster.create_topic("orders", 2)
    out = await shell("partition", "reassign", "--generate", "--topics", "orders", "--broker-list", "2,3,4")
    header, current, _, title, proposed = out.splitlines()
    assert (header, title) == ("Current partition replica assignment", "Proposed partition reassignment configuration")
    assert {row["topic"] for row in json.loads(current)["partitions"]} == {"orders"}
    assert all(1 not in row["replicas"] for row in json.loads(proposed)["partitions"])
    assert json.loads(proposed)["partitions"][0]["log_dirs"] == ["any", "any", "any"]
    plan = tmp_path / "plan.json"
    plan.write_text(proposed)

    out = await shell("partition", "reassign", "--execute", "-f", str(plan), "--throttle", "5000000")
    assert current in out and "Save this to use as the --reassignment-json-file option during rollback" in out
    assert "Successfully started partition reassignments for orders-0,orders-1" in out
    async with cluster.admin() as admin:
        (configs,) = (await admin.describe_configs([ConfigResource("topic", "orders")])).values()
    assert configs["follower.replication.throttled.replicas"].value and shell.status == 0
    await cluster.until(lambda: shell.held_by(1) == 0, "it is done")
    out = await shell("partition", "reassign", "--verify", "--reassignment-json-file", str(plan))
    assert "Reassignment of partition orders-0 is completed." in out and "Clearing broker-level throttles" in out
    async with cluster.admin() as admin:
        (configs,) = (await admin.describe_configs([ConfigResource("topic", "orders")])).values()
    assert not configs["follower.replication.throttled.replicas"].value
    assert await shell("partition", "list-reassignments") == "No partition reassignments found.\n"


def wish(path: Path, topic: str, index: int, *replicas: int) -> Path:
    rows = [{"topic": topic, "partition": index, "replicas": replicas}]
    path.write_text(json.dumps({"version": 1, "partitions": rows}))
    return path


@pytest.mark.simulation(nodes=4)
async def test_what_is_under_way_is_listed_verified_and_cancelled(
    simulated_cluster: SimulatedCluster, shell: Shell, tmp_path: Path
):
    cluster = shell.cluster
    await cluster.create_topic("orders")
    before = shell.state("orders").replicas
    new = next(node for node in cluster.nodes if node not in before)
    plan = wish(tmp_path / "plan.json", "orders", 0, new, *before[1:])
    cluster.kill(new)
    await shell("partition", "reassign", "--execute", "-f", str(plan))
    listed = await shell("partition", "list-reassignments")
    assert f"orders-0: replicas: {new}," in listed and f"adding: {new}." in listed and "removing: " in listed
    found = json.loads(await shell("partition", "list-reassignments", "--format", "json"))
    assert found[0]["adding_replicas"] == [new]
    out = await shell("partition", "reassign", "--verify", "-f", str(plan))
    assert "Reassignment of partition orders-0 is still in progress." in out and "Clearing" not in out
    with pytest.raises(CommandError, match="--additional"):
        await shell("partition", "reassign", "--execute", "-f", str(plan))
    out = await shell("partition", "reassign", "--cancel", "-f", str(plan))
    assert "Successfully cancelled partition reassignments for: orders-0" in out
    assert set(shell.state("orders").replicas) == set(before)
    assert "None of the specified" in await shell("partition", "reassign", "--cancel", "-f", str(plan))
    await shell("partition", "reassign", "--verify", "-f", str(plan))
    assert shell.status == 1, "it has other replicas than the file says"


@pytest.mark.simulation(nodes=3)
async def test_what_the_cluster_refuses_is_told(simulated_cluster: SimulatedCluster, shell: Shell, tmp_path: Path):
    await shell.cluster.create_topic("orders")
    plan = tmp_path / "plan.json"
    for replicas, why in (((1, 1), "more than once"), ((1, 77), "no such broker"), ((), "empty")):
        with pytest.raises(CommandError, match=f"Error reassigning partition.*orders-0.*{why}"):
            await shell("partition", "reassign", "--execute", "-f", str(wish(plan, "orders", 0, *replicas)))
    with pytest.raises(CommandError, match="changed from 3 to 1"):
        await shell(
            *("partition", "reassign", "--execute", "-f", str(wish(plan, "orders", 0, 1))),
            "--disallow-replication-factor-change",
        )
    with pytest.raises(CommandError, match="there is no partition orders-7"):
        await shell("partition", "reassign", "--execute", "-f", str(wish(plan, "orders", 7, 1)))
    with pytest.raises(CommandError, match="Replication factor: 3 larger than available brokers: 2"):
        await shell("partition", "reassign", "--generate", "--topics", "orders", "--broker-list", "1,2")


@pytest.mark.simulation(nodes=3)
async def test_elections(simulated_cluster: SimulatedCluster, shell: Shell, tmp_path: Path):
    cluster = shell.cluster
    await cluster.create_topic("orders", 3)
    assert "No partition needs a leader election" in await shell("partition", "elect", "--all")
    killed = cluster.kill(1)
    await cluster.until(lambda: all(shell.state("orders", index).leader != 1 for index in range(3)), "others lead")
    led = next(index for index in range(3) if shell.state("orders", index).replicas[0] == killed)
    words = ("partition", "elect", "--topic", "orders", "--partition", str(led))
    assert "Error completing leader election (PREFERRED)" in await shell(*words) and shell.status == 1
    cluster.start(killed)
    await cluster.until(lambda: cluster.full("orders"), "it is back")
    assert f"Successfully completed leader election (PREFERRED) for partitions orders-{led}" in await shell(*words)
    assert "Valid replica already elected" in await shell(*words) and shell.status == 0
    file = tmp_path / "partitions.json"
    file.write_text(json.dumps({"partitions": [{"topic": "orders", "partition": led}]}))
    out = await shell("partition", "elect", "--election-type", "unclean", "--path-to-json-file", str(file))
    assert "Valid replica already elected for partitions orders-" in out


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"version":2,"partitions":[]}',
        '{"partitions":[{"topic":"t"}]}',
        '{"partitions":[{"topic":"t","partition":true,"replicas":[1]}]}',
        '{"partitions":[{"topic":"t","partition":0,"replicas":["1"]}]}',
        '{"partitions":[{"topic":"t","partition":0,"replicas":[1],"log_dirs":["/d"]}]}',
        '{"partitions":[{"topic":"t","partition":0,"replicas":[1]},{"topic":"t","partition":0,"replicas":[2]}]}',
    ],
)
def test_a_file_that_says_nothing_sensible_is_one_line(text: str, tmp_path: Path):
    from ottla.cli.assignment_file import read_assignment

    file = tmp_path / "f.json"
    file.write_text(text)
    with pytest.raises(CommandError) as told:
        read_assignment(file)
    assert "\n" not in str(told.value)
    with pytest.raises(CommandError, match="No such file"):
        read_assignment(tmp_path / "none.json")


@pytest.mark.parametrize(
    "words",
    [
        ("partition", "reassign"),
        ("partition", "reassign", "--execute"),
        ("partition", "reassign", "--generate", "--topics", "t"),
        ("partition", "reassign", "--generate", "--broker-list", "1"),
        ("partition", "elect"),
        ("partition", "elect", "--topic", "t"),
        ("broker", "drain"),
        ("broker", "drain", "x"),
        ("rebalance", "--batch", "0"),
    ],
)
def test_wrong_usage_is_status_2(words: tuple[str, ...]):
    assert main([*words, "--bootstrap", "127.0.0.1:1"]) == 2

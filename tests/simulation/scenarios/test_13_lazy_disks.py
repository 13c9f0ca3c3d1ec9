"""What Jepsen found in NATS 2.12.1, asked of our controllers: lazy syncs with one power loss, and damaged snapshots."""

import pytest

from ottla.log import ModelledDisk
from ottla.simulation import Anomaly, SimulationError
from tests.simulation.scenarios.quorum import Voters, play
from tests.simulation.scenarios.stage import Broken


async def one_loses_power_and_two_sleep(voters: Voters) -> None:
    """Who has the entry sleeps or has lost its power since; who has not had it, and who forgets it, are a majority."""
    cluster, leader = voters.cluster, voters.leader
    follower, late = voters.followers()
    cluster.pause(late)
    await voters.create("promised")
    cluster.power_off(follower)
    cluster.pause(leader)
    cluster.resume(late)
    cluster.start(follower)
    await voters.led_by_another(leader)
    await cluster.advance(1)
    if "promised" not in voters.topics(voters.leader):
        raise Broken("a topic is gone that was promised")


@pytest.mark.parametrize("seed", range(3))
def test_one_power_loss_and_pauses_split_no_brain(seed: int):
    """nats-server #7567"""
    play(one_loses_power_and_two_sleep, seed=seed)


def test_with_lazy_syncs_they_would(monkeypatch: pytest.MonkeyPatch):
    original = ModelledDisk.sync_node

    def sync(self: ModelledDisk, path: str, node) -> None:
        if not path.endswith(".log"):
            original(self, path, node)

    monkeypatch.setattr(ModelledDisk, "sync_node", sync)
    outcomes = []
    for seed in range(4):
        try:
            play(one_loses_power_and_two_sleep, seed=seed, watched=False)
        except (Broken, SimulationError, Anomaly) as error:
            outcomes.append(str(error))
    assert outcomes, "no seed lost anything"


def damaged_snapshots(seed: int) -> list[str]:
    """A bit of a follower's metadata snapshot rots while it is down."""
    left: list[str] = []

    async def story(voters: Voters) -> None:
        cluster = voters.cluster
        for number in range(5):
            await voters.create(f"topic-{number}")
        follower = voters.followers()[0]
        node = cluster.nodes[follower]
        await cluster.until(lambda: voters.core(follower).snapshot is not None, "it has a snapshot", within=10)
        before = {name for name in node.disk.listdir("/data") if name.startswith("topic-")}
        await cluster.stop(follower)
        metadata = "/data/__cluster_metadata-0"
        name = max(each for each in node.disk.listdir(metadata) if each.endswith(".checkpoint"))
        node.disk.flip_bit(f"{metadata}/{name}", 80)
        node.excused = True
        cluster.start(follower)
        await cluster.advance(5)
        after = {name for name in node.disk.listdir("/data") if name.startswith("topic-")}
        if before - after:
            raise Broken(f"logs are gone: {sorted(before - after)}")
        left.extend(sorted(after))
        if not node.alive:
            # It refuses: whoever runs it wipes the metadata, and it recovers from the others.
            node.disk.remove_tree(metadata)

    play(story, seed=seed, metadata_log_max_record_bytes_between_snapshots="1000")
    return left


@pytest.mark.parametrize("seed", range(2))
def test_a_damaged_snapshot_makes_no_orphans(seed: int):
    """nats-server #7556: what a damaged snapshot does not name was deleted."""
    assert damaged_snapshots(seed)

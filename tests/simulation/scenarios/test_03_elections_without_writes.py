"""KAFKA-10706: leaders follow each other and nobody writes; their epochs all begin at the end of the log."""

import pytest

from ottla.log.partition_log import PartitionLog
from tests.simulation.scenarios.stage import Broken, Stage, play


async def three_elections_without_a_write(stage: Stage) -> None:
    cluster = stage.cluster
    await stage.write(b"m1")
    for _ in range(3):
        leader = stage.leader()
        cluster.kill(leader)
        await stage.led_by_another(leader)
        await cluster.advance(0.2)
        cluster.start(leader)
        await cluster.until(lambda: cluster.full("orders"), "all are in sync", within=20)
    assert stage.image().leader_epoch >= 3
    epochs = stage.on(stage.leader()).log.epochs
    assert [start for _, start in epochs] == sorted({start for _, start in epochs}), "no two begin at one offset"


async def the_same_without_restarts(stage: Stage) -> None:
    """A leader that stays alive keeps in memory the epoch that it led without a record."""
    cluster = stage.cluster
    await stage.write(b"m1")
    for _ in range(3):
        leader = stage.leader()
        cluster.partition([leader], stage.everybody_but(leader))
        await stage.led_by_another(leader)
        cluster.heal()
        await cluster.until(lambda: cluster.full("orders"), "all are in sync", within=20)
    await stage.write(b"m2")


@pytest.mark.parametrize("story", [three_elections_without_a_write, the_same_without_restarts])
def test_replicas_get_in_sync_again(story):
    play(story)


def test_if_a_follower_went_by_its_latest_epoch_truncation_would_never_end(monkeypatch: pytest.MonkeyPatch):
    """An epoch without a record is not where the log ends."""

    def latest(self: PartitionLog) -> int:
        return self._epochs.latest

    monkeypatch.setattr(PartitionLog, "last_epoch", property(latest, lambda _self, _value: None), raising=False)
    with pytest.raises(Broken, match="never ends"):
        play(the_same_without_restarts, watched=False, patience=5)

"""KAFKA-10471: a crash in the middle of recovery, and the next start takes the logs for cleanly closed."""

import posixpath

import pytest

from ottla.log import ModelledDisk
from tests.simulation.scenarios.stage import Broken, Stage, play


async def loses_power_again_and_again(stage: Stage) -> int:
    """Right after a clean stop, each start ends a few disk operations later than the one before."""
    cluster = stage.cluster
    for number in range(20):
        await stage.write(b"%d" % number)
    (follower, *_) = stage.others(stage.leader())
    node = cluster.nodes[follower]
    await cluster.stop(follower)
    crashes = 0
    for operations in range(1, 40, 3):
        node.start()
        node.power_off_within(operations)
        await cluster.advance(2)
        if node.alive:
            node.lives_on()
            cluster.power_off(follower)
        else:
            crashes += 1
    cluster.start(follower)
    await node.ready()
    if node.node.broker._logs.was_clean:  # type: ignore[union-attr]
        raise Broken("an interrupted recovery was taken for a clean stop")
    return crashes


@pytest.mark.parametrize("flush", ["synced", "os"])
def test_the_marker_goes_before_the_first_log_is_touched(flush: str):
    assert play(loses_power_again_and_again, nodes=3, ottla_flush=flush) > 3


def test_a_marker_that_stays_would_be_believed(monkeypatch: pytest.MonkeyPatch):
    original = ModelledDisk.remove

    def remove(self: ModelledDisk, path: str) -> None:
        if posixpath.basename(path) != ".kafka_cleanshutdown":
            original(self, path)

    monkeypatch.setattr(ModelledDisk, "remove", remove)
    with pytest.raises(Broken, match="taken for a clean stop"):
        play(loses_power_again_and_again, nodes=3, watched=False, ottla_flush="synced")

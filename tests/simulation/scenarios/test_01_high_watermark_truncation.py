"""KIP-101: a record is acknowledged, its followers have not heard of that yet, and leaders change twice."""

import pytest

from ottla.broker.replication.partition import Partition
from tests.simulation.scenarios.stage import Broken, Stage, play, tells_high_watermark


async def two_failovers_before_anybody_hears_of_the_high_watermark(stage: Stage) -> None:
    cluster = stage.cluster
    await stage.write(b"m1")
    first = stage.leader()
    second, third = stage.others(first)
    unaware = cluster.hold(
        "Fetch", source=first, response=True, count=None, where=tells_high_watermark(stage, at_least=2)
    )
    await stage.write(b"m2")
    assert [stage.on(node_id).high_watermark for node_id in (second, third)] == [1, 1]
    assert [stage.on(node_id).log_end_offset for node_id in (second, third)] == [2, 2]
    # Whoever follows next shall not be able to fetch again what it may have cut off.
    fetches = [cluster.hold("Fetch", source=a, target=b, count=None) for a, b in ((second, third), (third, second))]
    cluster.kill(first)
    unaware.drop()
    new = await stage.led_by_another(first)
    (follower,) = stage.others(first, new)
    await cluster.until(lambda: stage.on(follower).leader_id == new, "the third follows", within=5)
    cluster.kill(new)
    await stage.led_by_another(new)
    for held in fetches:
        held.drop()


@pytest.mark.parametrize("seed", range(3))
def test_the_followers_keep_what_was_acknowledged(seed: int):
    play(two_failovers_before_anybody_hears_of_the_high_watermark, seed=seed)


def test_without_epochs_a_follower_would_cut_its_log_to_the_high_watermark(monkeypatch: pytest.MonkeyPatch):
    original = Partition.become_follower

    def become_follower(self: Partition, image):
        original(self, image)
        assert self.log is not None
        self.log.truncate_to(max(self.high_watermark, self.log.log_start_offset))

    monkeypatch.setattr(Partition, "become_follower", become_follower)
    with pytest.raises(Broken, match="m2"):
        play(two_failovers_before_anybody_hears_of_the_high_watermark, watched=False)

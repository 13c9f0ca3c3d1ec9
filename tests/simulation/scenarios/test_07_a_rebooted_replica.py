"""KIP-903: a leader asks for a follower in the ISR; meanwhile that one comes back with an empty disk."""

import pytest

from ottla.controller.metadata import isr
from ottla.simulation.messages import Message
from tests.simulation.scenarios.stage import Broken, Stage, play


async def a_request_of_before_the_reboot(stage: Stage) -> bool:
    """Returns whether the empty replica is in the ISR."""
    cluster = stage.cluster
    leader = stage.leader()
    other, rebooted = stage.others(leader)
    await stage.write(b"m1")
    cluster.kill(rebooted)
    await cluster.until(lambda: rebooted not in stage.image().isr, "it is out", within=20)
    held = cluster.hold("AlterPartition", source=leader, where=lambda message: adds(stage, message, rebooted))
    cluster.start(rebooted)
    await held.caught(20)
    cluster.wipe(rebooted)
    # It shall not fetch anything before it is too late.
    fetches = [cluster.hold("Fetch", source=rebooted, target=node_id, count=None) for node_id in (leader, other)]
    cluster.start(rebooted)
    await cluster.nodes[rebooted].ready()
    assert stage.on(rebooted).log_end_offset == 0
    held.release()
    await cluster.advance(1)
    in_sync = rebooted in stage.image().isr
    cluster.kill(leader)
    cluster.kill(other)
    await cluster.advance(3)
    for each in fetches:
        each.drop()
    return in_sync


def adds(stage: Stage, message: Message, member: int) -> bool:
    return any(
        each["partition"] == stage.index and member in {row["id"] for row in each["new_isr"]}
        for each in message.json()["partitions"]
    )


@pytest.mark.parametrize("seed", range(2))
def test_who_has_come_back_empty_is_not_put_into_the_isr(seed: int):
    assert not play(a_request_of_before_the_reboot, seed=seed)


def test_without_broker_epochs_an_empty_replica_is_in_sync(monkeypatch: pytest.MonkeyPatch):
    original = isr._refusal

    def refusal(image, state, node_id, wish):
        members = tuple(each.model_copy(update={"broker_epoch": image.brokers[each.id].epoch}) for each in wish.new_isr)
        return original(image, state, node_id, wish.model_copy(update={"new_isr": members}))

    monkeypatch.setattr(isr, "_refusal", refusal)
    with pytest.raises(Broken, match="m1"):
        play(a_request_of_before_the_reboot, watched=False)

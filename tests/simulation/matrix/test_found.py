"""Storms with faults of disks that found something, each with what it was."""

from collections.abc import Callable

import pytest

from ottla.client import NewTopic
from ottla.controller import NO_LEADER, MetadataImage, PartitionImage
from ottla.controller.metadata import election
from ottla.log.checkpoints import Running
from ottla.simulation import SimulatedCluster, run
from ottla.simulation.errors import Anomaly
from ottla.simulation.storm import storm

DISKS = ["disk full", "disk errors", "stalled syncs", "bit rot", "wipe", "kill", "stop", "pause", "partition"]


@pytest.mark.parametrize("seed", ["disk 119", "disk 127"])
def test_a_node_whose_disk_fails_while_it_starts_does_not_wait_for_ever(seed: str):
    assert storm(seed, seconds=15, kinds=DISKS)


def test_two_that_were_killed_and_one_that_was_wiped():
    """Only one of them has lost anything; all three looked like that to the controller."""
    assert storm("disk 282", seconds=15, kinds=DISKS)


POWER = ["lone power off", "kill", "kill all", "wipe", "stop", "disk full"]


@pytest.mark.parametrize("seed", range(3))
def test_one_loses_its_power_while_others_are_killed(seed: int):
    """With the page cache policy too."""
    assert storm(f"disk {seed}", seconds=15, kinds=POWER)


async def _end(cluster: SimulatedCluster, node_id: int, how: str) -> None:
    if how == "stop":
        await cluster.stop(node_id)
    else:
        cluster.kill(node_id)


def two_go_down_and_the_third_is_wiped(seed: int, flush: str, how: str, *, meanwhile: str = "") -> None:
    """The two hold everything that was acknowledged. `meanwhile` each of them comes up alone, without a controller to
    register with, and ends like that."""

    async def scenario() -> None:
        async with SimulatedCluster(settings={"ottla.flush": flush}) as cluster:
            await cluster.create_topic("orders")
            async with cluster.traffic("orders", 1, interval=0.02) as traffic:
                await cluster.advance(1)
                for node_id in (1, 2):
                    getattr(cluster, how)(node_id)
                cluster.wipe(3)
                await cluster.advance(0.5)
                for node_id in (1, 2) if meanwhile else ():
                    cluster.start(node_id)
                    await cluster.advance(1)
                    await _end(cluster, node_id, meanwhile)
                for node_id in (1, 2, 3):
                    cluster.start(node_id)
                await cluster.until(lambda: cluster.full("orders"), "every replica is in sync", within=30)
                await traffic.start_reading()
                await traffic.stop_writing(within=60)
                await traffic.read_everything()
                assert traffic.ledger.verdict().clean

    run(scenario, seed)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("flush", "how"), [("os", "kill"), ("synced", "power_off")])
def test_two_go_down_that_have_everything_and_the_third_is_wiped(seed: int, flush: str, how: str):
    two_go_down_and_the_third_is_wiped(seed, flush, how)


@pytest.mark.parametrize("meanwhile", ["stop", "kill"])
@pytest.mark.parametrize(("flush", "how"), [("os", "kill"), ("synced", "power_off")])
def test_they_come_up_alone_in_between(flush: str, how: str, meanwhile: str):
    """A process that never was registered must not leave the mark of a stop that nobody knows: after that the wiped one
    looked no worse than they did, and it led, with nothing."""
    two_go_down_and_the_third_is_wiped(0, flush, how, meanwhile=meanwhile)


@pytest.mark.parametrize(("flush", "how"), [("os", "kill"), ("synced", "power_off")])
def test_it_dies_before_it_hears_of_its_registration(flush: str, how: str):
    """Its next life names the registration before that one, and still has everything; the other replica is wiped."""

    async def scenario() -> None:
        async with SimulatedCluster(nodes=5, settings={"ottla.flush": flush}) as cluster:
            async with cluster.admin() as admin:
                both = {"min.insync.replicas": "2"}
                await admin.create_topics([NewTopic("orders", replica_assignments={0: [5, 1]}, topic_configs=both)])
            await cluster.until(lambda: cluster.full("orders"), "both replicas are in sync", within=30)
            async with cluster.traffic("orders", 1, interval=0.02) as traffic:
                await cluster.advance(1)
                getattr(cluster, how)(1)
                await cluster.advance(3)
                cluster.wipe(5)
                held = cluster.hold("RegisterBroker", target=1, response=True)
                cluster.start(1)
                await held.caught()
                getattr(cluster, how)(1)
                held.drop()
                cluster.start(1)
                await cluster.advance(3)
                cluster.start(5)
                await cluster.until(lambda: cluster.full("orders"), "every replica is in sync", within=30)
                await traffic.start_reading()
                await traffic.stop_writing(within=60)
                await traffic.read_everything()
                assert traffic.ledger.verdict().clean

    run(scenario, 0)


@pytest.mark.parametrize("seed", range(3))
def test_the_topic_id_of_a_log_could_not_be_synced_and_the_power_goes_under_the_next_process(seed: int):
    """The next process could read it, and synced it once more, which says nothing. It had confirmed what nobody knew
    any more to be of the topic."""

    async def scenario() -> None:
        async with SimulatedCluster(settings={"ottla.flush": "synced"}) as cluster:
            cluster.disk_errors(3, on="sync", path_contains="orders-0/partition.metadata", times=1)
            async with cluster.admin() as admin:
                await admin.create_topics([NewTopic("orders", 1, 3)])
            async with cluster.traffic("orders", 1, interval=0.02) as traffic:
                await cluster.until(lambda: not cluster.nodes[3].alive, "the failure has ended the node", within=30)
                cluster.start(3)
                await cluster.until(lambda: cluster.full("orders"), "every replica is in sync", within=30)
                await cluster.advance(1)
                cluster.kill(1)
                await cluster.advance(3)
                cluster.kill(2)
                cluster.power_off(3)
                for node_id in (1, 3):
                    cluster.start(node_id)
                await cluster.advance(20)
                cluster.start(2)
                await traffic.start_reading()
                await traffic.stop_writing(within=60)
                await traffic.read_everything()
                assert traffic.ledger.verdict().clean

    run(scenario, seed)


def the_last_of_the_isr_is_wiped(seed: int, how: str) -> None:
    """The others have everything, but are not in the ISR any more; nothing was written since."""

    async def scenario() -> None:
        async with SimulatedCluster(settings={"ottla.flush": "os"}) as cluster:
            await cluster.create_topic("orders", min_insync_replicas="1")
            async with cluster.producer() as producer:
                for number in range(50):
                    await producer.send_and_wait("orders", b"%d" % number)
            for node_id in (1, 2):
                await _end(cluster, node_id, how)
                await cluster.advance(5)
            cluster.wipe(3)
            for node_id in (1, 2, 3):
                cluster.start(node_id)
            await cluster.until(lambda: cluster.full("orders"), "every replica is in sync", within=30)
            async with cluster.consumer("orders", auto_offset_reset="earliest") as consumer:
                assert [int((await consumer.getone()).value or b"") for _ in range(50)] == list(range(50))

    run(scenario, seed)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_the_last_of_the_isr_is_wiped_and_others_still_have_everything(seed: int, how: str):
    the_last_of_the_isr_is_wiped(seed, how)


def _as_kafka(image: MetadataImage, state: PartitionImage, _reported: object, eligible: Callable[[int], bool]) -> int:
    last = state.last_known_leader
    return last if last in image.brokers and eligible(last) else NO_LEADER


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_it_leads_with_nothing_if_nobody_compares_the_logs(how: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(election, "most_complete", _as_kafka)
    with pytest.raises((Anomaly, TimeoutError)):
        for seed in range(4):
            the_last_of_the_isr_is_wiped(seed, how)


@pytest.mark.parametrize(("flush", "how"), [("os", "kill"), ("synced", "power_off")])
def test_it_loses_everything_if_all_three_look_the_same(flush: str, how: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Running, "decode", lambda _data: Running())
    monkeypatch.setattr(election, "most_complete", _as_kafka)
    with pytest.raises((Anomaly, TimeoutError)):
        for seed in range(20):
            two_go_down_and_the_third_is_wiped(seed, flush, how)

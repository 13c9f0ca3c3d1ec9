"""KIP-966: the ISR shrinks one by one, and the last of it loses power with an unflushed tail."""

import asyncio

import pytest

from ottla.broker.replication.leader import LeaderState
from ottla.cli import topic_describe
from ottla.cli.main import build_parser
from ottla.client import Admin, NewTopic, PartitionMetadata
from ottla.cluster import Verdict
from ottla.controller.metadata import brokers
from ottla.simulation import SimulatedCluster, leader_of, run
from tests.simulation.scenarios.stage import TOPIC, Broken, Stage, play

LAG = {"replica_lag_time_max_ms": "1000"}


def last_of_an_isr_loses_its_records(seed: int) -> Verdict:
    """The leader loses power with an unflushed tail, the others stop cleanly; it is back first, and is the last member
    of the ISR once the controller has noticed that the others are away."""

    async def scenario():
        async with SimulatedCluster(settings={"ottla.flush": "os"}) as cluster:
            await cluster.create_topic("orders")
            async with cluster.traffic("orders", 1, interval=0.02) as traffic:
                await cluster.advance(1)
                lossy = cluster.power_off(leader_of("orders"))
                first, second = [node_id for node_id in cluster.nodes if node_id != lossy]
                await cluster.stop(first)
                await cluster.stop(second)
                cluster.start(lossy)
                cluster.start(first)
                await cluster.advance(10)
                cluster.start(second)
                await cluster.until(lambda: cluster.full("orders"), "every replica is in sync", within=30)
                await traffic.start_reading()
                await traffic.stop_writing(within=60)
                await traffic.read_everything()
                return traffic.ledger.verdict()

    return run(scenario, seed)


@pytest.mark.parametrize("seed", range(3))
def test_the_last_of_an_isr_that_lost_its_records_gives_way_to_one_that_has_them(seed: int):
    verdict = last_of_an_isr_loses_its_records(seed)
    assert verdict.clean
    assert verdict.acknowledged > 50


def test_it_would_lose_them_if_an_unclean_stop_did_not_count(monkeypatch: pytest.MonkeyPatch):
    original = brokers.take_out
    monkeypatch.setattr(brokers, "take_out", lambda image, policy, away, *, lost=(): original(image, policy, away))
    try:
        verdict = last_of_an_isr_loses_its_records(0)
    except (TimeoutError, AssertionError):
        return  # the reader waits for what is gone, or the invariants see it first
    assert not verdict.clean


async def one_after_another_is_cut_off(stage: Stage) -> None:
    """KIP-966's own story: the first is cut off, then the second; the third goes on alone, and loses power."""
    cluster = stage.cluster
    third = stage.leader()
    first, second = stage.others(third)
    await stage.write(b"m1")
    cluster.partition([first], [third])
    await stage.write(b"m2")
    await cluster.until(lambda: first not in stage.image().isr, "the first is out", within=20)
    cluster.partition([second], [third])
    await stage.write(b"nobody else's", acks=1)
    await cluster.until(lambda: second not in stage.image().isr, "the second is out", within=20)
    # The first does not have m2, and can never be chosen.
    await _is_shown(stage, isr={third}, elr={second})
    # Below min.insync.replicas nothing is acknowledged, and what is there is not shown to consumers.
    await stage.write(b"nor this", acks=1)
    if stage.on(third).high_watermark != 2:
        raise Broken(f"readers see what only one replica has: high watermark {stage.on(third).high_watermark}")
    cluster.power_off(third)
    cluster.heal()
    await stage.led_by_another(third)
    await stage.write(b"m3")


@pytest.mark.parametrize("seed", range(3))
def test_the_high_watermark_is_frozen_and_an_eligible_replica_leads(seed: int):
    play(one_after_another_is_cut_off, seed=seed, **LAG)


def test_if_it_were_not_frozen_readers_would_see_what_is_lost_then(monkeypatch: pytest.MonkeyPatch):
    never = property(lambda _: False, lambda _, __: None)
    monkeypatch.setattr(LeaderState, "under_min_isr", never, raising=False)
    with pytest.raises(Broken, match="readers see"):
        play(one_after_another_is_cut_off, watched=False, **LAG)


async def _shown(admin: Admin, topic: str, index: int) -> PartitionMetadata:
    return (await admin.describe_topics([topic]))[topic].partitions[index]


async def _is_shown(stage: Stage, *, isr: set[int], elr: set[int]) -> None:
    """What an admin client is told, as soon as whoever it asks knows."""
    async with stage.cluster.admin() as admin:
        for _ in range(100):
            shown = await _shown(admin, TOPIC, stage.index)
            if (set(shown.isr), set(shown.elr or ()), shown.last_known_elr) == (isr, elr, ()):
                return
            await stage.cluster.advance(0.2)
    raise Broken(f"shown: {shown}; expected: ISR {isr}, ELR {elr}")


async def _printed(stage: Stage, capsys: pytest.CaptureFixture[str]) -> str:
    """The partition's line of `ottla topic describe`."""
    capsys.readouterr()
    async with stage.cluster.admin() as admin:
        await topic_describe.run(admin, build_parser("topic").parse_args(["topic", "describe", TOPIC]))
    return capsys.readouterr().out.splitlines()[1 + stage.index]


@pytest.mark.parametrize("seed", range(2))
def test_who_returns_from_an_unclean_stop_is_in_neither_set_until_it_has_caught_up(
    capsys: pytest.CaptureFixture[str], seed: int
):
    async def story(stage: Stage) -> None:
        """Two are cut off from the third, without whom nothing is committed; one of them loses power besides."""
        cluster = stage.cluster
        third = stage.leader()
        first, second = stage.others(third)
        await stage.write(b"m1")
        cluster.partition([first, second], [third])
        await stage.write(b"nobody else's", acks=1)
        await _is_shown(stage, isr={third}, elr={first, second})
        assert f"\tIsr: {third}\tElr: {first},{second}\tLastKnownElr: " in await _printed(stage, capsys)
        cluster.power_off(first)
        cluster.start(first)
        await _is_shown(stage, isr={third}, elr={second})
        with (
            cluster.hold("Fetch", source=first, target=third, count=None) as of_the_first,
            cluster.hold("Fetch", source=second, target=third, count=None) as of_the_second,
        ):
            cluster.heal()
            await asyncio.gather(of_the_first.caught(), of_the_second.caught())
            await cluster.advance(5)
            await _is_shown(stage, isr={third}, elr={second})
            of_the_first.release()
            await _is_shown(stage, isr={first, third}, elr={second})
        await _is_shown(stage, isr={first, second, third}, elr=set())

    play(story, seed=seed, configs={"min.insync.replicas": "3"}, **LAG)


@pytest.mark.simulation(seeds=range(2), nodes=5)
async def test_the_last_known_leader_is_shown_where_nobody_is_sure_to_have_everything(simulated_cluster):
    """With one of two in sync there are no eligible leaders; the one has lost power, and might have lost records."""
    cluster = simulated_cluster
    async with cluster.admin() as admin:
        configs = {"min.insync.replicas": "1", "flush.messages": "1"}
        plan = NewTopic("t", replica_assignments={0: (1, 2)}, topic_configs=configs)
        await admin.create_topics([plan])
        await cluster.until(lambda: cluster.full("t"), "both are in sync")
        cluster.kill(2)
        await cluster.until(lambda: cluster.partition_on(1, "t").role.isr.committed == {1}, "one is alone")
        async with cluster.producer(linger_ms=0) as producer:
            await producer.send_and_wait("t", b"only one has it", partition=0)
        cluster.power_off(1)
        cluster.start(2)
        await cluster.nodes[2].ready()
        with cluster.hold("Heartbeat", source=1, plane="controller", count=None) as held:
            cluster.start(1)
            await held.caught()
            await cluster.advance(5)
            shown = await _shown(admin, "t", 0)
            assert (shown.leader, shown.isr, shown.elr, shown.last_known_elr) == (-1, (), (), (1,))
        await cluster.until(lambda: cluster.full("t"), "the last known leader leads, and both are in sync")
        shown = await _shown(admin, "t", 0)
        assert (shown.leader, shown.elr, shown.last_known_elr) == (1, (), ())

"""The coordinator of transactions in whole clusters: what it has told stays so, whoever coordinates."""

import asyncio

import pytest
from kio.schema.errors import ErrorCode

from ottla.broker.coordination import TRANSACTIONS_TOPIC
from ottla.broker.transactions.shard import Shard
from ottla.broker.transactions.turns import Outcome
from ottla.simulation import SimulatedCluster, current_world, run
from tests.simulation.transactional import Transactional, coordinator_of

ROUNDS = 6
SETTINGS = {"transaction.state.log.num.partitions": "4"}


async def instances_one_after_the_other():
    """Each is the last one that may do anything, also when the coordinator dies after every start."""
    async with SimulatedCluster(settings=SETTINGS) as cluster:
        given, fenced = [], []
        last = None
        for _ in range(ROUNDS):
            instance = Transactional(cluster, "mover")
            given.append(await instance.init())
            if last is not None:
                fenced.append(await last.end(False))
            assert await instance.end(False) is ErrorCode.none
            given.append((instance.producer_id, instance.epoch))
            victim = cluster.kill(coordinator_of("mover", 4))
            last = instance
            await asyncio.sleep(0.5)
            cluster.start(victim)
            await cluster.nodes[victim].ready()
            await cluster.until(lambda: cluster.full(TRANSACTIONS_TOPIC), "every replica is in sync")
        return given, fenced, current_world().complaints


@pytest.mark.parametrize("seed", range(2))
def test_every_epoch_is_given_once_whoever_coordinates(seed):
    given, fenced, complaints = run(instances_one_after_the_other, seed)
    assert len({producer_id for producer_id, _ in given}) == 1
    epochs = [epoch for _, epoch in given]
    assert epochs == sorted(set(epochs)), "each is higher than all before it"
    assert fenced == [ErrorCode.producer_fenced] * (ROUNDS - 1)
    assert complaints == []


def test_if_it_were_told_before_it_is_replicated_an_epoch_would_be_given_twice(monkeypatch):
    original = Shard._write

    def write(self, transactional_id, busy, turn, decision):
        turn.future.set_result(Outcome(decision.error, decision.producer))
        original(self, transactional_id, busy, turn, decision)

    # Only told too early; where nothing dies in between, nobody notices.
    monkeypatch.setattr(Shard, "_write", write)
    with pytest.raises(AssertionError):
        for seed in range(3):
            run(told_and_cut_off, seed)


async def told_and_cut_off():
    """The coordinator is cut off from its followers as it answers, and replaced."""
    async with SimulatedCluster(settings=SETTINGS) as cluster:
        first = Transactional(cluster, "mover")
        await first.init()
        await cluster.until(lambda: cluster.full(TRANSACTIONS_TOPIC), "every replica is in sync")
        await cluster.advance(1)
        victim = cluster.the(coordinator_of("mover", 4)).id
        others = [node for node in cluster.nodes if node != victim]
        cluster.partition([victim], others)
        second = Transactional(cluster, "mover")
        second._addresses = [cluster.nodes[victim].machine.address]
        second_got = asyncio.ensure_future(second.init())
        await asyncio.sleep(3)
        cluster.kill(victim)
        second._addresses = [cluster.nodes[node].machine.address for node in others]
        third = Transactional(cluster, "mover")
        third._addresses = second._addresses
        given = [await second_got, await third.init()]
        cluster.heal()
        assert len(set(given)) == 2, f"{given} were given to two"
        return given


@pytest.mark.parametrize("seed", range(2))
def test_what_is_cut_off_is_not_told(seed):
    run(told_and_cut_off, seed)

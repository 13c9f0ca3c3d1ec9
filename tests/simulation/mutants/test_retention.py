"""Clients of a topic that loses its beginning, under faults, and mistakes in our own code that have to be found."""

from dataclasses import replace

import pytest

from ottla.broker import ReplicaManager
from ottla.broker.replication import leading
from ottla.log import PartitionLog
from ottla.simulation import SimulatedCluster, run
from ottla.simulation.errors import Anomaly
from tests.simulation.mutants.catching import beside, catch, runs_alike

SETTINGS = {"log.retention.check.interval.ms": "200"}


def plan(seed, kinds, seconds=10.0):
    return beside("retention", seed, kinds, seconds, SETTINGS)


def delete_above_the_high_watermark(patch):
    original = PartitionLog.delete_old_segments

    def delete(self, now_ms, _high_watermark, **options):
        return original(self, now_ms, 2**62, **options)

    patch.setattr(PartitionLog, "delete_old_segments", delete)


def go_on_with_what_is_left(patch):
    """Whoever asks for what is gone is not told."""

    def read(partition, want, **options):
        if want.replica_id < 0:
            want = replace(want, offset=max(want.offset, partition.log.log_start_offset))
        return leading.read(partition, want, **options)

    patch.setattr(ReplicaManager, "read", staticmethod(read))


MUTANTS = {
    "delete above the high watermark": (delete_above_the_high_watermark, ("late", "isolate"), 4),
    "go on with what is left": (go_on_with_what_is_left, ("slow links",), 8),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught_within_so_many_seeds(name):
    mutate, kinds, seeds = MUTANTS[name]
    catch(mutate, lambda seed: plan(seed, kinds), seeds)


def test_the_same_seed_gives_the_same_run():
    work = runs_alike(plan(3, ("kill",), seconds=5.0)).work_besides
    assert work["written"] > 0 and work["read"] > 0


def emptied(cluster, end):
    logs = [cluster.partition_on(node_id, "recent").log for node_id in cluster.nodes]
    return all(log.log_start_offset == log.log_end_offset == end and not log.has_detached for log in logs)


def an_epoch_of_which_nothing_is_left(seed):
    """The disks know of an older one; of this one only the node that is stopped cleanly has told its disk, but for what
    retention does."""

    async def scenario():
        async with SimulatedCluster(settings=SETTINGS | {"ottla.flush": "os"}) as cluster:
            await cluster.create_topic("recent", segment_bytes="300", retention_ms="1000")
            async with cluster.producer() as producer:
                for end in (5, 10):
                    for _ in range(5):
                        await producer.send_and_wait("recent", b"x" * 100)
                    for node_id in cluster.nodes if end == 5 else ():
                        await cluster.stop(node_id)
                        cluster.start(node_id)
                        await cluster.until(lambda: cluster.full("recent"), "every replica is in sync", within=30)
                await cluster.until(lambda: emptied(cluster, 10), "retention has removed everything", within=30)
                last = cluster.leader("recent")
                await cluster.stop(last)
                for node_id in set(cluster.nodes) - {last}:
                    cluster.kill(node_id)
                for node_id in sorted(cluster.nodes, key=lambda node_id: node_id == last):
                    cluster.start(node_id)
                await cluster.until(lambda: cluster.full("recent"), "every replica is in sync", within=30)
                assert (await producer.send_and_wait("recent", b"on")).offset == 10

    run(scenario, seed)


@pytest.mark.parametrize("seed", range(3))
def test_a_leader_whose_records_are_gone_knows_what_epoch_they_were_of(seed):
    an_epoch_of_which_nothing_is_left(seed)


def test_else_it_has_members_of_the_isr_cut_what_is_committed(monkeypatch):
    monkeypatch.setattr(PartitionLog, "_keep_epochs", lambda _: None)
    with pytest.raises(Anomaly, match="was cut from 10 to"):
        an_epoch_of_which_nothing_is_left(0)

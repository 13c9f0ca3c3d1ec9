"""An unmodified client of somebody else in virtual time: aiokafka through the death of a leader."""

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from ottla.simulation import SimulatedCluster, current_world, leader_of, run
from ottla.simulation.world import EPOCH_S

RECORDS = 30


async def through_a_failover():
    async with SimulatedCluster() as cluster:
        await cluster.create_topic("orders", 2)
        bootstrap = cluster.bootstrap
        where = [TopicPartition("orders", partition) for partition in range(2)]
        async with (
            AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=5) as producer,
            AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer,
        ):
            consumer.assign(where)
            for number in range(RECORDS):
                if number == RECORDS // 3:
                    cluster.kill(leader_of("orders", 0))
                await producer.send_and_wait("orders", b"%d" % number, partition=number % 2)
            read = [await consumer.getone() for _ in range(RECORDS)]
            positions = [await consumer.position(each) for each in where]
            # Its stop() raises CancelledError when a fetch from the dead node is waiting for its next attempt.
            await cluster.advance(1)
        world = current_world()
        return read, positions, world.trace.fingerprint, world.complaints


@pytest.mark.parametrize("seed", range(3))
def test_a_producer_and_a_consumer_survive_a_leader(seed):
    read, positions, _, complaints = run(through_a_failover, seed)
    for partition in range(2):
        mine = [int(record.value) for record in read if record.partition == partition]
        assert mine == list(range(partition, RECORDS, 2))
    assert positions == [RECORDS // 2, RECORDS // 2]
    assert complaints == []


def test_its_clock_is_the_virtual_one():
    """Its batch builder is compiled and asks the operating system for the time; a broker refuses tomorrow."""
    read, *_ = run(through_a_failover, 1)
    assert all(0 <= record.timestamp / 1000 - EPOCH_S < 60 for record in read)


def test_the_same_seed_gives_the_same_bytes():
    """In one process. Across processes its sets of strings need the same PYTHONHASHSEED."""
    prints = [run(through_a_failover, seed)[2] for seed in (5, 5, 5, 5, 6)]
    assert len(set(prints[:4])) == 1, prints


def test_afterwards_it_is_as_it_was():
    from aiokafka.producer.message_accumulator import BatchBuilder

    before = BatchBuilder.append
    run(through_a_failover, 2)
    assert BatchBuilder.append is before

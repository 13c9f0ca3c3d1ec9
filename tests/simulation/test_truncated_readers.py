"""What a reader had read is taken back by an unclean election: it goes on where its past and the log part (KIP-320)."""

from __future__ import annotations

import pytest

from ottla.client import Consumer, TopicPartition
from tests.simulation.scenarios.stage import TOPIC, Broken, Stage, play

CONFIGS = {"min_insync_replicas": "1", "unclean_leader_election_enable": "true"}
LAG = {"replica_lag_time_max_ms": "1000"}
COMMON = [b"common %d" % number for number in range(3)]
OF_THE_FIRST = [b"first %d" % number for number in range(4)]
OF_THE_SECOND = [b"second %d" % number for number in range(5)]


async def read_until(consumer: Consumer, last: bytes) -> list[bytes]:
    met: list[bytes] = []
    while last not in met:
        for records in (await consumer.getmany(timeout_ms=500)).values():
            met += [record.value or b"" for record in records]
    return met


async def write(stage: Stage, values: list[bytes]) -> int:
    """Returns the offset of the first."""
    offsets = [await stage.write(value, acks=1) for value in values]
    return offsets[0]


async def the_first_writes_alone(stage: Stage) -> int:
    """Returns who that was; it is dead, and somebody who knows nothing of it leads."""
    cluster, first = stage.cluster, stage.leader()
    cluster.cut([first], stage.others(first))
    await write(stage, OF_THE_FIRST)
    await cluster.until(lambda: stage.image().isr == (first,), "the leader is alone", within=20)
    cluster.kill(first)
    cluster.heal()
    await stage.led_by_another(first)
    return first


async def the_first_leads_again(stage: Stage, first: int) -> None:
    cluster, second = stage.cluster, stage.leader()
    for node in stage.others(first):
        cluster.kill(node)
    cluster.start(first)
    assert await stage.led_by_another(second) == first
    await stage.write(b"last", acks=1)


@pytest.mark.parametrize("earlier", [0, 2])
@pytest.mark.parametrize("sees_the_first", [False, True])
def test_a_reader_of_one_past_is_led_to_all_of_the_other(earlier: int, sees_the_first: bool) -> None:
    """The log that it comes back to has older epochs, which reach beyond the offset where its own past began to differ.
    `earlier`: from where on it has read."""

    async def scenario(stage: Stage) -> None:
        cluster, where = stage.cluster, TopicPartition(TOPIC, stage.index)
        await write(stage, COMMON)
        await cluster.until(lambda: len({stage.on(n).high_watermark for n in stage.replicas}) == 1, "replicated")
        async with cluster.consumer(auto_offset_reset="earliest", request_timeout_ms=1500) as consumer:
            consumer.assign([where])
            consumer.seek(where, earlier)
            assert await read_until(consumer, COMMON[-1]) == COMMON[earlier:]
            if not sees_the_first:
                consumer.pause(where)
            first = await the_first_writes_alone(stage)
            if sees_the_first:
                assert await read_until(consumer, OF_THE_FIRST[-1]) == OF_THE_FIRST
            consumer.resume(where)
            parted = await write(stage, OF_THE_SECOND)
            assert (await read_until(consumer, OF_THE_SECOND[-1]))[-len(OF_THE_SECOND) :] == OF_THE_SECOND
            await the_first_leads_again(stage, first)
            met = await read_until(consumer, b"last")
            if met != [*OF_THE_FIRST[parted - len(COMMON) :], b"last"]:
                raise Broken(f"the reader met {met}")

    play(scenario, configs=CONFIGS, **LAG)

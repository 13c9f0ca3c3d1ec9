"""compression.type: what a producer sent in another codec is compressed anew, in order, and nothing else changes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from ottla.records import (
    Compression,
    CorruptBatch,
    Record,
    decode_batch,
    encode_batch,
    iter_headers,
    read_header,
    recompress_batch,
)
from ottla.wire import CLOSE, NO_RESPONSE
from tests.broker.test_produce import follower_fetches, patched
from tests.broker.world import NOW_MS, World, batch

CODECS = list(Compression)
NAMES = {Compression.NONE: "uncompressed", **{codec: codec.name.lower() for codec in CODECS if codec}}
LARGE = 100_000


def large(seed: int = 1, *, compression: int = Compression.NONE, **more: Any) -> bytes:
    """More than is compressed on the event loop."""
    value = random.Random(seed).randbytes(LARGE // 2) * 2
    return batch(1, value=value, compression=compression, **more)


def stored(partition: Any) -> list[bytes]:
    data = partition.log.read(0, 1 << 24, up_to=1 << 30)
    return [data[at : at + header.size] for at, header in iter_headers(data)]


@pytest.fixture
def held(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[asyncio.Future[None]]]:
    """Conversions that leave the event loop wait until their future is done, in the order in which they began."""
    gates: list[asyncio.Future[None]] = []

    async def run(function: Callable[[], Any]) -> Any:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        gates.append(gate)
        await gate
        return function()

    monkeypatch.setattr(world.broker.context.recompression, "_run_blocking", run)
    yield gates
    for gate in gates:
        if not gate.done():
            gate.cancel()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("target", CODECS, ids=lambda codec: NAMES[codec])
@pytest.mark.parametrize("source", CODECS, ids=lambda codec: NAMES[codec])
@pytest.mark.parametrize("size", [10, LARGE])
async def test_every_codec_to_every_other(world: World, source: Compression, target: Compression, size: int) -> None:
    (partition,) = world.add_topic("t")
    world.set_config("topic", "t", compression_type=NAMES[target])
    records = [
        Record(at, NOW_MS + at, b"k%d" % at if at else None, b"v" * (size // (at + 1)), (("h", b"x"), ("n", None)))
        for at in range(3)
    ]
    sent = encode_batch(records, compression=source, producer_id=7, producer_epoch=2, base_sequence=40)
    await world.produce("t", batch(2))
    row = await world.produce("t", sent)
    assert (row.error_code, row.base_offset) == (ErrorCode.none, 2)
    kept = stored(partition)[1]
    header, before = read_header(kept), read_header(sent)
    assert header.compression == target
    if source == target:
        assert kept[16:] == sent[16:]
    same = ("last_offset_delta", "base_timestamp", "max_timestamp", "producer_id", "producer_epoch", "base_sequence")
    assert all(getattr(header, name) == getattr(before, name) for name in same)
    assert header.count == 3
    assert [record._replace(offset=record.offset - 2) for record in decode_batch(kept)] == records
    assert partition.log_end_offset == 5


async def test_producer_keeps_the_very_bytes(world: World) -> None:
    (partition,) = world.add_topic("t")
    world.set_config("topic", "t", compression_type="producer", compression_gzip_level="9")
    for codec in CODECS:
        sent = large(compression=codec)
        await world.produce("t", sent)
        assert stored(partition)[-1][16:] == sent[16:]
    assert not world.broker.context.recompression.busy


async def test_a_brokers_default_counts(world: World) -> None:
    (partition,) = world.add_topic("t")
    world.config.values["compression.type"] = "zstd"
    await world.produce("t", batch(5))
    assert read_header(stored(partition)[0]).compression == Compression.ZSTD


@pytest.mark.parametrize(("codec", "fast", "small"), [("gzip", "1", "9"), ("zstd", "-50", "19"), ("lz4", "1", "12")])
async def test_levels(world: World, codec: str, fast: str, small: str) -> None:
    """KIP-390."""
    rng = random.Random(1)
    value = b" ".join(rng.choice((b"alpha", b"beta", b"gamma", b"delta")) for _ in range(3000))
    sizes = []
    for level in (fast, small):
        (partition,) = world.add_topic(level)
        world.set_config("topic", level, **{"compression_type": codec, f"compression_{codec}_level": level})
        await world.produce(level, batch(value=value))
        sizes.append(len(stored(partition)[0]))
    assert sizes[1] < sizes[0]


async def test_batches_stay_in_order_behind_one_that_takes_long(world: World, held: list[asyncio.Future[None]]) -> None:
    """Also those that need no work, and those of other requests: sequences 0, 1, 2 arrive as 0, 1, 2."""
    (partition,) = world.add_topic("t")
    world.set_config("topic", "t", compression_type="lz4")
    numbered: dict[str, Any] = {"producer_id": 7, "producer_epoch": 0}
    sent = [
        large(base_sequence=0, **numbered),
        batch(base_sequence=1, compression=Compression.LZ4, **numbered),
        large(base_sequence=2, **numbered),
    ]
    answers = [world.start(0, 12, world.produce_values("t", {0: each})) for each in sent]
    await settle()
    assert (len(held), partition.log_end_offset) == (1, 0)
    held[0].set_result(None)
    await settle()
    assert (len(held), partition.log_end_offset) == (2, 2)
    held[1].set_result(None)
    rows = [world.decoded(0, 12, await answer, route).responses[0].partition_responses[0] for answer, route in answers]
    assert [(row.error_code, row.base_offset) for row in rows] == [(ErrorCode.none, offset) for offset in range(3)]
    assert [read_header(each).base_sequence for each in stored(partition)] == [0, 1, 2]
    assert not world.broker.context.recompression.busy


async def test_other_partitions_do_not_wait(world: World, held: list[asyncio.Future[None]]) -> None:
    slow, quick = world.add_topic("t", 2)
    (plain,) = world.add_topic("plain")
    world.set_config("topic", "t", compression_type="gzip")
    answer, route = world.start(0, 12, world.produce_values("t", {0: large(), 1: batch(3)}))
    assert (slow.log_end_offset, quick.log_end_offset) == (0, 3)
    assert (await world.produce("plain", large())).base_offset == 0
    assert plain.log_end_offset == 1
    await settle()
    held[0].set_result(None)
    rows = world.decoded(0, 12, await answer, route).responses[0].partition_responses
    assert [(row.index, row.error_code, row.base_offset) for row in rows] == [
        (0, ErrorCode.none, 0),
        (1, ErrorCode.none, 0),
    ]


async def test_acks_all_waits_for_the_followers_after_that(world: World, held: list[asyncio.Future[None]]) -> None:
    (partition,) = world.add_topic("t", replicas=(1, 2))
    world.set_config("topic", "t", compression_type="gzip")
    answer, route = world.start(0, 12, world.produce_values("t", {0: large()}, acks=-1))
    await settle()
    held[0].set_result(None)
    await settle()
    assert partition.log_end_offset == 1
    assert not answer.done()
    follower_fetches(world, partition, 1)
    row = world.decoded(0, 12, await answer, route).responses[0].partition_responses[0]
    assert row.error_code is ErrorCode.none


async def test_without_acks_the_connection_closes_if_it_cannot_be_done(
    world: World, held: list[asyncio.Future[None]]
) -> None:
    world.add_topic("t")
    world.set_config("topic", "t", compression_type="gzip")
    bad = patched(large(), 21, ">h", Compression.ZSTD)
    for sent, expected in ((large(), NO_RESPONSE), (bad, CLOSE)):
        answer, _ = world.start(0, 12, world.produce_values("t", {0: sent}, acks=0))
        await settle()
        held.pop().set_result(None)
        assert await answer is expected


async def test_a_leader_that_is_none_any_more_appends_nothing(world: World, held: list[asyncio.Future[None]]) -> None:
    (partition,) = world.add_topic("t", replicas=(1, 2))
    world.set_config("topic", "t", compression_type="gzip")
    answer, route = world.start(0, 12, world.produce_values("t", {0: large()}))
    await settle()
    world.replicas.partitions.pop(("t", 0))
    world.add_topic("t", replicas=(2, 3), leader=2, leader_epoch=6)
    image = world.view.image.partition("t", 0)
    assert image is not None
    partition.become_follower(image)
    held[0].set_result(None)
    row = world.decoded(0, 12, await answer, route).responses[0].partition_responses[0]
    assert (row.error_code, row.current_leader.leader_id) == (ErrorCode.not_leader_or_follower, 2)
    assert partition.log_end_offset == 0


async def test_one_that_takes_longer_than_the_timeout(world: World, held: list[asyncio.Future[None]]) -> None:
    (partition,) = world.add_topic("t")
    world.set_config("topic", "t", compression_type="gzip")
    row = await world.produce("t", large(), timeout=10)
    assert row.error_code is ErrorCode.request_timed_out
    held[0].set_result(None)
    await settle()
    assert partition.log_end_offset == 1


async def test_a_client_that_goes_away_leaves_its_batch(world: World, held: list[asyncio.Future[None]]) -> None:
    (partition,) = world.add_topic("t")
    world.set_config("topic", "t", compression_type="gzip")
    answer, _ = world.start(0, 12, world.produce_values("t", {0: large()}))
    await settle()
    answer.cancel()
    held[0].set_result(None)
    await settle()
    assert partition.log_end_offset == 1
    assert not world.broker.context.recompression.busy


@pytest.mark.parametrize("size", [10, LARGE])
async def test_what_is_no_stream_of_its_codec(world: World, size: int) -> None:
    (partition,) = world.add_topic("t")
    world.set_config("topic", "t", compression_type="lz4")
    row = await world.produce("t", patched(batch(value=b"x" * size), 21, ">h", Compression.GZIP))
    assert row.error_code is ErrorCode.corrupt_message
    assert row.error_message
    assert partition.log_end_offset == 0


async def test_what_is_too_large_in_the_topics_codec(world: World) -> None:
    (partition,) = world.add_topic("t")
    world.set_config("topic", "t", compression_type="uncompressed", max_message_bytes="2000")
    row = await world.produce("t", batch(value=b"x" * 5000, compression=Compression.GZIP))
    assert row.error_code is ErrorCode.message_too_large
    assert partition.log_end_offset == 0


async def test_a_small_batch_that_is_large_when_opened_leaves_the_event_loop(
    world: World, held: list[asyncio.Future[None]]
) -> None:
    (partition,) = world.add_topic("t")
    world.set_config("topic", "t", compression_type="gzip")
    sent = batch(value=b"x" * 1_000_000, compression=Compression.ZSTD)
    assert len(sent) < 1000
    answer, _ = world.start(0, 12, world.produce_values("t", {0: sent}))
    await settle()
    held[0].set_result(None)
    await answer
    assert partition.log_end_offset == 1


def test_decompression_is_bounded() -> None:
    sent = batch(value=b"x" * 1_000_000, compression=Compression.GZIP)
    with pytest.raises(CorruptBatch, match="more than 1000 bytes"):
        recompress_batch(sent, read_header(sent), Compression.ZSTD, max_bytes=1000)


async def test_a_bug_of_ours_reaches_the_wire(world: World, held: list[asyncio.Future[None]]) -> None:
    world.add_topic("t")
    world.set_config("topic", "t", compression_type="gzip")
    answer, _ = world.start(0, 12, world.produce_values("t", {0: large()}))
    await settle()
    world.replicas.append = None  # type: ignore[assignment, method-assign]
    held[0].set_result(None)
    with pytest.raises(TypeError):
        await answer

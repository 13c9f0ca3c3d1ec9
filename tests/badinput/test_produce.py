"""Record batches that must not be written: Kafka's code for each, and not one byte in the log."""

from __future__ import annotations

import asyncio
import struct
import zlib
from typing import Any

import pytest
from crc32c import crc32c
from kio.schema.errors import ErrorCode

from ottla.broker.replication.produce_wait import SWEEP_AT, AckQueue, ProduceWait
from ottla.records import Compression, Record, compress, encode_batch
from ottla.wire import build, encode, request_type
from tests.badinput.node import Running, batch, framed, now_ms

_AT = {
    "base_offset": (0, ">q"),
    "length": (8, ">i"),
    "magic": (16, ">b"),
    "crc": (17, ">I"),
    "attributes": (21, ">h"),
    "last_offset_delta": (23, ">i"),
    "base_timestamp": (27, ">q"),
    "max_timestamp": (35, ">q"),
    "producer_id": (43, ">q"),
    "producer_epoch": (51, ">h"),
    "base_sequence": (53, ">i"),
    "count": (57, ">i"),
}


def forged(*, sealed: bool = True, of: bytes | None = None, **values: int) -> bytes:
    """A sound batch of three with other values in its header, with the right checksum if it is `sealed`."""
    data = bytearray(of or batch(3))
    for name, value in values.items():
        struct.pack_into(_AT[name][1], data, _AT[name][0], value)
    if sealed:
        struct.pack_into(">I", data, 17, crc32c(bytes(data[21:])))
    return bytes(data)


def magic_0_or_1(magic: int) -> bytes:
    body = struct.pack(">bb", magic, 0) + (struct.pack(">q", now_ms()) if magic else b"") + struct.pack(">i", -1)
    body += struct.pack(">i", 5) + b"value"
    return struct.pack(">qiI", 0, len(body) + 4, zlib.crc32(body)) + body


DAY = 86_400_000
BAD: dict[str, tuple[Any, ErrorCode]] = {
    "null": (lambda: None, ErrorCode.invalid_record),
    "empty": (lambda: b"", ErrorCode.invalid_record),
    "one byte": (lambda: b"x", ErrorCode.corrupt_message),
    "half a header": (lambda: batch()[:40], ErrorCode.corrupt_message),
    "half a batch": (lambda: batch(10)[:-5], ErrorCode.corrupt_message),
    "bytes after the batch": (lambda: batch() + b"xyz", ErrorCode.invalid_record),
    "wrong checksum": (lambda: forged(sealed=False, crc=1), ErrorCode.corrupt_message),
    "flipped bit": (lambda: batch()[:-1] + bytes([batch()[-1] ^ 4]), ErrorCode.corrupt_message),
    "negative length": (lambda: forged(length=-1), ErrorCode.corrupt_message),
    "small length": (lambda: forged(length=10), ErrorCode.corrupt_message),
    "huge length": (lambda: forged(length=2**31 - 1), ErrorCode.corrupt_message),
    "magic 0": (lambda: magic_0_or_1(0), ErrorCode.invalid_record),
    "magic 1": (lambda: magic_0_or_1(1), ErrorCode.invalid_record),
    "magic 3": (lambda: forged(magic=3), ErrorCode.invalid_record),
    "two batches": (lambda: batch() + batch(), ErrorCode.invalid_record),
    "base offset": (lambda: forged(base_offset=7), ErrorCode.invalid_record),
    "negative base offset": (lambda: forged(base_offset=-1), ErrorCode.invalid_record),
    "more records than offsets": (lambda: forged(count=4), ErrorCode.invalid_record),
    "fewer records than offsets": (lambda: forged(count=2), ErrorCode.invalid_record),
    "no records": (lambda: forged(count=0, last_offset_delta=-1), ErrorCode.invalid_record),
    "negative count": (lambda: forged(count=-1, last_offset_delta=-2), ErrorCode.invalid_record),
    "negative delta": (lambda: forged(last_offset_delta=-1), ErrorCode.invalid_record),
    "control batch": (lambda: forged(attributes=0x20), ErrorCode.invalid_record),
    "control and transactional": (lambda: forged(attributes=0x30, producer_id=5), ErrorCode.invalid_record),
    "transactional": (
        lambda: forged(attributes=0x10, producer_id=5, producer_epoch=0, base_sequence=0),
        ErrorCode.transactional_id_authorization_failed,
    ),
    "transactional, of nobody": (lambda: forged(attributes=0x10), ErrorCode.invalid_record),
    "delete horizon": (lambda: forged(attributes=0x40), ErrorCode.invalid_record),
    "unknown codec": (lambda: forged(attributes=7), ErrorCode.unsupported_compression_type),
    "negative sequence": (
        lambda: forged(producer_id=5, producer_epoch=0, base_sequence=-1),
        ErrorCode.invalid_record,
    ),
    "negative epoch": (
        lambda: forged(producer_id=5, producer_epoch=-1, base_sequence=0),
        ErrorCode.invalid_record,
    ),
    "log append time": (lambda: forged(attributes=8), ErrorCode.invalid_timestamp),
    "far future": (lambda: batch(timestamp=now_ms() + 2 * DAY), ErrorCode.invalid_timestamp),
    "latest of all": (lambda: forged(max_timestamp=2**63 - 1), ErrorCode.invalid_timestamp),
    "oversize": (lambda: batch(value=bytes(1_100_000)), ErrorCode.message_too_large),
    "oversize and corrupt": (
        lambda: forged(sealed=False, of=batch(value=bytes(1_100_000)), crc=1),
        ErrorCode.message_too_large,
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_batch_is_refused_with_kafkas_code(node: Running, name: str) -> None:
    make, expected = BAD[name]
    async with node.unharmed():
        for version in (3, 8, 12):
            answer = await node.produce(make(), version=version, acks=1)
            assert answer.error_code is expected
            assert answer.base_offset == -1
    assert node.replicas.partition("target", 0).log_end_offset == 0


@pytest.mark.parametrize("name", ["null", "wrong checksum", "two batches", "oversize"])
async def test_without_acknowledgement_an_error_closes_the_connection(node: Running, name: str) -> None:
    async with node.unharmed():
        peer = await node.raw()
        values = {
            "acks": 0,
            "topic_data": [{"name": "target", "partition_data": [{"index": 0, "records": BAD[name][0]()}]}],
        }
        body = encode(request_type(0, 8), build(request_type(0, 8), values))
        await peer.send(framed(struct.pack(">hhih", 0, 8, 1, -1) + body))
        assert await peer.closed()


@pytest.mark.parametrize("acks", [2, -2, 32767, -32768])
async def test_only_three_kinds_of_acknowledgement(node: Running, acks: int) -> None:
    async with node.unharmed():
        assert (await node.produce(batch(), acks=acks)).error_code is ErrorCode.invalid_required_acks


@pytest.mark.parametrize(("version", "expected"), [(6, ErrorCode.unsupported_compression_type), (7, ErrorCode.none)])
async def test_zstd_needs_version_seven(node: Running, version: int, expected: ErrorCode) -> None:
    async with node.unharmed(log=version < 7):
        answer = await node.produce(batch(compression=Compression.ZSTD), version=version)
        assert answer.error_code is expected


async def test_a_topic_may_narrow_sizes_and_timestamps(node: Running) -> None:
    limits = {"max.message.bytes": "500", "message.timestamp.before.max.ms": "1000"}
    assert await node.create("narrow", configs=limits) is ErrorCode.none
    async with node.unharmed():
        large = await node.produce(batch(value=bytes(500)), topic="narrow")
        assert large.error_code is ErrorCode.message_too_large
        old = await node.produce(batch(timestamp=now_ms() - 60_000), topic="narrow")
        assert old.error_code is ErrorCode.invalid_timestamp
        assert (await node.produce(batch(), topic="narrow")).error_code is ErrorCode.none


@pytest.mark.parametrize(
    ("topic", "index"), [("nosuch", 0), ("target", 1), ("target", -1), ("target", 2**31 - 1), ("", 0), ("../etc", 0)]
)
async def test_unknown_topics_and_partitions(node: Running, topic: str, index: int) -> None:
    async with node.unharmed():
        for version in (3, 12):
            answer = await node.produce(batch(), topic=topic, index=index, version=version)
            assert answer.error_code is ErrorCode.unknown_topic_or_partition
    assert not any(path.name.startswith("nosuch") for path in node.directory.iterdir())


async def test_transactional_batches_that_no_coordinator_knows_are_not_written(node: Running) -> None:
    crafted = forged(attributes=0x10, producer_id=5, producer_epoch=0, base_sequence=0)
    async with node.unharmed():
        for version in (3, 11, 12):
            answer = await node.produce(crafted, transactional_id="mine", version=version)
            assert answer.error_code in (ErrorCode.not_enough_replicas, ErrorCode.invalid_producer_id_mapping)
            # CVE-2018-17196: a transactional batch in a request that does not say so.
            answer = await node.produce(crafted, version=version)
            assert answer.error_code is ErrorCode.transactional_id_authorization_failed
            answer = await node.produce(crafted, transactional_id="", version=version)
            assert answer.error_code is ErrorCode.invalid_request


async def test_nobody_but_a_broker_ends_a_transaction(node: Running) -> None:
    marker = {
        "producer_id": 5,
        "producer_epoch": 0,
        "coordinator_epoch": 0,
        "topics": [{"name": "target", "partition_indexes": [0]}],
    }
    client = await node.client()
    async with node.unharmed():
        for version in (1, 2):
            for commit in (False, True):
                values = {"markers": [{**marker, "transaction_result": commit}]}
                answer = await client.call(27, version, values, timeout=10)
                (row,) = answer.markers[0].topics[0].partitions
                assert row.error_code is ErrorCode.cluster_authorization_failed


async def test_sequences_out_of_order(node: Running) -> None:
    def by(sequence: int, epoch: int = 1) -> bytes:
        return batch(producer_id=77, producer_epoch=epoch, base_sequence=sequence)

    assert (await node.produce(by(0))).error_code is ErrorCode.none
    async with node.unharmed():
        assert (await node.produce(by(5))).error_code is ErrorCode.out_of_order_sequence_number
        assert (await node.produce(by(1, epoch=0))).error_code is ErrorCode.invalid_producer_epoch
        again = await node.produce(by(0))
        assert (again.error_code, again.base_offset) == (ErrorCode.none, 0)


async def test_one_bad_partition_does_not_keep_others_from_being_written(node: Running) -> None:
    rows = [{"index": i, "records": records} for i, records in enumerate([batch(), forged(count=9), None, batch()])]
    assert await node.create("four", 4) is ErrorCode.none
    async with node.unharmed():
        values = {"acks": -1, "timeout": 1000, "topic_data": [{"name": "four", "partition_data": rows}]}
        answer = await node.witness.call(0, 12, values)
    errors = [row.error_code for row in answer.responses[0].partition_responses]
    bad = ErrorCode.invalid_record
    assert errors == [ErrorCode.none, bad, bad, ErrorCode.none]


def keyless(codec: Compression, count: int = 1) -> bytes:
    return encode_batch([Record(n, now_ms(), None, b"v") for n in range(count)], compression=codec)


def refilled(codec: Compression, inside: bytes, count: int) -> bytes:
    """A batch with this inside it, and a header that says so many records."""
    data = encode_batch([Record(0, now_ms(), b"k", b"v")], compression=codec)[:61] + compress(codec, inside)
    return forged(of=data, length=len(data) - 12, last_offset_delta=count - 1, count=count)


TINY = bytes([14, 0, 0, 0, 2, 107, 0, 0])
"""A record with a key of one byte and an empty value."""
CODECS = [codec for codec in Compression if codec is not Compression.NONE]


@pytest.mark.parametrize("codec", Compression)
async def test_records_without_a_key_to_a_compacted_topic(node: Running, codec: Compression) -> None:
    assert await node.create("latest", configs={"cleanup.policy": "compact"}) is ErrorCode.none
    keyed = encode_batch([Record(0, now_ms(), b"k", b"v")], compression=codec)
    assert (await node.produce(keyed, topic="latest")).error_code is ErrorCode.none
    logs = node.log_bytes("latest")
    async with node.unharmed():
        for version in (7, 12):
            for bad in (keyless(codec), keyless(codec, 50)):
                answer = await node.produce(bad, topic="latest", version=version)
                assert answer.error_code is ErrorCode.invalid_record
    assert node.log_bytes("latest") == logs


@pytest.mark.parametrize("codec", CODECS)
async def test_what_explodes_on_the_way_to_a_compacted_topic_is_let_be(node: Running, codec: Compression) -> None:
    """There the broker opens batches: what comes out is bounded, in bytes and in records."""
    small = {"cleanup.policy": "compact", "max.message.bytes": "200000"}
    assert await node.create("latest", configs=small) is ErrorCode.none
    limit = 200_000
    value = bytes(33 * limit)
    bombs = {
        "bytes": batch(value=value, compression=codec),
        "bytes without a key": encode_batch([Record(0, now_ms(), None, value)], compression=codec),
        "records": refilled(codec, TINY * 400_000, 400_000),
        "more records than it says": refilled(codec, TINY * 400_000, 20_000),
        "fewer records than it says": refilled(codec, TINY, 20_000),
    }
    codes = dict.fromkeys(bombs, ErrorCode.message_too_large)
    codes |= dict.fromkeys(["more records than it says", "fewer records than it says"], ErrorCode.corrupt_message)
    async with node.unharmed():
        for name, bomb in bombs.items():
            assert codec is Compression.SNAPPY or len(bomb) <= limit, name
            answer = await node.produce(bomb, topic="latest")
            assert answer.error_code is codes[name], name
        many = encode_batch([Record(n, now_ms(), b"k", b"") for n in range(20_000)], compression=codec)
    assert node.replicas.partition("latest", 0).log_end_offset == 0
    assert (await node.produce(many, topic="latest")).error_code is ErrorCode.none


async def test_what_is_inside_a_compressed_batch_is_not_looked_at(node: Running) -> None:
    """The broker opens no batch of such a topic, so nothing can explode in it; clients bound what they unpack."""
    bomb = batch(value=bytes(500_000), compression=Compression.GZIP)
    assert len(bomb) < 2000
    async with node.unharmed(log=False):
        assert (await node.produce(bomb)).error_code is ErrorCode.none
        nonsense = forged(of=batch(compression=Compression.GZIP)[:61] + b"no gzip at all")
        nonsense = forged(of=nonsense, length=len(nonsense) - 12)
        assert (await node.produce(nonsense)).error_code is ErrorCode.none
        fetched = await node.fetch(0)
        assert bytes(fetched.records)[17:] == (bomb + fetched.records[len(bomb) :])[17:]


async def test_ended_waits_do_not_pile_up_behind_a_long_one() -> None:
    """One request with a long timeout, then many with none, to a partition whose replicas are stuck."""
    queue = AckQueue()
    loop = asyncio.get_running_loop()
    waits = [ProduceWait(loop) for _ in range(10_000)]
    for offset, wait in enumerate(waits):
        queue.push(offset + 1, wait, 0)
        if offset:
            wait.expire()
    assert len(queue.waiters) <= SWEEP_AT
    queue.release(1)
    assert waits[0].done and not waits[0].errors

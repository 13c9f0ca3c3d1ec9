"""Batches of records: against kio's reader and writer, the codecs' known streams, and hostile contents."""

import contextlib
import gzip
import io
import random
import struct
from datetime import UTC, datetime
from typing import Any

import cramjam
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st
from kio.records.readers import read_batch
from kio.records.schema import NewRecordBatch, RecordHeader
from kio.records.schema import Record as KioRecord
from kio.records.writers import write_batch

from ottla.records import (
    Compression,
    CorruptBatch,
    Record,
    compress,
    decode_batch,
    decompress,
    encode_batch,
    encode_empty_batch,
    read_header,
)

codecs = st.sampled_from(Compression)
blobs = st.none() | st.binary(max_size=50)
timestamps = st.integers(0, 2_000_000_000)
record_parts = st.tuples(
    timestamps, blobs, blobs, st.lists(st.tuples(st.text(max_size=10), blobs), max_size=3).map(tuple)
)


def records_from(parts: list[Any], base: int = 0) -> list[Record]:
    return [Record(base + i, *part) for i, part in enumerate(parts)]


def sealed(data: bytearray) -> bytes:
    """With the right length and checksum, whatever the contents."""
    struct.pack_into(">i", data, 8, len(data) - 12)
    struct.pack_into(">I", data, 17, crc32c(data[21:]))
    return bytes(data)


@settings(max_examples=200)
@given(st.lists(record_parts, min_size=1, max_size=8), st.integers(0, 2**40), codecs)
def test_there_and_back(parts: list[Any], base: int, codec: Compression) -> None:
    records = records_from(parts, base)
    data = encode_batch(records, base_offset=base, compression=codec)
    assert decode_batch(b"xyz" + data, 3) == records
    header = read_header(data)
    assert (header.compression, header.max_timestamp) == (codec, max(r.timestamp for r in records))


@settings(max_examples=200)
@given(st.lists(record_parts, min_size=1, max_size=6))
def test_kio_reads_what_we_write(parts: list[Any]) -> None:
    records = records_from(parts)
    kio_batch, size = read_batch(data := encode_batch(records), 0)
    assert size == len(data)
    assert [
        (r.offset, r.key, r.value, tuple((h.key.decode(), h.value) for h in r.headers))  # type: ignore[union-attr]
        for r in kio_batch.records
    ] == [(r.offset, r.key, r.value, r.headers) for r in records]


@settings(max_examples=200)
@given(st.lists(record_parts, min_size=1, max_size=6), st.integers(-1, 9))
def test_we_write_the_bytes_that_kio_writes(parts: list[Any], producer_id: int) -> None:
    # kio knows whole seconds only.
    records = records_from([(timestamp // 1000 * 1000, *rest) for timestamp, *rest in parts])
    buffer = io.BytesIO()
    write_batch(
        buffer,
        NewRecordBatch(
            producer_id=producer_id,  # type: ignore[arg-type]
            producer_epoch=3,  # type: ignore[arg-type]
            base_sequence=5,  # type: ignore[arg-type]
            attributes=0,  # type: ignore[arg-type]
            partition_leader_epoch=2,  # type: ignore[arg-type]
            records=tuple(
                KioRecord(
                    attributes=0,  # type: ignore[arg-type]
                    timestamp=datetime.fromtimestamp(r.timestamp // 1000, UTC),  # type: ignore[arg-type]
                    offset=r.offset,  # type: ignore[arg-type]
                    key=r.key,
                    value=r.value,
                    headers=tuple(RecordHeader(key=name.encode(), value=value) for name, value in r.headers),
                )
                for r in records
            ),
        ),
    )
    ours = encode_batch(records, leader_epoch=2, producer_id=producer_id, producer_epoch=3, base_sequence=5)
    assert ours == buffer.getvalue()
    assert decode_batch(buffer.getvalue()) == records


@pytest.mark.parametrize("codec", list(Compression))
def test_aiokafka_reads_what_we_write_and_the_other_way(codec: Compression) -> None:
    records = [Record(i, 1000 + i, None if i % 2 else b"key", b"value" * i, (("h", b"x"),)) for i in range(50)]
    theirs = MemoryRecords(encode_batch(records, compression=codec)).next_batch()
    assert [(r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in theirs] == [
        (r.offset, r.timestamp, r.key, r.value, r.headers) for r in records
    ]
    builder = DefaultRecordBatchBuilder(2, int(codec), 0, -1, -1, -1, 10**6)
    for r in records:
        builder.append(r.offset, timestamp=r.timestamp, key=r.key, value=r.value, headers=list(r.headers))
    assert decode_batch(builder.build()) == records


def test_log_append_time_is_everybodys_time() -> None:
    records = [Record(0, 5, None, b"a"), Record(1, 9, None, b"b")]
    assert [r.timestamp for r in decode_batch(encode_batch(records, timestamp_type=1))] == [9, 9]


def test_known_bytes_of_one_record() -> None:
    """Spelled out from the format's description: length 8, then attributes, deltas, key, value, headers."""
    data = encode_batch([Record(0, 1000, b"k", b"v")])
    assert data[61:] == bytes.fromhex("10000000026b027600")
    assert data[21:61] == struct.pack(">hiqqqhii", 0, 0, 1000, 1000, -1, -1, -1, 1)
    assert data[:17] == struct.pack(">qiib", 0, 58, -1, 2)


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        encode_batch([])


# -- codecs

TEXT = b"the quick brown fox " * 5000


def test_snappy_is_written_as_java_writes_it() -> None:
    data = compress(Compression.SNAPPY, TEXT)
    assert data[:16] == b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01"
    (length,) = struct.unpack_from(">i", data, 16)
    assert cramjam.snappy.decompress_raw_len(data[20 : 20 + length]) == 32 * 1024


def test_raw_snappy_is_read_too() -> None:
    assert decompress(Compression.SNAPPY, bytes(cramjam.snappy.compress_raw(TEXT)), 10**6) == TEXT


def test_lz4_blocks_are_independent_as_java_demands() -> None:
    data = compress(Compression.LZ4, TEXT)
    assert data[:4] == b"\x04\x22\x4d\x18"
    assert data[4] & 0x20


def test_the_usual_level_of_lz4_is_the_fast_compressor() -> None:
    """As in Kafka, whose default level 9 is none of the slow compressor's (KIP-390)."""
    rng = random.Random(1)
    words = b" ".join(rng.choice((b"alpha", b"beta", b"gamma", b"delta")) for _ in range(3000))
    usual = compress(Compression.LZ4, words)
    assert usual == compress(Compression.LZ4, words, 9)
    assert len(compress(Compression.LZ4, words, 8)) < len(usual)
    assert decompress(Compression.LZ4, usual, 10**6) == words


def test_streams_of_other_writers() -> None:
    assert decompress(Compression.GZIP, gzip.compress(TEXT), 10**6) == TEXT
    assert decompress(Compression.LZ4, bytes(cramjam.lz4.compress(TEXT)), 10**6) == TEXT
    assert decompress(Compression.ZSTD, bytes(cramjam.zstd.compress(TEXT, 19)), 10**6) == TEXT


@pytest.mark.parametrize("codec", list(Compression)[1:])
def test_a_bomb_is_refused_at_the_limit(codec: Compression) -> None:
    data = compress(codec, bytes(10**7))
    with pytest.raises(CorruptBatch, match="more than 1000000 bytes"):
        decompress(codec, data, 10**6)
    assert len(decompress(codec, data, 10**7)) == 10**7


@pytest.mark.parametrize("codec", list(Compression)[1:])
def test_every_cut_of_a_stream_is_corrupt(codec: Compression) -> None:
    data = compress(codec, TEXT[:200])
    for end in range(len(data)):
        try:
            shorter = decompress(codec, data[:end], 10**6)
        except CorruptBatch:
            continue
        # A xerial stream has no end mark: cut between blocks, it is a shorter one.
        assert codec == Compression.SNAPPY
        assert TEXT.startswith(bytes(shorter))


@given(codecs, st.binary(max_size=100))
def test_garbage_streams_are_corrupt_or_small(codec: Compression, data: bytes) -> None:
    with contextlib.suppress(CorruptBatch):
        assert len(decompress(codec, data, 5000)) <= 5000


def test_unknown_codecs() -> None:
    with pytest.raises(CorruptBatch, match="codec 5"):
        decompress(5, b"x", 10)
    with pytest.raises(ValueError, match="codec 5"):
        compress(5, b"x")


# -- contents with a right checksum that make no sense


@pytest.mark.parametrize("count", [-1, 0, 2, 1_000_000, 2**31 - 1])
def test_a_wrong_count_is_corrupt(count: int) -> None:
    data = bytearray(encode_batch([Record(0, 1, b"k", b"v")]))
    struct.pack_into(">i", data, 57, count)
    with pytest.raises(CorruptBatch):
        decode_batch(sealed(data))


@pytest.mark.parametrize(
    "record",
    [
        "",
        "10",
        "0f000000026b027600",  # negative length
        "12000000026b027600",  # longer than the batch
        "0e000000026b027600",  # ends early
        "10000000036b027600",  # negative key length
        "10000000206b027600",  # key longer than the record
        "10000000026b027601",  # negative header count
        "10000000026b0276ff",  # endless varint
        "1000ffffffffffffffffffffff",
        "14000000026b0276020101",  # a header without a name
        "16000000026b02760202ff01",  # a header name that is not UTF-8
    ],
)
def test_nonsense_records_are_corrupt(record: str) -> None:
    head = bytearray(encode_batch([Record(0, 1, b"k", b"v")])[:61])
    with pytest.raises(CorruptBatch):
        decode_batch(sealed(head + bytes.fromhex(record)))


@settings(max_examples=300)
@given(st.data())
def test_damaged_records_are_corrupt_or_records(data: st.DataObject) -> None:
    """Whatever stands behind a right checksum, nothing but CorruptBatch comes out."""
    batch = bytearray(encode_batch([Record(0, 1, b"key", b"value", (("h", b"x"),)), Record(1, 2, None, None)]))
    for _ in range(data.draw(st.integers(1, 4))):
        batch[data.draw(st.integers(57, len(batch) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(CorruptBatch):
        decode_batch(sealed(batch))


def test_a_batch_without_records_takes_one_offset():
    data = encode_empty_batch(1000)
    header = read_header(data)
    assert (header.count, header.next_offset - header.base_offset, header.size) == (0, 1, len(data))
    assert header.max_timestamp == 1000
    assert decode_batch(data) == []

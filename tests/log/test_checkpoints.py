"""Kafka's text files: exact bytes, and every torn form refused."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.log import CorruptFile, MetaProperties, ModelledDisk, decode_uuid, encode_uuid
from ottla.log.checkpoints import (
    decode_clean_shutdown,
    decode_epochs,
    decode_offsets,
    decode_partition_metadata,
    encode_clean_shutdown,
    encode_epochs,
    encode_offsets,
    encode_partition_metadata,
)

TOPIC_ID = UUID("0a3b5d8e-95ab-4d7a-bb11-6e2f0c9d4e77")


def test_exact_bytes() -> None:
    assert encode_offsets({("b", 0): 7, ("a", 1): 5}) == (b"0\n3\na 1 5\nb 0 7\n__ottla_checksum -1 1693322174\n")
    assert encode_epochs([(0, 0), (3, 42)]) == b"0\n2\n0 0\n3 42\n"
    assert encode_partition_metadata(TOPIC_ID) == b"version: 0\ntopic_id: CjtdjpWrTXq7EW4vDJ1Odw"
    assert encode_clean_shutdown(12) == b'{"version":0,"brokerEpoch":12}'


def test_clean_shutdown_markers_of_all_ages() -> None:
    assert decode_clean_shutdown(encode_clean_shutdown(12)) == 12
    for older in (b"", b"{}", b"\xff", b"[]", b'{"brokerEpoch":null}'):
        assert decode_clean_shutdown(older) == -1


@given(st.dictionaries(st.tuples(st.text("ab._-", min_size=1), st.integers(0, 9)), st.integers(0, 2**60)))
def test_offsets_round_trip(offsets: dict[tuple[str, int], int]) -> None:
    data = encode_offsets(offsets)
    assert decode_offsets(data) == offsets
    for cut in range(len(data)):
        with pytest.raises(CorruptFile):
            decode_offsets(data[:cut])


@pytest.mark.parametrize(
    "data",
    [b"", b"1\n0\n", b"0\nx\n", b"0\n1\n1\n", b"0\n2\n1 1\n1 2\n", b"0\n2\n1 5\n2 5\n", b"0\n1\na b\n", b"\xff"],
)
def test_bad_epoch_checkpoints(data: bytes) -> None:
    with pytest.raises(CorruptFile):
        decode_epochs(data)


def test_partition_metadata() -> None:
    data = encode_partition_metadata(TOPIC_ID)
    assert decode_partition_metadata(data) == TOPIC_ID == decode_partition_metadata(data + b"\n")
    for bad in (b"", data[:-1], b"version: 1" + data[10:], data + b"x"):
        with pytest.raises(CorruptFile):
            decode_partition_metadata(bad)


@given(st.uuids())
def test_uuids(value: UUID) -> None:
    assert decode_uuid(encode_uuid(value)) == value
    assert len(encode_uuid(value)) == 22


def test_meta_properties(disk: ModelledDisk) -> None:
    assert MetaProperties.read(disk, "data") is None
    meta = MetaProperties("abc", 3, "dir", {"x": "y"})
    meta.write(disk, "data")
    disk.crash()
    assert MetaProperties.read(disk, "data") == meta
    by_kafka = b"#\n#Mon Nov 23 10:00:00 UTC 2026\ncluster.id=c\\:1\ndirectory.id=d\nnode.id=1\nversion=1\n"
    assert MetaProperties.decode(by_kafka) == MetaProperties("c:1", 1, "d")
    for bad in (
        b"",
        b"version=0\n",
        by_kafka.replace(b"node.id=1\n", b""),
        by_kafka.replace(b"=1\n", b"=z\n"),
        b"junk",
    ):
        with pytest.raises(CorruptFile):
            MetaProperties.decode(bad)

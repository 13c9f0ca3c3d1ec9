"""The data directory as somebody else's program reads it: kio's record reader, which shares no code with ottla.log."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from kio.records.readers import read_batch
from kio.records.schema import RecordBatch

from tests.compatibility.cluster import Cluster, eventually
from tests.compatibility.confluent import Confluent
from tests.compatibility.model import CODECS, How, Library, Message

T0 = 1_650_000_000_000  # whole seconds: kio's reader drops the rest
MESSAGES = [
    Message(
        f"value {number}".encode() * 5, f"key {number}".encode(), (("h", str(number).encode()),), T0 + 1000 * number
    )
    for number in range(200)
]
ATTRIBUTES_AT, CODEC_BITS = 21, 7
HIGH_WATERMARKS = "replication-offset-checkpoint"


def batches(segment: Path) -> Iterator[RecordBatch]:
    data = segment.read_bytes()
    position = 0
    while position < len(data):
        batch, size = read_batch(data, position)
        position += size
        yield batch


def test_segments_hold_what_was_written_and_replicas_are_alike(cluster: Cluster, topic: str) -> None:
    library = Confluent()
    with library.admin(cluster.bootstrap) as admin:
        cluster.make(admin, topic, configs={"segment.bytes": "4096", "index.interval.bytes": "512"})
    library.write(cluster.bootstrap, topic, MESSAGES, how=How(batch_bytes=700))
    directories = [cluster.partition_directory(node.id, topic, 0) for node in cluster.layout.nodes]
    names = sorted(path.name for path in directories[0].glob("*.log"))
    assert len(names) > 3
    found = []
    for name in names:
        assert re.fullmatch(r"\d{20}\.log", name)
        segment = list(batches(directories[0] / name))
        assert segment[0].base_offset == int(name[:20])
        found += segment
    records = [record for batch in found for record in batch.records]
    assert [record.offset for record in records] == list(range(len(MESSAGES)))
    for record, message in zip(records, MESSAGES, strict=True):
        assert (record.key, record.value) == (message.key, message.value)
        assert [(header.key.decode(), header.value) for header in record.headers if header.key] == list(message.headers)
        assert round(record.timestamp.timestamp() * 1000) == message.timestamp
    for name in names:
        # acks=all: every replica in sync had every record before the last acknowledgement.
        assert len({(directory / name).read_bytes() for directory in directories}) == 1
    # The index of the segment that is being written comes to disk when that is closed.
    assert 0 not in [check_index(directories[0] / name) for name in names[:-1]]


def check_index(segment: Path) -> int:
    """Every entry of the offset index points at the batch that it names; returns how many there are (it is sparse)."""
    data = segment.read_bytes()
    entries = list(struct.iter_unpack(">ii", segment.with_suffix(".index").read_bytes()))
    for relative, position in entries:
        batch, _ = read_batch(data, position)
        assert batch.base_offset <= int(segment.stem) + relative <= batch.base_offset + batch.last_offset_delta
    return len(entries)


@pytest.mark.parametrize("codec", CODECS)
def test_batches_stay_as_they_were_compressed(cluster: Cluster, library: Library, topic: str, codec: str) -> None:
    """A library that finds a broker wanting leaves compression out without a word: the file tells."""
    with library.admin(cluster.bootstrap) as admin:
        cluster.make(admin, topic)
    library.write(cluster.bootstrap, topic, [Message(b"a" * 2000)] * 5, how=How(codec=codec))  # type: ignore[arg-type]
    data = (cluster.partition_directory(1, topic, 0) / f"{0:020}.log").read_bytes()
    attributes = int.from_bytes(data[ATTRIBUTES_AT : ATTRIBUTES_AT + 2], "big")
    assert CODECS[attributes & CODEC_BITS] == codec


def test_what_a_cleanly_stopped_node_leaves(cluster: Cluster, topic: str) -> None:
    library = Confluent()
    with library.admin(cluster.bootstrap) as admin:
        cluster.make(admin, topic)
        library.write(cluster.bootstrap, topic, MESSAGES)
        cluster.stop(2)
        data = cluster.layout.node(2).data_directory
        assert (data / ".kafka_cleanshutdown").exists()
        properties = dict(
            line.split("=", 1) for line in (data / "meta.properties").read_text().splitlines() if "=" in line
        )
        assert properties["version"] == "1"
        assert properties["cluster.id"] == cluster.layout.cluster_id
        assert properties["node.id"] == "2"
        # A follower hears of the last high watermark a little after it has the records; it may have stopped by then.
        for checkpoint, least in (("recovery-point-offset-checkpoint", len(MESSAGES)), (HIGH_WATERMARKS, 0)):
            lines = (data / checkpoint).read_text().splitlines()
            assert lines[0] == "0"
            assert int(lines[1]) == len(lines) - 2
            (offset,) = [int(line.split()[2]) for line in lines[2:] if line.startswith(f"{topic} 0 ")]
            assert least <= offset <= len(MESSAGES)
        directory = cluster.partition_directory(2, topic, 0)
        assert (directory / "leader-epoch-checkpoint").read_text().split() == ["0", "1", "0", "0"]
        metadata = (directory / "partition.metadata").read_text().splitlines()
        assert metadata[0] == "version: 0"
        assert re.fullmatch(r"topic_id: [A-Za-z0-9_-]{22}", metadata[1])
        check_index(directory / f"{0:020}.log")
        cluster.start(2)
        eventually(lambda: admin.describe(topic)[0].isr == {1, 2, 3}, "node 2 is in sync again")

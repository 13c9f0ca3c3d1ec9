"""Whatever one library writes, every library reads the same: value, key, headers, timestamp, order."""

from __future__ import annotations

import time

import pytest

from tests.compatibility.cluster import Cluster
from tests.compatibility.model import CODECS, How, Library, Message, Seen

T0 = 1_600_000_000_000

MESSAGES = (
    Message(b"plain", timestamp=T0),
    Message(b"keyed", b"k1", timestamp=T0 + 5),
    Message(None, b"tombstone", timestamp=T0 + 5),
    Message(b"", b"", timestamp=T0 + 3),
    Message(b"headers", b"k2", (("a", b"1"), ("a", b"2"), ("empty", b"")), T0 + 9),
    Message(bytes(range(256)) * 40, b"\x00\xff", (("f\u00fcr", bytes(range(256))),), T0 + 10),
    *(Message(f"run {number}".encode() * 20, b"run", timestamp=T0 + 100 + number) for number in range(60)),
)


NO_HEADER_VALUE = Message(b"null header", None, (("nothing", None),), T0 + 200)
NOTHING_AT_ALL = Message(None, None, (), T0 + 201)


def messages_of(writer: Library) -> tuple[Message, ...]:
    """All that a library is able to write."""
    return (
        *MESSAGES,
        *((NO_HEADER_VALUE,) if writer.null_header else ()),
        *((NOTHING_AT_ALL,) if writer.null_pair else ()),
    )


def as_seen(messages: tuple[Message, ...], start: int = 0) -> list[Seen]:
    return [
        Seen(start + index, message.timestamp or 0, 0, message.key, message.value, message.headers)
        for index, message in enumerate(messages)
    ]


@pytest.mark.parametrize("codec", CODECS)
def test_every_library_reads_what_one_wrote(
    cluster: Cluster, libraries: tuple[Library, ...], topic: str, codec: str
) -> None:
    with libraries[0].admin(cluster.bootstrap) as admin:
        cluster.make(admin, topic, len(libraries))
    how = How(codec=codec, linger_ms=50)  # type: ignore[arg-type]
    for partition, writer in enumerate(libraries):
        messages = messages_of(writer)
        results = writer.write(cluster.bootstrap, topic, messages, partition=partition, how=how)
        assert [(result.offset, result.error) for result in results] == [(i, 0) for i in range(len(messages))]
    for reader in libraries:
        for partition, writer in enumerate(libraries):
            messages = messages_of(writer)
            with reader.reader(cluster.bootstrap, topic, partition) as reading:
                reading.seek(0)
                assert reading.take(len(messages)) == as_seen(messages), f"{writer.name} to {reader.name}"


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd", "uncompressed"])
def test_every_library_reads_what_the_broker_compressed_anew(
    cluster: Cluster, libraries: tuple[Library, ...], topic: str, codec: str
) -> None:
    """compression.type: none of the three sends in the topic's codec, and the second batch is a large one."""
    with libraries[0].admin(cluster.bootstrap) as admin:
        cluster.make(admin, topic, len(libraries), configs={"compression.type": codec})
    messages = (*MESSAGES, Message(b"large " * 100_000, b"large", timestamp=T0 + 300))
    how = How(codec="lz4" if codec == "gzip" else "gzip", linger_ms=50, idempotent=True)
    for partition, writer in enumerate(libraries):
        results = writer.write(cluster.bootstrap, topic, messages, partition=partition, how=how)
        assert [(result.offset, result.error) for result in results] == [(i, 0) for i in range(len(messages))]
    for reader in libraries:
        for partition, writer in enumerate(libraries):
            with reader.reader(cluster.bootstrap, topic, partition) as reading:
                reading.seek(0)
                assert reading.take(len(messages)) == as_seen(messages), f"{writer.name} to {reader.name}"


@pytest.mark.parametrize("acks", [0, 1, "all"])
def test_acknowledgements(cluster: Cluster, library: Library, topic: str, acks: int) -> None:
    with library.admin(cluster.bootstrap) as admin:
        cluster.make(admin, topic)
    results = library.write(cluster.bootstrap, topic, MESSAGES, how=How(acks=acks))
    assert not [result for result in results if result.error]
    if acks != 0:
        assert [result.offset for result in results] == list(range(len(MESSAGES)))
    with library.reader(cluster.bootstrap, topic) as reading:
        assert reading.take(len(MESSAGES)) == as_seen(MESSAGES)


def test_idempotent_producers_follow_each_other(cluster: Cluster, library: Library, topic: str) -> None:
    """Each has an id of its own, so that their sequences do not meet."""
    with library.admin(cluster.bootstrap) as admin:
        cluster.make(admin, topic)
    for turn in range(2):
        results = library.write(cluster.bootstrap, topic, MESSAGES, how=How(idempotent=True, codec="zstd"))
        start = turn * len(MESSAGES)
        assert [result.offset for result in results] == list(range(start, start + len(MESSAGES)))
    with library.reader(cluster.bootstrap, topic) as reading:
        assert reading.take(2 * len(MESSAGES)) == as_seen(MESSAGES + MESSAGES)


def test_time_of_the_log(cluster: Cluster, libraries: tuple[Library, ...], topic: str) -> None:
    """With message.timestamp.type=LogAppendTime the broker's time counts, whatever the producer says."""
    with libraries[0].admin(cluster.bootstrap) as admin:
        cluster.make(admin, topic, configs={"message.timestamp.type": "LogAppendTime"})
    before = int(time.time() * 1000)
    for writer in libraries:
        writer.write(cluster.bootstrap, topic, MESSAGES[:10], how=How(codec="lz4"))
    after = int(time.time() * 1000)
    for reader in libraries:
        with reader.reader(cluster.bootstrap, topic) as reading:
            seen = reading.take(10 * len(libraries))
            assert {record.timestamp_type for record in seen} == {1}
            times = [record.timestamp for record in seen]
            assert times == sorted(times)
            assert before <= times[0]
            assert times[-1] <= after
            assert reading.offset_at(before) == 0
            assert reading.offset_at(times[-1] + 1) is None


def test_time_of_the_producer_by_default(cluster: Cluster, library: Library, topic: str) -> None:
    with library.admin(cluster.bootstrap) as admin:
        cluster.make(admin, topic)
    before = int(time.time() * 1000)
    library.write(cluster.bootstrap, topic, [Message(b"now")])
    with library.reader(cluster.bootstrap, topic) as reading:
        (seen,) = reading.take(1)
    assert seen.timestamp_type == 0
    assert before <= seen.timestamp <= int(time.time() * 1000)


def test_large_records_and_batches(cluster: Cluster, libraries: tuple[Library, ...], topic: str) -> None:
    """Batches close below max.message.bytes, and records that are larger than what a consumer fetches by default."""
    with libraries[0].admin(cluster.bootstrap) as admin:
        cluster.make(admin, topic, len(libraries), configs={"max.message.bytes": str(5 << 20)})
    messages = tuple(
        Message(bytes([65 + number]) * size, timestamp=T0 + number)
        for number, size in enumerate((900_000, 1_000_000, 3_000_000, 10, 4_500_000, 10))
    )
    for partition, writer in enumerate(libraries):
        results = writer.write(cluster.bootstrap, topic, messages, partition=partition)
        assert [result.offset for result in results] == list(range(len(messages))), results
    for reader in libraries:
        for partition in range(len(libraries)):
            with reader.reader(cluster.bootstrap, topic, partition) as reading:
                reading.seek(0)
                assert reading.take(len(messages)) == as_seen(messages)

"""Reading by assignment: from the beginning, the end, an offset, a time; the bounds of a partition; out of range."""

from __future__ import annotations

import threading

from tests.compatibility.cluster import Cluster
from tests.compatibility.model import How, Library, Message

T0 = 1_700_000_000_000
COUNT = 300


def numbered(count: int, start: int = 0) -> list[Message]:
    """Ten milliseconds lie between two of them."""
    return [Message(str(number).encode(), timestamp=T0 + 10 * number) for number in range(start, start + count)]


def fill(cluster: Cluster, library: Library, topic: str) -> None:
    """COUNT records, in batches of a few, so that positions fall into the middle of batches."""
    with library.admin(cluster.bootstrap) as admin:
        cluster.make(admin, topic)
    library.write(cluster.bootstrap, topic, numbered(COUNT), how=How(batch_bytes=300, codec="gzip"))


def test_where_a_reader_starts(cluster: Cluster, library: Library, topic: str) -> None:
    fill(cluster, library, topic)
    with library.reader(cluster.bootstrap, topic) as reading:
        assert [record.offset for record in reading.take(5)] == [0, 1, 2, 3, 4]
        for offset in (217, 0, COUNT - 1):
            reading.seek(offset)
            (seen,) = reading.take(1)
            assert (seen.offset, seen.value) == (offset, str(offset).encode())
        reading.seek(COUNT - 10)
        assert [record.offset for record in reading.take(10)] == list(range(COUNT - 10, COUNT))
        assert reading.bounds() == (0, COUNT)


def test_offsets_for_times(cluster: Cluster, library: Library, topic: str) -> None:
    fill(cluster, library, topic)
    with library.reader(cluster.bootstrap, topic) as reading:
        assert reading.offset_at(0) == 0
        assert reading.offset_at(T0) == 0
        assert reading.offset_at(T0 + 1) == 1
        assert reading.offset_at(T0 + 10 * 123) == 123
        assert reading.offset_at(T0 + 10 * 123 - 9) == 123
        assert reading.offset_at(T0 + 10 * (COUNT - 1)) == COUNT - 1
        assert reading.offset_at(T0 + 10 * COUNT) is None


def test_from_the_end_only_what_comes_later_is_read(cluster: Cluster, library: Library, topic: str) -> None:
    """The reader waits (long poll) while another thread writes; what was there before is not seen."""
    fill(cluster, library, topic)
    stop = threading.Event()

    def write_on() -> None:
        more = iter(numbered(100_000, start=COUNT))
        while not stop.wait(0.02):
            library.write(cluster.bootstrap, topic, [next(more)])

    with library.reader(cluster.bootstrap, topic) as reading:
        reading.seek_to_end()
        writer = threading.Thread(target=write_on)
        writer.start()
        try:
            seen = reading.take(3)
        finally:
            stop.set()
            writer.join()
    first = seen[0].offset
    assert first >= COUNT
    assert [(record.offset, record.value) for record in seen] == [
        (offset, str(offset).encode()) for offset in range(first, first + 3)
    ]


def test_an_offset_out_of_range_is_reset(cluster: Cluster, library: Library, topic: str) -> None:
    """Above the end or below the start, auto.offset.reset (here: earliest) decides."""
    fill(cluster, library, topic)
    with library.reader(cluster.bootstrap, topic) as reading:
        reading.seek(COUNT + 1000)
        assert reading.take(1)[0].offset == 0


def test_an_empty_partition(cluster: Cluster, library: Library, topic: str) -> None:
    with library.admin(cluster.bootstrap) as admin:
        cluster.make(admin, topic)
    with library.reader(cluster.bootstrap, topic) as reading:
        assert reading.bounds() == (0, 0)
        assert reading.offset_at(0) is None

"""Frames out of a stream of bytes, however it is cut, and how much memory a claim of length can take."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.wire import ProtocolError
from ottla.wire.framing import BLOCK_SIZE, FrameReader
from tests.wire.harness import framed

MAX = 4 * 1024 * 1024


def feed(reader: FrameReader, data: bytes, sizes: list[int]) -> list[bytes]:
    """All of `data` in pieces of the given sizes over and over; the frames that come out."""
    frames = []
    pos = turn = 0
    while pos < len(data):
        buffer = reader.buffer()
        size = min(len(buffer), len(data) - pos, sizes[turn % len(sizes)])
        assert size > 0
        buffer[:size] = data[pos : pos + size]
        del buffer
        reader.received(size)
        while (frame := reader.next()) is not None:
            frames.append(bytes(frame))
        pos += size
        turn += 1
    return frames


def patterned(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def test_byte_by_byte() -> None:
    wanted = [b"", b"a", patterned(300), b"", patterned(10)]
    assert feed(FrameReader(MAX), b"".join(map(framed, wanted)), [1]) == wanted


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.integers(0, 2000) | st.integers(BLOCK_SIZE - 10, BLOCK_SIZE + 10) | st.integers(0, 700_000),
        min_size=1,
        max_size=8,
    ),
    st.lists(st.integers(1, 5000) | st.integers(1, 300_000), min_size=1, max_size=5),
)
def test_any_frames_in_any_pieces(lengths: list[int], sizes: list[int]) -> None:
    sizes = [max(size, sum(lengths) // 2000) for size in sizes]
    wanted = [patterned(length) for length in lengths]
    reader = FrameReader(MAX)
    assert feed(reader, b"".join(map(framed, wanted)), sizes) == wanted
    assert not reader.partial
    assert reader.allocated == 0


@pytest.mark.parametrize("length", [-1, -(2**31), MAX + 1, 2**31 - 1])
def test_impossible_lengths(length: int) -> None:
    with pytest.raises(ProtocolError, match=str(length)):
        feed(FrameReader(MAX), struct.pack(">i", length) + b"abc", [1])


def test_the_largest_length() -> None:
    assert len(feed(FrameReader(MAX), framed(bytes(MAX)), [2**20])[0]) == MAX


def test_memory_follows_the_bytes_and_not_the_claim() -> None:
    reader = FrameReader(100 * 1024 * 1024)
    feed(reader, struct.pack(">i", 100 * 1024 * 1024) + b"x", [5])
    assert reader.allocated <= 256 * 1024
    for received in (100_000, 400_000, 2_000_000):
        feed(reader, bytes(received), [65_536])
        assert reader.allocated <= 2 * (received + 500_000) + 256 * 1024
        assert reader.partial


def test_a_large_frame_is_readonly_and_its_own() -> None:
    reader = FrameReader(MAX)
    data = framed(patterned(200_000)) * 2
    pos = 0
    frames = []
    while pos < len(data):
        buffer = reader.buffer()
        size = min(len(buffer), len(data) - pos)
        buffer[:size] = data[pos : pos + size]
        del buffer
        reader.received(size)
        pos += size
        while (frame := reader.next()) is not None:
            frames.append(frame)
    assert [isinstance(frame, memoryview) and frame.readonly for frame in frames] == [True, True]
    assert [bytes(frame) for frame in frames] == [patterned(200_000)] * 2

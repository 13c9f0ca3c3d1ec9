"""Frames and Raft messages survive the trip, and nothing else is taken for one."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.controller.raft.messages import Entry, Message
from ottla.controller.rpc import decode_message, encode_message
from ottla.controller.rpc.framing import BadFrame, join_frames, split_frames
from ottla.controller.rpc.raft_codec import BadMessage
from ottla.controller.rpc.stream_codec import HEAD, Opener, Sealer

integers = st.integers(-(2**63), 2**63 - 1)
st.register_type_strategy(int, integers)
st.register_type_strategy(Entry, st.builds(Entry, integers, integers, st.binary(max_size=30)))
messages = st.one_of([st.from_type(kind) for kind in get_args(Message)])


@given(messages)
def test_messages_round_trip(message: Message) -> None:
    assert decode_message(encode_message(message)) == message


@given(messages, st.data())
def test_no_proper_prefix_and_no_extension_is_a_message(message: Message, data: st.DataObject) -> None:
    encoded = encode_message(message)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(BadMessage):
        decode_message(encoded[:cut])
    with pytest.raises(BadMessage):
        decode_message(encoded + b"\0")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_bad(data: bytes) -> None:
    try:
        message = decode_message(data)
    except BadMessage:
        return
    assert encode_message(message) == data


@given(st.lists(st.binary(max_size=20)))
def test_frames_round_trip(frames: list[bytes]) -> None:
    assert list(split_frames(join_frames(frames))) == frames


@given(st.lists(st.binary(max_size=20), min_size=1), st.data())
def test_a_body_cut_inside_a_frame_is_bad(frames: list[bytes], data: st.DataObject) -> None:
    body = join_frames(frames)
    last = len(frames[-1]) + 4
    cut = data.draw(st.integers(1, last - 1))
    with pytest.raises(BadFrame):
        list(split_frames(body[:-cut]))


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.lists(st.binary(max_size=20), max_size=3))), st.data())
def test_a_stream_survives_any_cuts(sent: list[tuple[int, list[bytes]]], data: st.DataObject) -> None:
    sealer, opener = Sealer(b"key"), Opener(b"key", 1000)
    whole = b"".join(sealer.seal(messages, heard) for heard, messages in sent)
    opened, at = [], 0
    while at < len(whole):
        step = data.draw(st.integers(1, len(whole) - at))
        opened += list(opener.feed(whole[at : at + step]))
        at += step
    assert [(heard, list(split_frames(body))) for heard, body in opened] == sent
    assert not opener.incomplete


@given(st.data())
def test_no_other_frame_fits(data: st.DataObject) -> None:
    """Whatever is done to a frame, and wherever else it is put: another key or direction, another number."""
    sealer = Sealer(b"key")
    first, second = sealer.seal([b"first"], 1), sealer.seal([b"second"], 2)
    at, bit = data.draw(st.integers(HEAD.size - 16, len(first) - 1)), data.draw(st.integers(0, 7))
    flipped = bytearray(first)
    flipped[at] ^= 1 << bit
    heard = HEAD.pack(*(5 if field == 1 else field for field in HEAD.unpack_from(first))) + first[HEAD.size :]
    for wrong in (bytes(flipped), second, heard, Sealer(b"other").seal([b"first"], 1)):
        with pytest.raises(BadFrame):
            list(Opener(b"key", 1000).feed(wrong))
    opener = Opener(b"key", 1000)
    assert [each for each, _ in opener.feed(first + second)] == [1, 2]
    with pytest.raises(BadFrame):
        list(opener.feed(first))
    with pytest.raises(BadFrame, match="larger"):
        list(Opener(b"key", 8).feed(HEAD.pack(9, 0, bytes(16))))

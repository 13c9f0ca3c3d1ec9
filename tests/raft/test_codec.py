"""Raft messages on the wire: round trip, and nonsense is the peer's fault."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.controller.raft import Entry, MalformedMessage, Message, decode, encode
from ottla.controller.raft import messages as m

NATURAL = st.integers(0, 2**63 - 1)
TERM = st.integers(0, 2**31)
NAME = st.text(max_size=20)


@st.composite
def appends(draw: st.DrawFn) -> m.AppendRequest:
    previous = draw(st.integers(0, 2**40))
    found = draw(st.lists(st.tuples(TERM, st.binary(max_size=30)), max_size=5))
    entries = tuple(Entry(index, term, data) for index, (term, data) in enumerate(found, previous + 1))
    return m.AppendRequest(draw(TERM), previous, draw(TERM), draw(NATURAL), draw(NATURAL), entries, draw(NAME))


MESSAGES: st.SearchStrategy[Message] = st.one_of(
    appends(),
    st.builds(m.VoteRequest, NATURAL, NATURAL, NATURAL, st.booleans(), st.booleans(), NAME),
    st.builds(m.VoteResponse, NATURAL, NATURAL, st.booleans(), st.booleans(), NAME),
    st.builds(m.AppendResponse, NATURAL, st.booleans(), NATURAL, NATURAL, NATURAL, NATURAL, NAME, st.booleans()),
    st.builds(m.SnapshotChunk, NATURAL, NATURAL, NATURAL, NATURAL, NATURAL, NATURAL, st.binary(max_size=50)),
    st.builds(m.SnapshotResponse, NATURAL, NATURAL, NATURAL, NATURAL, NAME, st.booleans()),
    st.builds(m.TimeoutNow, NATURAL),
    st.builds(m.JoinRequest, NATURAL),
)


@given(st.lists(MESSAGES, max_size=4))
def test_round_trip(found: list[Message]) -> None:
    assert list(decode(encode(found))) == found


@given(st.lists(MESSAGES, min_size=1, max_size=3), st.data())
def test_damage_is_malformed_or_another_message_never_another_error(found: list[Message], data: st.DataObject) -> None:
    body = bytearray(encode(found))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(MalformedMessage):
        list(decode(bytes(body[: data.draw(st.integers(0, len(body)))])))


@pytest.mark.parametrize(
    "body",
    [b"\0", b"\xff" * 8, b"\0\0\0\2\0\0\0\0{}", b'\0\0\0\x18\0\0\0\1{"kind":"join","term":1}x', b"GET / HTTP/1.1\r\n"],
)
def test_nonsense_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedMessage):
        list(decode(body))

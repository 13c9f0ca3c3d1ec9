"""Where what a consumer has read and a leader's log part, whoever led in between."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ottla.client import TopicPartition
from ottla.client.consumer.chunk import Chunk
from ottla.client.consumer.epochs import EpochsRead
from ottla.client.consumer.position import PartitionState, Phase
from ottla.records import Record, encode_batch, iter_headers

TP = TopicPartition("t", 0)
Log = list[int]
"""The leader epochs of its records, which tell them apart, with their offsets."""


def chunk(log: Log, offset: int) -> Chunk:
    return Chunk(TP, b"".join(encode_batch([Record(0, 1, None, b"")], base_offset=at, leader_epoch=log[at])
                              for at in range(offset, len(log))))  # fmt: skip


def epoch_end(log: Log, epoch: int) -> tuple[int, int]:
    """OffsetsForLeaderEpoch: the largest epoch that is not above, and where it ends."""
    end = sum(each <= epoch for each in log)
    return (log[end - 1], end) if end else (-1, -1)


def common(one: Log, other: Log) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


@st.composite
def pasts(draw: st.DrawFn) -> list[Log]:
    """What each leader had in its log at the end of its epoch, where anybody may be elected."""
    replicas: list[Log] = [[], [], []]
    pasts = []
    for epoch in range(draw(st.integers(2, 8))):
        leader = draw(st.integers(0, 2))
        replicas[leader] += [epoch] * draw(st.integers(0, 3))
        led = replicas[leader]
        for node in range(3):
            if node != leader and draw(st.booleans()):
                same = common(replicas[node], led)
                replicas[node] = led[: draw(st.integers(same, len(led)))]
        pasts.append(list(led))
    return pasts


@given(pasts(), st.data())
def test_a_reader_goes_back_exactly_to_where_the_logs_part(pasts: list[Log], data: st.DataObject) -> None:
    """Where it has read from before that point; it cannot know what it has not read."""
    state = PartitionState(TP, 0)
    began = data.draw(st.integers(0, len(pasts[0])))
    state.seek(began)
    read = pasts[0][:began]
    for epoch, log in enumerate(pasts):
        state.leader_changed(epoch)
        same = common(read, log)
        while state.phase is Phase.VALIDATE:
            error = state.validated(*epoch_end(log, state.fetch_epoch))
            if error is not None:
                if error.divergent_offset < 0:
                    assert same == 0
                    return
                state.go_back(error.divergent_offset)
        if same < began:
            return
        assert state.position == same
        if state.position < len(log) and data.draw(st.booleans()):
            taken = data.draw(st.integers(1, len(log)))
            state.add(chunk(log, state.position), len(log), log[-1])
            state.take(taken)
        read = log[: state.position]


def test_of_many_epochs_the_oldest_are_taken_for_one() -> None:
    epochs = EpochsRead()
    log = list(range(100))
    epochs.note((header for _, header in iter_headers(bytes(chunk(log, 0)._data))), 0)
    assert epochs.last == 99
    assert [epochs.end_of(epoch, 100) for epoch in (10, 35, 36, 50, 99)] == [0, 0, 37, 51, 100]
    epochs.cut(60)
    assert (epochs.last, epochs.end_of(50, 60), epochs.end_of(59, 60)) == (59, 51, 60)

"""The checker of copies: one history for each thing that it must notice, and the schedules that it is used with."""

from __future__ import annotations

from itertools import chain

import pytest

from tests.failover.application import Told
from tests.failover.copies import mistakes
from tests.failover.exactly_once import EVERY_NODE, ROLES, schedule

COMMITTED, ABORTED, UNKNOWN, NOT_TRIED = Told(2, "committed"), Told(2, "aborted"), Told(2), Told()


def found(*seen: bytes, inputs: int, **told: Told) -> list[str]:
    """What is wrong with these copies of so many inputs of partition 0."""
    return mistakes([(0, number) for number in range(inputs)], seen, told)


@pytest.mark.parametrize("author", [COMMITTED, UNKNOWN])
def test_each_once(author: Told) -> None:
    """Also if the copier died before it knew that it had committed."""
    assert not found(b"0/0 a", b"0/1 a", inputs=2, a=author)


@pytest.mark.parametrize("author", [ABORTED, UNKNOWN, NOT_TRIED])
def test_what_was_not_committed_is_not_seen(author: Told) -> None:
    assert not found(b"0/0 b", b"0/1 b", inputs=2, a=author, b=COMMITTED)


@pytest.mark.parametrize(
    ("seen", "inputs", "author", "mistake"),
    [
        ([b"0/0 a", b"0/1 a"], 3, COMMITTED, "not copied: 1, ['(0, 2)']"),
        ([b"0/0 a", b"0/0 a"], 1, COMMITTED, "copied more than once: 1, ['(0, 0): 2 times']"),
        ([b"0/0 a", b"0/1 a"], 1, COMMITTED, "copied from nothing: 1, ['(0, 1)']"),
        ([b"0/0 a", b"0/1 a"], 2, ABORTED, "aborted and read: 1, ['a: 2 of 2 (aborted)']"),
        ([b"0/0 a"], 1, NOT_TRIED, "aborted and read: 1, ['a: 1 of None ()']"),
        ([b"0/0 a"], 1, UNKNOWN, "torn: 1, ['a: 1 of 2 ()']"),
        ([b"0/0 a"], 1, COMMITTED, "committed and not read: 1, ['a: 1 of 2 (committed)']"),
        ([], 0, COMMITTED, "committed and not read: 1, ['a: 0 of 2 (committed)']"),
    ],
)
def test_each_mistake_is_noticed(seen: list[bytes], inputs: int, author: Told, mistake: str) -> None:
    assert found(*seen, inputs=inputs, a=author) == [mistake]


def test_a_copy_by_nobody_is_noticed() -> None:
    assert found(b"0/0 a", inputs=1) == ["of an unknown transaction: 1, ['a']"]


def test_a_schedule_is_its_seed_s() -> None:
    names = ("one", "two")
    assert schedule(7, names, 9) == schedule(7, names, 9) != schedule(8, names, 9)
    steps = list(chain.from_iterable(schedule(seed, names, 5) for seed in range(20)))
    assert {victim for step in steps for victim in step.victims} == {*ROLES, *names, EVERY_NODE}
    assert {step.freeze for step in steps} == {True, False}

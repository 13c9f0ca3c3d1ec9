"""Throttles of replication (KIP-73): the bucket by itself, and leaders and followers that go by it."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from ottla.broker.replication.throttle import UNLIMITED, Throttle, is_throttled


def test_it_is_exhausted_until_the_debt_is_made_up() -> None:
    throttle = Throttle(100)
    assert not throttle.exhausted(0.0)
    throttle.spend(300, 0.0)
    assert throttle.exhausted(0.0) and throttle.ready_in(0.0) > 2.0
    assert throttle.exhausted(1.9) and not throttle.exhausted(2.1)


def test_nothing_is_saved_up_beyond_a_second() -> None:
    throttle = Throttle(100)
    assert not throttle.exhausted(1000.0)
    throttle.spend(101, 1000.0)
    assert throttle.exhausted(1000.0)


def test_rates_change_while_it_is_used() -> None:
    throttle = Throttle()
    throttle.spend(10**12, 0.0)
    assert not throttle.exhausted(0.0) and throttle.ready_in(0.0) == 0
    throttle.set_rate(10, 0.0)
    throttle.spend(110, 0.0)
    assert throttle.ready_in(0.0) > 10
    throttle.set_rate(1000, 5.0)
    assert throttle.ready_in(5.0) < 0.1
    throttle.set_rate(0, 6.0)
    throttle.spend(1, 6.0)
    assert throttle.exhausted(10**9) and throttle.ready_in(10**9) == inf
    throttle.set_rate(UNLIMITED, 10**9)
    assert not throttle.exhausted(10**9) and throttle.rate == inf


@given(
    st.integers(1, 1000),
    st.lists(st.tuples(st.floats(0, 3), st.integers(0, 5000)), max_size=50),
)
def test_the_rate_holds_on_average(rate: int, asked: list[tuple[float, int]]) -> None:
    """Whoever spends only when it is not exhausted gets what the time brings, a second's worth, and one answer more."""
    throttle, now, spent, largest = Throttle(rate), 0.0, 0, 0
    for pause, size in asked:
        now += pause
        if not throttle.exhausted(now):
            throttle.spend(size, now)
            spent += size
            largest = max(largest, size)
    assert spent <= rate * (now + 1) + largest + 1e-6


@given(st.integers(1, 1000), st.integers(1, 5000), st.floats(0, 100))
def test_it_is_ready_when_it_says(rate: int, size: int, now: float) -> None:
    throttle = Throttle(rate)
    throttle.spend(size, now)
    assert not throttle.exhausted(now + throttle.ready_in(now) + 1e-6)


def test_which_replicas_are_named() -> None:
    assert is_throttled(("*",), 3, 1)
    assert is_throttled(("0:1", "3:1"), 3, 1)
    assert not is_throttled(("3:11", "13:1"), 3, 1)
    assert not is_throttled((), 0, 0)

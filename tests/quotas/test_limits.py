"""Which quota holds (KIP-55), and how much of it is used up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.broker.quotas import BURST_S, MAX_THROTTLE_S, Limit, Limits, Usage

KEY = "producer_byte_rate"
# In order of precedence, for user "u" and client id "c": entity, and who shares the limit.
ENTITIES = [
    ({"user": "u", "client-id": "c"}, ("u", "c")),
    ({"user": "u", "client-id": None}, ("u", "c")),
    ({"user": "u"}, ("u", None)),
    ({"user": None, "client-id": "c"}, ("u", "c")),
    ({"user": None, "client-id": None}, ("u", "c")),
    ({"user": None}, ("u", None)),
    ({"client-id": "c"}, (None, "c")),
    ({"client-id": None}, (None, "c")),
]


def test_the_most_specific_quota_holds():
    for first in range(len(ENTITIES)):
        quotas = [(entity, {KEY: float(at)}) for at, (entity, _) in enumerate(ENTITIES) if at >= first]
        assert Limits(quotas).find(KEY, "u", "c") == Limit(float(first), ENTITIES[first][1])
    assert Limits().find(KEY, "u", "c") is None


def test_a_quota_that_does_not_set_a_key_leaves_it_to_the_next():
    limits = Limits([({"user": "u"}, {"consumer_byte_rate": 1.0}), ({"client-id": None}, {KEY: 2.0})])
    assert limits.find(KEY, "u", "c") == Limit(2.0, (None, "c"))
    assert limits.find("consumer_byte_rate", "u", "c") == Limit(1.0, ("u", None))
    assert limits.find("consumer_byte_rate", "other", "c") is None
    assert limits.find("request_percentage", "u", "c") is None


def test_others_are_not_meant():
    limits = Limits([({"user": "u", "client-id": "c"}, {KEY: 1.0}), ({"client-id": "d"}, {KEY: 2.0})])
    assert limits.find(KEY, "v", "c") is None
    assert limits.find(KEY, "u", "d") == Limit(2.0, (None, "d"))


@given(
    rate=st.floats(1, 1e9),
    steps=st.lists(st.tuples(st.floats(0, 30), st.floats(0, 40)), min_size=1, max_size=60),
)
def test_whoever_waits_as_told_keeps_to_the_rate(rate: float, steps: list[tuple[float, float]]):
    """Pauses are seconds, amounts seconds of the rate. What was used before a request is never more than the rate times
    the time, and one burst."""
    now, used = 0.0, 0.0
    usage = Usage(rate, now)
    for pause, amount in steps:
        now += pause
        while (wait := usage.take(0.0, rate, now)) > 0:
            assert wait <= MAX_THROTTLE_S
            now += max(wait, 1e-6)
        assert used <= rate * (now + BURST_S) * (1 + 1e-9)
        usage.take(amount * rate, rate, now)
        used += amount * rate


def test_a_debt_is_paid_off_before_anything_gets_through():
    usage = Usage(100.0, 0.0)
    assert usage.take(1000, 100.0, 0.0) == 0
    waits = [usage.take(amount, 100.0, now) for amount, now in ((500, 0.0), (0, 2.0), (0, 5.0), (1, 5.0))]
    assert waits == [5.0, 3.0, 0.0, pytest.approx(0.01)]
    assert usage.take(1e6, 100.0, 6.0) == MAX_THROTTLE_S
    assert not usage.full(1000.0)
    assert usage.full(100_000.0)


def test_time_that_stands_still_or_goes_back_gives_nothing():
    usage = Usage(10.0, 5.0)
    assert [usage.take(amount, 10.0, 4.0) for amount in (100.0, 10.0, 10.0)] == [0.0, 1.0, 2.0]

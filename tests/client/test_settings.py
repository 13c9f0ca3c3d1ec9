"""What a consumer's arguments mean, and which of them are refused before anything is done."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ottla.client import Consumer, IllegalStateError, parse_duration
from ottla.client.consumer.settings import reset_policy
from ottla.client.offsets import EARLIEST, LATEST


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("PT1H30M", 5400), ("P2D", 172800), ("P1DT1S", 86401), ("PT0.5S", 0.5), ("PT90M", 5400)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "P", "PT", "1h", "P1H", "PT1D", "PT-1S", "P1Y", "PT1S "])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="ISO 8601"):
        parse_duration(text)


def test_reset_policies() -> None:
    assert [reset_policy(each) for each in ("earliest", "latest", "none")] == [EARLIEST, LATEST, None]
    assert reset_policy("by_duration:PT1M") == timedelta(minutes=1)


@pytest.mark.parametrize(
    "options",
    [
        {"group_id": ""},
        {"group_protocol": "share"},
        {"group_remote_assignor": "uniform"},
        {"partition_assignment_strategy": ()},
        {"partition_assignment_strategy": "fair"},
        {"heartbeat_interval_ms": 45000},
        {"auto_commit_interval_ms": 0},
        {"max_poll_interval_ms": 0},
        {"auto_offset_reset": "by_duration:soon"},
        {"auto_offset_reset": "newest"},
        {"isolation_level": "serializable"},
    ],
)
def test_arguments_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Consumer("t", **{"group_id": "g", **options})


def test_subscriptions_that_make_no_sense() -> None:
    consumer = Consumer(group_id="g")
    for words in ({}, {"topics": ["t"], "pattern": "t"}, {"pattern": "("}):
        with pytest.raises(ValueError, match=r"pattern"):
            consumer.subscribe(**words)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        consumer.subscribe("t")
    with pytest.raises(IllegalStateError):
        Consumer().subscribe(["t"])


async def test_without_a_group_there_is_nothing_to_commit_to() -> None:
    consumer = Consumer("t")
    with pytest.raises(IllegalStateError):
        await consumer.commit()
    with pytest.raises(IllegalStateError):
        consumer.group_metadata()

"""Retention of committed offsets (KIP-211; RELIABILITY 2.23)."""

from __future__ import annotations

from dataclasses import replace

from ottla.broker.groups.offsets import OffsetStore, Standing, expired
from ottla.broker.groups.records import OffsetKey, OffsetValue

DAY = 86_400_000
NOW = 100 * DAY
ROWS = {
    ("old", 0): OffsetValue(1, -1, "", NOW - 10 * DAY),
    ("new", 0): OffsetValue(2, -1, "", NOW - DAY),
}
SIMPLE = Standing(None, True, False, -1, None)
STABLE = Standing("consumer", False, True, NOW - 50 * DAY, frozenset({"old", "new"}))


def gone(standing: Standing, now_ms: int = NOW) -> set[str]:
    return {topic for topic, _ in expired(ROWS, standing, now_ms, 7 * DAY)}


def test_a_group_that_never_had_members_loses_what_is_old() -> None:
    assert gone(SIMPLE) == {"old"}


def test_a_group_with_members_keeps_its_idle_partitions() -> None:
    assert gone(STABLE, NOW + 1000 * DAY) == set()


def test_a_stable_group_loses_old_offsets_of_topics_that_nobody_reads() -> None:
    assert gone(replace(STABLE, subscribed=frozenset({"new"}))) == {"old"}
    assert gone(replace(STABLE, subscribed=None)) == set()
    assert gone(replace(STABLE, stable=False, subscribed=frozenset())) == set()


def test_an_empty_group_keeps_all_for_the_retention_after_its_last_member() -> None:
    empty = Standing("consumer", True, False, NOW - 5 * DAY, frozenset())
    assert gone(empty) == set()
    assert gone(empty, NOW + 3 * DAY) == {"old"}, "the other was committed after that, to reset it"
    assert gone(empty, NOW + 6 * DAY) == {"old", "new"}


def test_retention_that_the_request_named_counts() -> None:
    rows = {("t", 0): OffsetValue(1, -1, "", NOW, NOW + 5)}
    assert not expired(rows, SIMPLE, NOW, 7 * DAY)
    assert expired(rows, SIMPLE, NOW + 5, 7 * DAY)


def test_the_store_follows_the_log() -> None:
    store = OffsetStore()
    key = OffsetKey("g", "t", 0)
    for offset in (1, 2):
        store.replay(key, OffsetValue(offset, -1, "", NOW))
    assert store.of("g")["t", 0].offset == 2
    store.replay(key, None)
    store.replay(key, None)
    assert "g" not in store and not store.of("g") and list(store) == []

"""Retention of committed offsets (KIP-211; RELIABILITY 2.23)."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ottla.broker.coordination import Place
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


class Log:
    """What is written of one position of two groups, and the offset of each record."""

    def __init__(self) -> None:
        self.store = OffsetStore()
        self._next = 0

    def put(self, offset: int | None, producer_id: int = -1, *, group: str = "g", partition: int = 0) -> None:
        value = None if offset is None else OffsetValue(offset, -1, "", NOW)
        self.store.replay(OffsetKey(group, "t", partition), value, Place(self._next, producer_id))
        self._next += 1

    def end(self, producer_id: int, *, commit: bool) -> None:
        self.store.end(producer_id, commit=commit)
        self._next += 1

    def has(self, group: str = "g") -> dict[int, int]:
        return {partition: value.offset for (_, partition), value in self.store.of(group).items()}


def test_the_store_follows_the_log() -> None:
    log = Log()
    log.put(1)
    log.put(2)
    log.put(7, partition=1)
    assert (log.has(), list(log.store), "g" in log.store) == ({0: 2, 1: 7}, ["g"], True)
    log.put(None)
    log.put(None, partition=1)
    log.put(None, partition=1)
    assert (log.has(), list(log.store), "g" in log.store) == ({}, [], False)


def test_positions_of_a_transaction_count_once_it_has_committed() -> None:
    """KIP-98."""
    log = Log()
    log.put(1)
    log.put(5, 1000)
    log.put(6, 1000)
    log.put(9, 1000, partition=1)
    log.put(3, 1000, group="other")
    log.put(4, 1001, group="other")
    at = ("t", 0)
    assert log.has() == {0: 1} and log.store.is_undecided("g", at) and log.store.is_undecided("g", ("t", 1))
    assert not log.store.is_undecided("g", ("t", 2)) and not log.store.is_undecided("x", at)
    assert list(log.store) == ["g", "other"] and log.store.known("g") == [("t", 0), ("t", 1)]
    log.end(1001, commit=False)
    log.end(1002, commit=True)
    assert log.store.is_undecided("other", at)
    log.end(1000, commit=True)
    assert (log.has(), log.has("other")) == ({0: 6, 1: 9}, {0: 3})
    assert not log.store.undecided
    log.end(1000, commit=True)
    log.put(8, 1000)
    log.end(1000, commit=False)
    assert log.has() == {0: 6, 1: 9} and not log.store.undecided


def test_the_later_record_counts_and_not_the_later_end() -> None:
    """Or a compacted log would say something else than the log that it was made from."""
    log = Log()
    log.put(5, 1000)
    log.put(6)
    log.end(1000, commit=True)
    assert log.has() == {0: 6}
    log.put(7, 1000)
    log.put(8, 1001)
    log.end(1001, commit=True)
    assert log.store.is_undecided("g", ("t", 0)), "who asks for what is stable waits all the same"
    log.end(1000, commit=True)
    assert log.has() == {0: 8}
    log.put(9)
    log.put(10, 1000)
    log.end(1000, commit=True)
    assert log.has() == {0: 10}


def test_who_deletes_an_offset_means_also_what_a_transaction_would_make_of_it() -> None:
    log = Log()
    log.put(1)
    log.put(5, 1000)
    log.put(6, 1000, partition=1)
    log.put(None)
    log.end(1000, commit=True)
    assert log.has() == {1: 6}
    log.put(7, 1000, group="other")
    log.put(None, group="other")
    assert "other" not in log.store and not log.store.undecided
    log.end(1000, commit=True)
    assert log.has("other") == {}


Step = tuple[str, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["plain", "in", "in", "commit", "abort", "delete"]), st.integers(0, 2), st.integers(0, 1)
    ),
    max_size=30,
)


@given(STEPS)
def test_the_store_is_what_the_records_of_committed_transactions_say(steps: list[Step]) -> None:
    """Against the last of the records that count, and against the log after compaction."""
    log, rows = Log(), []
    for number, (what, producer, partition) in enumerate(steps):
        rows.append((what, producer, partition, number))
        if what == "plain":
            log.put(number, partition=partition)
        elif what == "in":
            log.put(number, producer, partition=partition)
        elif what == "delete":
            log.put(None, partition=partition)
        else:
            log.end(producer, commit=what == "commit")
    assert log.has() == expected(rows)
    open_keys = {(producer, partition) for producer, partition in undecided(rows)}
    assert {partition for _, partition in open_keys} == {
        partition for partition in (0, 1) if log.store.is_undecided("g", ("t", partition))
    }


def expected(rows: list[tuple[str, int, int, int]]) -> dict[int, int]:
    found: dict[int, int] = {}
    for place, (what, producer, partition, number) in enumerate(rows):
        if what == "plain" or (what == "in" and outcome(rows, place, producer) == "commit"):
            if not deleted_before_the_end(rows, place, producer, partition, what):
                found[partition] = number
        elif what == "delete":
            found.pop(partition, None)
    return found


def outcome(rows: list[tuple[str, int, int, int]], place: int, producer: int) -> str:
    ends = (row[0] for row in rows[place:] if row[0] in ("commit", "abort") and row[1] == producer)
    return next(ends, "open")


def deleted_before_the_end(
    rows: list[tuple[str, int, int, int]], place: int, producer: int, partition: int, what: str
) -> bool:
    """A deletion that came while its transaction was open took it away."""
    for later, other, at, _ in rows[place + 1 :]:
        if what == "in" and later in ("commit", "abort") and other == producer:
            return False
        if later == "delete" and at == partition:
            return True
    return False


def undecided(rows: list[tuple[str, int, int, int]]) -> set[tuple[int, int]]:
    found: set[tuple[int, int]] = set()
    for what, producer, partition, _ in rows:
        if what == "in":
            found.add((producer, partition))
        elif what in ("commit", "abort"):
            found = {row for row in found if row[0] != producer}
        elif what == "delete":
            found = {row for row in found if row[1] != partition}
    return found

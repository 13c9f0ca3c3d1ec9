"""Differential: histories of a correct cluster are never found fault with; each kind of damage to one always is."""

from __future__ import annotations

import random
from typing import Any, TypeVar

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ottla.simulation.checker import check
from ottla.simulation.history import Entry
from tests.simulation.checker.told import Tale

T = TypeVar("T")
KEYS = ("t-0", "t-1")


class Cluster:
    """Logs that only grow, and clients that overlap, crash, fail, and never learn some outcomes.

    A written value becomes visible at any time between its invocation and, if it is acknowledged, that; what is
    indeterminate may become visible at any time later, or never. Offsets have holes.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.tale = Tale()
        self.logs: dict[str, list[tuple[int, int]]] = {key: [] for key in KEYS}
        self.offset = dict.fromkeys(KEYS, 0)
        self.positions: dict[int, dict[str, int]] = {}
        self.values = 0
        self.processes = 0
        self.open: dict[int, Any] = {}
        self.floating: list[tuple[str, int]] = []

    def run(self, steps: int) -> Tale:
        self.tale.does(0, "leads", dict.fromkeys(KEYS, 0))
        alive = [self.start() for _ in range(3)]
        for _ in range(steps):
            process = self.rng.choice(alive)
            if process in self.open:
                if not self.open.pop(process)():
                    alive[alive.index(process)] = self.start()
            else:
                self.begin(process)
            if self.floating and self.rng.random() < 0.1:
                key, value = self.floating.pop()
                self.append(key, value)
        self.floating.clear()
        reader = self.start()
        self.tale.does(reader, "assign", dict.fromkeys(KEYS, 0))
        for key in KEYS:
            self.tale.polls(reader, *self.logs[key], key=key)
        return self.tale

    def start(self) -> int:
        self.processes += 1
        self.positions[self.processes] = {}
        return self.processes

    def append(self, key: str, value: int) -> int:
        offset = self.offset[key]
        self.logs[key].append((offset, value))
        self.offset[key] += self.rng.choice((1, 1, 1, 3))
        return offset

    def begin(self, process: int) -> None:
        what = self.rng.choices(("send", "poll", "assign", "ends", "crash"), (10, 8, 2, 1, 0.3))[0]
        getattr(self, what)(process)

    def send(self, process: int) -> None:
        records = []
        for _ in range(self.rng.choice((1, 1, 3))):
            self.values += 1
            records.append((self.rng.choice(KEYS), self.values))
        invoked = self.tale.invoke(process, "send", [["send", key, [None, value]] for key, value in records])
        outcome = self.rng.choices(("ok", "fail", "info"), (10, 1, 1))[0]
        early: list[int | None] = [None] * len(records)
        if outcome == "ok" and self.rng.random() < 0.5:
            early = [self.append(key, value) for key, value in records]

        def end() -> bool:
            told = list(early)
            if outcome == "ok" and told[0] is None:
                told = [self.append(key, value) for key, value in records]
            if outcome == "info":
                # Those after one that is not there are not there either: a producer keeps its order.
                known = self.rng.randint(0, len(records) - 1)
                told[:known] = [self.append(key, value) for key, value in records[:known]]
                self.floating.extend(records[known : known + 1])
            value = [["send", key, [offset, value]] for (key, value), offset in zip(records, told, strict=True)]
            self.tale.complete(invoked, outcome, value, error=None if outcome == "ok" else outcome)
            return outcome != "info"

        self.open[process] = end

    def poll(self, process: int) -> None:
        invoked = self.tale.invoke(process, "poll", [["poll", {}]])

        def end() -> bool:
            if self.rng.random() < 0.05:
                self.tale.complete(invoked, "fail", None, error="late")
                return True
            shown = {}
            for key, position in self.positions[process].items():
                records = [list(each) for each in self.logs[key] if each[0] >= position][: self.rng.randint(0, 5)]
                if records:
                    shown[key] = records
                    self.positions[process][key] = records[-1][0] + 1
            self.tale.complete(invoked, "ok", [["poll", shown]])
            return True

        self.open[process] = end

    def assign(self, process: int) -> None:
        wanted: dict[str, int | None] = {}
        for key in self.rng.sample(KEYS, self.rng.randint(1, 2)):
            keeps = key in self.positions[process] and self.rng.random() < 0.5
            wanted[key] = None if keeps else self.rng.randint(0, self.offset[key])
        old = self.positions[process]
        self.positions[process] = {key: old[key] if at is None else at for key, at in wanted.items()}
        self.tale.does(process, "assign", wanted)

    def ends(self, process: int) -> None:
        invoked = self.tale.invoke(process, "ends", list(KEYS))

        def end() -> bool:
            self.tale.complete(invoked, "ok", {key: [self.offset[key], 0] for key in KEYS})
            return True

        self.open[process] = end

    def crash(self, process: int) -> None:
        invoked = self.tale.invoke(process, "crash", None)

        def end() -> bool:
            self.tale.complete(invoked, "info", None)
            return False

        self.open[process] = end


def history(seed: int, steps: int = 150) -> Tale:
    tale = Cluster(random.Random(seed)).run(steps)
    tale.does(0, "epochs", None, {key: [[0, 0]] for key in KEYS})
    return tale


@given(st.integers(0, 1 << 40), st.integers(0, 300))
def test_a_correct_cluster_is_never_found_fault_with(seed, steps):
    assert check(history(seed, steps)) == []


def replaced(tale: Tale, entry: Entry, value: Any, kind: Any = None) -> None:
    fields = {name: getattr(entry, name) for name in Entry.__slots__}
    tale.entries[entry.index] = Entry(**{**fields, "value": value, "type": kind or entry.type})


def shown(tale: Tale, least: int = 1) -> list[tuple[Entry, str, list[list[int]]]]:
    """What readers were given, at least so many records at once. The last two are the reading of everything."""
    polls = [entry for entry in tale if entry.f == "poll" and entry.type == "ok"]
    return [
        (entry, key, [list(each) for each in records])
        for entry in polls
        for key, records in entry.value[0][1].items()
        if len(records) >= least
    ]


def show(tale: Tale, entry: Entry, key: str, records: list[list[int]]) -> None:
    """Let this poll have been given this instead."""
    replaced(tale, entry, [["poll", {**entry.value[0][1], key: records}]])


def acknowledged(tale: Tale) -> list[tuple[Entry, list[Any]]]:
    return [(entry, micro) for entry in tale if entry.f == "send" and entry.type == "ok" for micro in entry.value]


def pick(rng: random.Random, places: list[T]) -> T:
    """A place for the damage; a history that has none is left."""
    assume(places)
    return rng.choice(places)


def drop_an_acknowledged_write(tale: Tale, rng: random.Random) -> set[str]:
    _, (_, wanted, (_, value)) = pick(rng, acknowledged(tale))
    for entry, key, records in shown(tale):
        if key == wanted:
            show(tale, entry, key, [each for each in records if each[1] != value])
    return {"unseen"}


def store_one_twice(tale: Tale, rng: random.Random) -> set[str]:
    entry, key, records = shown(tale)[-1]
    value = rng.choice(records)[1]
    show(tale, entry, key, [*records, [records[-1][0] + 1, value]])
    return {"duplicate"}


def swap_two_values_for_one_reader(tale: Tale, rng: random.Random) -> set[str]:
    entry, key, records = pick(rng, shown(tale, 2)[:-2])
    at = rng.randrange(len(records) - 1)
    records[at][1], records[at + 1][1] = records[at + 1][1], records[at][1]
    show(tale, entry, key, records)
    return {"inconsistent-offset"}


def show_records_in_the_wrong_order(tale: Tale, rng: random.Random) -> set[str]:
    entry, key, records = pick(rng, shown(tale, 2)[:-2])
    at = rng.randrange(len(records) - 1)
    records[at], records[at + 1] = records[at + 1], records[at]
    show(tale, entry, key, records)
    return {"int-nonmonotonic-poll"}


def skip_a_record(tale: Tale, rng: random.Random) -> set[str]:
    entry, key, records = pick(rng, shown(tale, 3)[:-2])
    del records[rng.randrange(1, len(records) - 1)]
    show(tale, entry, key, records)
    return {"int-poll-skip"}


def skip_the_first_record_of_a_poll(tale: Tale, rng: random.Random) -> set[str]:
    entry, key, records = pick(rng, shown(tale, 2)[:-2])
    show(tale, entry, key, records[1:])
    return {"poll-skip"}


def tell_the_wrong_offset(tale: Tale, rng: random.Random) -> set[str]:
    entry, chosen = pick(rng, acknowledged(tale))
    value = [["send", m[1], [m[2][0] + 100_000, m[2][1]]] if m is chosen else m for m in entry.value]
    replaced(tale, entry, value)
    return {"duplicate"}


def say_of_what_is_there_that_it_failed(tale: Tale, rng: random.Random) -> set[str]:
    entry, _ = pick(rng, acknowledged(tale))
    replaced(tale, entry, [["send", m[1], [None, m[2][1]]] for m in entry.value], "fail")
    return {"G1a"}


def show_what_nobody_wrote(tale: Tale, rng: random.Random) -> set[str]:
    entry, key, records = pick(rng, shown(tale))
    show(tale, entry, key, [*records[:-1], [records[-1][0], 10**9]])
    return {"unwritten-read"}


def forget_the_end(tale: Tale, rng: random.Random) -> set[str]:
    tale.does(-1, "ends", list(KEYS), {key: [1, 0] for key in KEYS})
    return {"stale-end"}


def read_the_same_again(tale: Tale, rng: random.Random) -> set[str]:
    entry, key, records = shown(tale)[-1]
    tale.does(entry.process, "poll", [["poll", {}]], [["poll", {key: records}]])
    return {"nonmonotonic-poll"}


def acknowledge_in_the_wrong_order(tale: Tale, rng: random.Random) -> set[str]:
    """Two sends of one process, each of one record to one key, have their places exchanged in all that is told."""
    sends = [entry for entry, _ in acknowledged(tale) if len(entry.value) == 1]
    pairs = [
        (one, other)
        for at, one in enumerate(sends)
        for other in sends[at + 1 :]
        if one.process == other.process and one.value[0][1] == other.value[0][1]
    ]
    one, other = pick(rng, pairs)
    (_, key, (first, a)), (_, _, (second, b)) = one.value[0], other.value[0]
    replaced(tale, one, [["send", key, [second, a]]])
    replaced(tale, other, [["send", key, [first, b]]])
    places = {first: b, second: a}
    for entry, where, records in shown(tale):
        if where == key:
            show(tale, entry, key, [[offset, places.get(offset, value)] for offset, value in records])
    return {"nonmonotonic-send"}


def read_before_it_is_written(tale: Tale, rng: random.Random) -> set[str]:
    """A write that began after everything, and had been read before."""
    entry, key, records = shown(tale)[-1]
    value = 10**9
    show(tale, entry, key, [*records, [records[-1][0] + 1, value]])
    tale.does(-1, "send", [["send", key, [None, value]]], [["send", key, [records[-1][0] + 1, value]]])
    return {"G1c"}


DAMAGES = [
    drop_an_acknowledged_write,
    store_one_twice,
    swap_two_values_for_one_reader,
    show_records_in_the_wrong_order,
    skip_a_record,
    skip_the_first_record_of_a_poll,
    tell_the_wrong_offset,
    say_of_what_is_there_that_it_failed,
    show_what_nobody_wrote,
    forget_the_end,
    read_the_same_again,
    acknowledge_in_the_wrong_order,
    read_before_it_is_written,
]


@pytest.mark.parametrize("damage", DAMAGES)
@given(st.integers(0, 1 << 40))
def test_every_damage_is_found(damage, seed):
    tale = history(seed)
    expected = damage(tale, random.Random(seed))
    kinds = {finding.kind for finding in check(tale)}
    assert kinds & expected, f"{damage.__name__}: found {kinds}"

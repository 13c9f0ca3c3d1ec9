"""The core under random schedules: producers of both versions, requests that come late and twice, records that fail, a
coordinator that moves, and time."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.broker.transactions import VERSION_1, VERSION_2, Decision, Producer, State, Transaction, decisions
from ottla.broker.transactions.model import LAST_EPOCH
from tests.transactions.machine import Instance, Machine

STEPS = 400
WEIGHTS = {
    "start": 0.7,
    "add": 8,
    "commit": 8,
    "abort": 2,
    "resume": 0.5,
    "repeat": 5,
    "deliver": 24,
    "lose": 0.5,
    "write": 24,
    "markers": 12,
    "fail": 0.5,
    "move": 1,
    "time": 2,
}


def schedules(seed: int) -> Iterator[tuple[str, Any]]:
    """Random steps, most of which carry on with what has been begun."""
    rng = random.Random(seed)
    for what in rng.choices(list(WEIGHTS), list(WEIGHTS.values()), k=STEPS):
        if what == "start":
            yield what, rng.choice([VERSION_2, VERSION_2, VERSION_1])
        elif what in ("deliver", "lose"):
            yield what, rng.choice([0, 0, 0, 0, rng.randrange(8)])
        elif what == "move":
            yield what, rng.random() < 0.5
        elif what == "time":
            yield what, rng.choice([1, 100, 100, 1100])
        else:
            yield what, rng.choice([1, 1, 1, 1, 2, 3])


def run(machine: Machine, step: tuple[str, Any]) -> None:
    what, about = step
    if what == "start" or all(each.over for each in machine.instances):
        machine.start(about if what == "start" else VERSION_2)
    elif what in ("deliver", "lose"):
        getattr(machine, what)(about)
    elif what == "write":
        machine.commit()
    elif what in ("markers", "fail"):
        getattr(machine, what)()
    elif what == "move":
        machine.move(committed=about)
    elif what == "time":
        machine.pass_time(about)
    else:
        alive = [each for each in machine.instances if not each.over]
        instance = alive[-about] if about <= len(alive) else alive[-1]
        if what == "add":
            machine.add(instance, about)
        elif what in ("commit", "abort"):
            machine.end(instance, what == "commit")
        else:
            getattr(machine, what)(instance)


def explore(seed: int, epoch: int | None, version: int) -> None:
    machine = Machine.at_epoch(epoch, version)
    for step in schedules(seed):
        run(machine, step)
        machine.check()
    late = _next_instance(machine)
    machine.check()
    found = machine.transaction
    assert found is not None and found.producer == late.producer and found.state is State.EMPTY


def _next_instance(machine: Machine) -> Instance:
    """It gets in, however things stand."""
    machine.settle()
    late = machine.start(VERSION_2)
    for _ in range(4):
        machine.repeat(late)
        machine.deliver(-1)
        machine.settle()
    assert late.producer is not None
    return late


def fence(seed: int) -> None:
    machine = Machine.at_epoch(None, VERSION_2)
    for step in schedules(seed):
        run(machine, step)
    zombies = [each for each in machine.instances if each.producer is not None]
    _next_instance(machine)
    before = machine.transaction
    for zombie in zombies:
        for ask in (lambda z: machine.add(z, 0), lambda z: machine.end(z, False), machine.resume):
            zombie.over, zombie.unanswered = False, None
            ask(zombie)
            machine.deliver(-1)
            assert machine.write is None and machine.transaction == before


@given(
    st.integers(0, 2**32),
    st.sampled_from([None, LAST_EPOCH - 2, LAST_EPOCH]),
    st.sampled_from([VERSION_2, VERSION_2, VERSION_1]),
)
def test_no_request_touches_a_transaction_that_it_was_not_made_for(seed: int, epoch: int | None, version: int) -> None:
    """And what was told stays so, replay gives the live state, no epoch is given to two, and a new producer gets in."""
    explore(seed, epoch, version)


@given(st.integers(0, 2**32))
def test_of_many_instances_only_the_last_can_go_on(seed: int) -> None:
    fence(seed)


def test_the_schedules_get_somewhere() -> None:
    """Or what they do not find would say nothing."""
    ends: Counter[str] = Counter()
    for seed in range(20):
        machine = Machine.at_epoch(None, VERSION_2)
        for step in schedules(seed):
            run(machine, step)
        ends.update(entry.value.state.label for entry in machine.log if entry.value is not None)
    assert ends["CompleteCommit"] > 20 and ends["CompleteAbort"] > 20 and ends["Empty"] > 20


def _no_epoch(txn: Transaction, commit: bool, now_ms: int, _fresh: int | None) -> Decision:
    """As before KIP-890: the end of a transaction leaves the epoch as it is."""
    record = decisions._prepared(txn, commit, txn.producer, now_ms, version=VERSION_2)
    return Decision(record=record, producer=txn.producer)


def _any_epoch(txn: Transaction, producer: Producer) -> bool:
    """An end that is asked for again is known by the number of its epoch alone, whoever ended the transaction."""
    complete = txn.state in (State.COMPLETE_COMMIT, State.COMPLETE_ABORT)
    return complete and txn.producer == (producer.id, producer.epoch + 1)


def _forgiving(txn: Transaction, now_ms: int, fresh: int | None, version: int, *, resume: bool) -> Decision:
    """A producer that another one has fenced may resume."""
    return FENCE(txn, now_ms, fresh, version, resume=True)


def _never_rotated(txn: Transaction, commit: bool, now_ms: int, fresh: int | None) -> Decision:
    """The last epoch is followed by one from which nobody can be fenced."""
    decision = BUMPED(txn, commit, now_ms, fresh)
    if decision.record is None:
        return decision
    record = replace(decision.record, next_id=-1)
    return Decision(record=record, producer=record.successor)


FENCE, BUMPED = decisions._fence, decisions._bumped
MUTANTS = {
    "no epoch": ("_bumped", _no_epoch),
    "any epoch": ("_ended_by", _any_epoch),
    "forgiving": ("_fence", _forgiving),
    "never rotated": ("_bumped", _never_rotated),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model sees what goes wrong when a rule is left out."""
    monkeypatch.setattr(decisions, *MUTANTS[name])
    with pytest.raises(AssertionError):
        for seed in range(200):
            explore(seed, [None, LAST_EPOCH - 2][seed % 2], VERSION_2)
            fence(seed)

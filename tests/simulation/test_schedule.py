"""A schedule is data: drawn from a seed, played whole or in part, written to a file and read again."""

import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.simulation import SimulatedCluster, run
from ottla.simulation.faults import FAULTS, GROUPS, Fault, Kind, Loses, draw, kinds_for, needs_sync, nothing, swarm
from ottla.simulation.nemesis import Nemesis
from ottla.simulation.plan import WORKLOADS, Plan, known_kinds
from ottla.simulation.storm import _complete, attempt
from ottla.simulation.world import World

KINDS = list(FAULTS)
faults = st.builds(
    Fault,
    at=st.floats(0, 1000),
    kind=st.sampled_from(KINDS),
    lasts=st.floats(0, 1000),
    lot=st.integers(0, 2**32 - 1),
)


@given(st.integers(), st.lists(st.sampled_from(KINDS), min_size=1, unique=True), st.floats(1, 300))
def test_faults_come_in_order_within_the_time_and_of_the_kinds(seed: int, kinds: list[str], seconds: float):
    schedule = draw(random.Random(seed), kinds, seconds)
    assert schedule == draw(random.Random(seed), kinds, seconds)
    assert [fault.at for fault in schedule] == sorted(fault.at for fault in schedule)
    assert all(0 <= fault.at <= seconds and fault.lasts > 0 and fault.kind in kinds for fault in schedule)


def test_a_swarm_is_a_part_and_all_kinds_have_their_turn():
    swarms = [swarm(random.Random(seed), KINDS) for seed in range(200)]
    assert max(map(len, swarms)) < len(KINDS)
    assert set().union(*swarms) == set(KINDS)


@pytest.mark.parametrize("workload", [None, *WORKLOADS])
def test_messages_of_transactions_are_held_beside_clients_that_write_in_them(workload: str | None):
    plans = [Plan(seed, 3, 60.0, workload=workload) for seed in range(40)]
    drawn = [kind for plan in plans for kind in _complete(plan, World(plan.seed)).kinds or ()]
    assert ("hold transaction" in drawn) is (workload == "transactions")


def test_every_kind_says_what_it_is():
    for name, kind in FAULTS.items():
        assert kind.doc
        assert "\n" not in kind.doc
        assert name == name.lower()
        assert "," not in name


def test_kinds_for_a_size():
    assert set(kinds_for(3)) <= set(kinds_for(5)) == {name for name in KINDS if FAULTS[name].usual}
    assert all(FAULTS[name].nodes <= 3 for name in kinds_for(3))


def test_which_kinds_need_synced_records():
    assert needs_sync(["power off"])
    assert not needs_sync(["lone power off", "pause"])
    assert not needs_sync(["lone power off", "kill"])
    assert not needs_sync(["kill", "partition"])


@given(
    st.builds(
        Plan,
        seed=st.integers() | st.text(),
        nodes=st.integers(1, 5),
        seconds=st.floats(1, 1000),
        kinds=st.none() | st.lists(st.sampled_from(KINDS)).map(tuple),
        schedule=st.none() | st.lists(faults, max_size=5).map(tuple),
        rate=st.none() | st.floats(1, 100),
        settings=st.none() | st.dictionaries(st.text(), st.text(), max_size=3),
    )
)
def test_a_plan_is_the_same_after_a_file(plan: Plan):
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[]", "object"),
        ("{", "Expecting"),
        ("{}", "seed"),
        ('{"seed": 1, "size": 3}', "size"),
        ('{"seed": 1, "kinds": ["flood"]}', "no fault 'flood'"),
        ('{"seed": 1, "schedule": [{"at": 1}]}', "is no fault"),
        ('{"seed": 1, "schedule": [{"at": 1, "kind": "flood", "lasts": 1, "lot": 1}]}', "no fault 'flood'"),
    ],
)
def test_a_file_that_is_no_plan(text: str, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        Plan.from_json(text)


def test_kinds_may_be_written_with_hyphens():
    assert known_kinds(["kill-all", " power off in mid-write"]) == ["kill all", "power off in mid-write"]


def test_the_name_of_a_group_is_all_of_its_kinds():
    assert known_kinds(["kill", "members"]) == ["kill", *GROUPS["members"]]
    assert not GROUPS.keys() & FAULTS.keys()


def test_a_fault_does_the_same_whatever_was_left_out(monkeypatch: pytest.MonkeyPatch):
    seen: list[tuple[float, float]] = []
    monkeypatch.setitem(FAULTS, "look", Kind(lambda scene: seen.append(scene.rng.random()) or nothing, "looks"))
    schedule = [Fault(0.1 * number, "look", 0.05, 1000 + number) for number in range(6)]

    def play(some: list[Fault]) -> list[float]:
        async def scenario():
            async with SimulatedCluster(nodes=1) as cluster:
                await cluster.create_topic("orders")
                nemesis = Nemesis(cluster, "orders", 1)
                await nemesis.play(some, 1.0)
                assert nemesis.done == {"look": len(some)}

        seen.clear()
        run(scenario, 1)
        return list(seen)

    assert play(schedule)[3] == play(schedule[3:4])[0]


def test_what_was_drawn_repeats_the_run_to_the_byte():
    report = attempt(Plan(3, seconds=4.0, rate=5.0))
    assert report.anomaly is None
    assert report.plan.schedule is not None and report.plan.settings and report.plan.rate
    again = attempt(Plan.from_json(report.plan.to_json()))
    assert again.fingerprint == report.fingerprint
    assert again.timeline == report.timeline
    fewer = attempt(dataclasses.replace(report.plan, schedule=report.plan.schedule[1:]))
    assert fewer.plan.settings == report.plan.settings
    assert fewer.fingerprint != report.fingerprint


def test_losses_are_told_apart():
    assert {kind.loses for kind in FAULTS.values()} == set(Loses)

"""Short stories of the protocol, message by message, to be read. ``REWRITE_TRANSCRIPTS=1`` writes them anew."""

import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from ottla.controller.raft import Message
from tests.raft.simulation import Simulation

FOLDER = Path(__file__).parent / "transcripts"
LEFT_OUT = {"stamp", "identity", "founder"}


def first_election(simulation: Simulation) -> None:
    simulation.run(0.15)


def pipelined_proposals(simulation: Simulation) -> None:
    leader = simulation.elect()
    simulation.run(0.3)
    for number in range(3):
        simulation.propose(leader, b"entry %d" % number)
    simulation.run(0.02)


def leader_killed_with_evidence(simulation: Simulation) -> None:
    leader = simulation.elect()
    simulation.run(0.3)
    simulation.crash(leader)
    for survivor in simulation.voters - {leader}:
        simulation.suspect(survivor, leader)
    simulation.run(0.05)


def partitioned_voter_returns(simulation: Simulation) -> None:
    leader = simulation.elect()
    lonely = max(simulation.voters - {leader})
    simulation.isolate(lonely)
    simulation.run(3)
    simulation.heal()
    simulation.run(0.4)


def wiped_voter_is_readmitted(simulation: Simulation) -> None:
    leader = simulation.elect()
    simulation.run(0.3)
    victim = max(simulation.voters - {leader})
    simulation.wipe(victim)
    simulation.start(victim)
    simulation.run(0.5)


def learner_becomes_a_voter(simulation: Simulation) -> None:
    leader = simulation.elect()
    simulation.run(0.3)
    leaver = max(simulation.voters - {leader})
    simulation.remove(leader, leaver)
    simulation.run(0.02)
    simulation.add(leader, leaver)
    simulation.run(0.2)


def leader_removes_itself(simulation: Simulation) -> None:
    leader = simulation.elect()
    simulation.run(0.3)
    simulation.remove(leader, leader)
    simulation.run(0.05)


STORIES: list[Callable[[Simulation], None]] = [
    first_election,
    pipelined_proposals,
    leader_killed_with_evidence,
    partitioned_voter_returns,
    wiped_voter_is_readmitted,
    learner_becomes_a_voter,
    leader_removes_itself,
]


def told(message: Message) -> str:
    """Name and those fields that say something."""
    shown = ((f.name, getattr(message, f.name)) for f in fields(message) if f.name not in LEFT_OUT)
    parts = [f"{name}={_short(value)}" for name, value in shown if value not in (False, "", ())]
    return f"{type(message).__name__} {' '.join(parts)}"


def _short(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + " ".join(f"{entry.index}@{entry.term}" for entry in value) + "]"
    return str(value)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_transcript(story: Callable[[Simulation], None]) -> None:
    simulation = Simulation(3, seed=42)
    start = simulation.now
    lines = [story.__name__.replace("_", " ")]
    roles: dict[int, str] = {}

    def note(text: str) -> None:
        lines.append(f"{(simulation.now - start) * 1000:8.1f} ms  {text}")

    def sent(sender: int, to: int, message: Message) -> None:
        for node in simulation.nodes.values():
            role = "down" if node.core is None else f"{node.core.role} of term {node.core.term}"
            if roles.get(node.node_id) != role:
                roles[node.node_id] = role
                note(f"{node.node_id} is {role}")
        note(f"{sender} -> {to}  {told(message)}")

    simulation.trace = sent
    story(simulation)
    transcript = "\n".join(lines) + "\n"
    path = FOLDER / f"{story.__name__}.txt"
    if os.environ.get("REWRITE_TRANSCRIPTS"):
        path.write_text(transcript)
    assert transcript == path.read_text(), "the protocol talks differently now; read both, then REWRITE_TRANSCRIPTS=1"

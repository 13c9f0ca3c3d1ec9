"""Elections that may lose records, under faults, and mistakes in our own code that have to be found all the same."""

import pytest

from ottla.broker.replication import leading
from ottla.client.consumer.position import PartitionState, Phase
from tests.simulation.mutants.catching import beside, catch, runs_alike


def plan(seed, kinds, seconds=10.0):
    return beside("unclean", seed, kinds, seconds)


def read_on_where_one_was(patch):
    """A consumer (KIP-320)."""

    def validated(self, *_):
        self.phase = Phase.FETCH

    patch.setattr(PartitionState, "validated", validated)


def send_whoever_asks(patch):
    """A leader, also to followers whose log is another one (KIP-595)."""
    patch.setattr(leading, "diverges", lambda *_: False)


MUTANTS = {
    "read on where one was": (read_on_where_one_was, ("partition", "kill"), 4),
    "send whoever asks": (send_whoever_asks, ("kill", "isolate", "kill all"), 4),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught_within_so_many_seeds(name):
    mutate, kinds, seeds = MUTANTS[name]
    catch(mutate, lambda seed: plan(seed, kinds), seeds)


def test_the_same_seed_gives_the_same_run():
    work = runs_alike(plan(1, ("partition", "kill"))).work_besides
    assert work["lost"] > 0 and work["written"] > 0

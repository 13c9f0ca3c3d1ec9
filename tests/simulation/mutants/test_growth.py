"""Groups that read a topic which grows, under faults, and mistakes in our own code that have to be found."""

import pytest

from ottla.broker.groups.consumer import heartbeat
from ottla.client.consumer import settings
from ottla.client.group.classic_requests import Joined
from ottla.client.group.classic_wire import ClassicWire
from ottla.client.offsets import LATEST
from tests.simulation.mutants.catching import beside, catch, runs_alike


def plan(seed, kinds, seconds=10.0):
    return beside("growth", seed, kinds, seconds)


def begin_new_partitions_at_their_end(patch):
    patch.setitem(settings._RESETS, "earliest", LATEST)


def see_only_whether_a_topic_is_there(patch):
    """The coordinator of a group of KIP-848."""
    patch.setattr(heartbeat, "hash_of", lambda group, topics: len(group.subscribed(topics) & topics.keys()))


def believe_in_what_was_handed_out(patch):
    """The leader of a classic group."""
    patch.setattr(ClassicWire, "outdated", lambda _: False)


def forget_that_one_leads_again(patch):
    patch.setattr(Joined, "leads_again", False)


MUTANTS = {
    "begin new partitions at their end": (begin_new_partitions_at_their_end, 2),
    "see only whether a topic is there": (see_only_whether_a_topic_is_there, 2),
    "believe in what was handed out": (believe_in_what_was_handed_out, 2),
    "forget that one leads again": (forget_that_one_leads_again, 6),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught_within_so_many_seeds(name):
    mutate, seeds = MUTANTS[name]
    catch(mutate, lambda seed: plan(seed, ("kill",)), seeds)


def test_the_same_seed_gives_the_same_run():
    work = runs_alike(plan(3, ("kill",), seconds=5.0)).work_besides
    assert work["grown"] > 0 and work["written"] > 0

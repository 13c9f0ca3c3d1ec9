"""Topics that come and go under faults, and mistakes in our own code that have to be found."""

import pytest

from ottla.broker.replication import manager
from ottla.client.consumer.position import PartitionState
from ottla.log.removal import Removal
from tests.simulation.mutants.catching import beside, catch, runs_alike


def plan(seed, kinds, seconds=15.0):
    return beside("topics", seed, kinds, seconds, {"log.segment.delete.delay.ms": "200"})


def take_the_log_of_an_older_namesake(patch):
    original = manager.find_log

    def find(logs, topic, index, settings, **options):
        key = topic.name, index
        if key in logs._topic_ids:
            logs._topic_ids[key] = topic.id
        return original(logs, topic, index, settings, **options)

    patch.setattr(manager, "find_log", find)


def leave_the_files_of_deleted_logs(patch):
    patch.setattr(Removal, "due", lambda _: [])


def forget_what_was_to_be_removed_by_the_life_before(patch):
    original = Removal.doom
    patch.setattr(Removal, "doom", lambda self, path, after_ms: after_ms and original(self, path, after_ms))


def stay_where_one_was_in_the_topic_before(patch):
    patch.setattr(PartitionState, "made_anew", lambda *_: None)


MUTANTS = {
    "take the log of an older namesake": (take_the_log_of_an_older_namesake, ("kill",), 1),
    "leave the files of deleted logs": (leave_the_files_of_deleted_logs, ("resets",), 1),
    "stay where one was in the topic before": (stay_where_one_was_in_the_topic_before, ("kill",), 1),
    "forget what was to be removed by the life before": (
        forget_what_was_to_be_removed_by_the_life_before,
        ("kill",),
        1,
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught_within_so_many_seeds(name):
    mutate, kinds, seeds = MUTANTS[name]
    catch(mutate, lambda seed: plan(seed, kinds), seeds)


def test_the_same_seed_gives_the_same_run():
    work = runs_alike(plan(3, ("kill",), seconds=5.0)).work_besides
    assert work["written"] > 0 and work["read"] > 0

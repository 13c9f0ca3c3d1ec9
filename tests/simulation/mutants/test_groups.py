"""Consumers in groups under faults, and mistakes in coordinator and consumer that have to be found by them."""

import pytest
from kio.schema.errors import ErrorCode

from ottla.broker.coordination.shard_log import ShardLog
from ottla.broker.groups.commits import Commits
from ottla.broker.groups.consumer import heartbeat
from ottla.broker.groups.records import OffsetKey
from ottla.broker.groups.shard import Shard
from ottla.client.consumer.grouping import Grouping
from ottla.simulation.plan import Plan
from tests.simulation.mutants.catching import IMPATIENT, catch, runs_alike, thick


def plan(seed, kinds, seconds=10.0, rate=20.0):
    faults = thick(f"group mutants/{seed}", kinds, seconds, lasting=(0.1, 0.5, 2.0, 4.0))
    return Plan(seed, 3, seconds, None, faults, rate, IMPATIENT, "groups")


def answer_commits_before_replication(patch):
    original = ShardLog.write

    def write(self, entries, done, decided=None, *, within=None):
        if all(isinstance(entry.key, OffsetKey) for entry in entries) and self.leads and self.ready:
            done(ErrorCode.none)
            original(self, entries, lambda _: None, decided, within=within)
        else:
            original(self, entries, done, decided, within=within)

    patch.setattr(ShardLog, "write", write)


def take_commits_of_any_generation(patch):
    patch.setattr(Commits, "check", lambda *_: ErrorCode.none)


def give_what_others_have(patch):
    """Without waiting until it is given up."""
    original = heartbeat.reconciled

    def reconciled(current, member_id, target, target_epoch, owners, owned):
        return original(current, member_id, target, target_epoch, {}, owned)

    patch.setattr(heartbeat, "reconciled", reconciled)


def serve_before_everything_is_read(patch):
    original = ShardLog.load

    async def load(self):
        self._replayed = True
        self._advance()
        self._replay = lambda *_: None
        await original(self)

    patch.setattr(ShardLog, "load", load)


def keep_expired_members_out_of_the_log(patch):
    """Nobody is ever silent for too long."""
    patch.setattr(Shard, "tick", lambda *_: None)


def begin_at_the_beginning(patch):
    """Of this library's consumer: it does not ask where its group is."""

    async def lookup(_self, _partitions):
        return {}, {}

    patch.setattr(Grouping, "lookup", lookup)


def commit_what_comes_next(patch):
    """Of this library's consumer: an automatic commit names more than what was processed."""
    original = Grouping._done

    def done(self, partitions):
        return {tp: place._replace(offset=place.offset + 1) for tp, place in original(self, partitions).items()}

    patch.setattr(Grouping, "_done", done)


MUTANTS = {
    "answer commits before replication": (answer_commits_before_replication, ("partition",), 6),
    "take commits of any generation": (take_commits_of_any_generation, ("isolate", "partition", "hold", "late"), 12),
    "give what others have": (give_what_others_have, ("isolate", "kill"), 6),
    "serve before everything is read": (serve_before_everything_is_read, ("kill",), 6),
    "begin at the beginning": (begin_at_the_beginning, ("kill",), 6),
    "commit what comes next": (commit_what_comes_next, ("kill",), 6),
    "never look at the clock": (keep_expired_members_out_of_the_log, ("kill", "isolate"), 6),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught_within_so_many_seeds(name):
    mutate, kinds, seeds = MUTANTS[name]
    catch(mutate, lambda seed: plan(seed, kinds), seeds)


def test_the_same_seed_gives_the_same_run():
    work = runs_alike(plan(3, ("kill",), 3.0)).work_besides
    assert work["commits"] > 0

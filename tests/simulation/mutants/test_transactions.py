"""Clients with transactions under faults, and mistakes in our own code that have to be found by them."""

from dataclasses import replace

import pytest
from kio.schema.errors import ErrorCode

from ottla.broker.answering import then
from ottla.broker.coordination.shard_log import ShardLog
from ottla.broker.replication.partition import Partition
from ottla.broker.transactions import decisions
from ottla.broker.transactions.records import Entry
from ottla.broker.transactions.shard import Shard
from ottla.broker.transactions.verifier import Verifier
from ottla.client.consumer.chunk import Chunk
from ottla.simulation.plan import Plan
from tests.simulation.mutants.catching import IMPATIENT, catch, runs_alike, thick


def plan(seed, kinds, seconds=10.0):
    faults = thick(f"transaction mutants/{seed}", kinds, seconds)
    return Plan(seed, 3, seconds, None, faults, 2.0, IMPATIENT, "transactions")


def show_what_is_not_stable(patch):
    """LSO = HW."""
    patch.setattr(Partition, "last_stable_offset", property(lambda self: self.high_watermark))


def show_what_was_aborted(patch):
    """The consumer does not look at what the answers name as aborted."""
    original = Chunk.__init__

    def init(self, *args, **options):
        original(self, *args, **options | {"aborted": ()})

    patch.setattr(Chunk, "__init__", init)


def end_in_any_epoch(patch):
    original = decisions.end

    def end(txn, producer, *rest):
        return original(txn, producer if txn is None else txn.producer, *rest)

    patch.setattr(decisions, "end", end)


def end_without_a_new_epoch(patch):
    def bumped(txn, commit, now_ms, _fresh):
        record = decisions._prepared(txn, commit, txn.producer, now_ms, version=decisions.VERSION_2)
        return decisions.Decision(record=record, producer=txn.producer)

    patch.setattr(decisions, "_bumped", bumped)


def append_whatever_the_coordinator_says(patch):
    """It is asked, and has the partition then, if it takes it; its refusal counts for nothing."""
    original = Verifier.ask

    def ask(self, *question, **options):
        return then(original(self, *question, **options), lambda _: ErrorCode.none)

    patch.setattr(Verifier, "ask", ask)


def answer_before_replication(patch):
    original = ShardLog.write

    def write(self, entries, done, *rest):
        if all(isinstance(entry, Entry) for entry in entries) and self.ready:
            done(ErrorCode.none)
            return original(self, entries, lambda _: None, *rest)
        return original(self, entries, done, *rest)

    patch.setattr(ShardLog, "write", write)


def fence_nobody(patch):
    original = decisions._next_epoch

    def next_epoch(txn, *rest):
        found = original(txn, *rest)
        if found.record is None:
            return found
        return replace(found, record=replace(found.record, producer=txn.producer), producer=txn.producer)

    patch.setattr(decisions, "_next_epoch", next_epoch)


def never_look_at_the_clock(patch):
    patch.setattr(Shard, "tick", lambda *_: None)


def serve_before_everything_is_read(patch):
    original = ShardLog.load

    async def load(self):
        replay, self._replay = self._replay, lambda *_: None
        await original(self)
        self._replay = replay

    patch.setattr(ShardLog, "load", load)


MUTANTS = {
    "show what is not stable": (show_what_is_not_stable, (), 1),
    "show what was aborted": (show_what_was_aborted, (), 1),
    "end in any epoch": (end_in_any_epoch, ("kill",), 8),
    "end without a new epoch": (end_without_a_new_epoch, (), 2),
    "append whatever the coordinator says": (append_whatever_the_coordinator_says, ("kill",), 4),
    "answer before replication": (answer_before_replication, ("kill", "isolate"), 12),
    "fence nobody": (fence_nobody, ("kill",), 8),
    "never look at the clock": (never_look_at_the_clock, (), 1),
    "serve before everything is read": (serve_before_everything_is_read, ("kill",), 2),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught_within_so_many_seeds(name):
    mutate, kinds, seeds = MUTANTS[name]
    catch(mutate, lambda seed: plan(seed, kinds), seeds)


def test_the_same_seed_gives_the_same_run():
    work = runs_alike(plan(3, ("kill",), 3.0)).work_besides
    assert work["committed"] > 0

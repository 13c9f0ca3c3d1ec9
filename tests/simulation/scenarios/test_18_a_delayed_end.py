"""Jepsen's bufstream 0.1.0, in Kafka itself: an EndTxn that is delayed ends the transaction after its own (KIP-890)."""

import pytest

from ottla.broker.transactions import VERSION_1, Decision, decisions
from ottla.client import FatalTransactionError
from ottla.simulation import CLIENTS
from tests.simulation.scenarios.stage import Broken, Stage, play
from tests.simulation.scenarios.transactions import SETTINGS, an_id, coordinator, producer, sees, send


async def a_commit_on_its_way_for_a_whole_transaction(stage: Stage, version: int = 2) -> None:
    """The producer has asked again, and was answered; it gives up its second transaction."""
    cluster = stage.cluster
    name = await an_id(stage)
    async with producer(stage, name, transaction_version=version, request_timeout_ms=1000) as one:
        await one.begin_transaction()
        await send(stage, one, b"kept")
        with cluster.hold("EndTxn", source=CLIENTS, target=coordinator(stage, name)) as held:
            await one.commit_transaction()
            await held.caught()
            await one.begin_transaction()
            await send(stage, one, b"given up")
        await cluster.advance(1)
        try:
            await one.abort_transaction()
        except FatalTransactionError as error:
            assert version == 1 or error.definite is False
    await sees(stage, b"kept")


async def by_the_first_version(stage: Stage) -> None:
    await a_commit_on_its_way_for_a_whole_transaction(stage, 1)


@pytest.mark.parametrize("seed", range(2))
def test_it_leaves_the_next_transaction_alone(seed: int):
    play(a_commit_on_its_way_for_a_whole_transaction, seed=seed, **SETTINGS)


def test_without_an_epoch_for_every_transaction_it_would_commit_what_was_given_up(monkeypatch: pytest.MonkeyPatch):
    def bumped(txn, commit, now_ms, _fresh):
        # Of a transaction of v2 the partitions would refuse such a marker, too.
        record = decisions._prepared(txn, commit, txn.producer, now_ms, version=VERSION_1)
        return Decision(record=record, producer=txn.producer)

    monkeypatch.setattr(decisions, "_bumped", bumped)
    with pytest.raises(Broken, match="given up"):
        play(a_commit_on_its_way_for_a_whole_transaction, watched=False, **SETTINGS)


def test_clients_of_the_first_version_are_not_protected():
    """There is nothing in it by which the two could be told apart; that is what the second version is for."""
    with pytest.raises(Broken, match="given up"):
        play(by_the_first_version, watched=False, **SETTINGS)

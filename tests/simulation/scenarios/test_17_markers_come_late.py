"""Redpanda #3232: a transaction marker that comes late, and ends the transaction after the one that it was for."""

import pytest

from ottla.log.producers import NEW, ProducerState
from tests.simulation.scenarios.stage import Broken, Stage, play
from tests.simulation.scenarios.transactions import SETTINGS, an_id, coordinator, producer, sees, send


async def an_abort_on_its_way_for_a_whole_transaction(stage: Stage) -> None:
    """The coordinator has sent it again, on another connection, and the producer is in its next transaction."""
    cluster = stage.cluster
    name = await an_id(stage)
    async with producer(stage, name) as one:
        await one.begin_transaction()
        await send(stage, one, b"given up")
        with cluster.hold("WriteTxnMarkers", source=coordinator(stage, name), target=stage.leader()) as held:
            await one.abort_transaction()
            await held.caught()
            await one.begin_transaction()
            await send(stage, one, b"kept")
        await cluster.advance(1)
        await one.commit_transaction()
    await sees(stage, b"kept")


@pytest.mark.parametrize("seed", range(2))
def test_it_leaves_the_next_transaction_alone(seed: int):
    play(an_abort_on_its_way_for_a_whole_transaction, seed=seed, **SETTINGS)


def take_every_marker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProducerState, "check_marker", lambda *_, **__: NEW)


def test_if_only_the_producer_id_counted_it_would_abort_it(monkeypatch: pytest.MonkeyPatch):
    take_every_marker(monkeypatch)
    with pytest.raises(Broken, match="kept"):
        play(an_abort_on_its_way_for_a_whole_transaction, watched=False, **SETTINGS)


async def of_a_coordinator_that_was_replaced(stage: Stage) -> None:
    """By the first version of transactions both have the same epoch; what tells them apart is the coordinator's."""
    cluster = stage.cluster
    name = await an_id(stage)
    async with producer(stage, name, transaction_version=1) as one:
        await one.begin_transaction()
        await send(stage, one, b"given up")
        old = coordinator(stage, name)
        with cluster.hold("WriteTxnMarkers", source=old, target=stage.leader()) as held:
            await one.abort_transaction()
            await held.caught()
            cluster.kill(old)
            await one.begin_transaction()
            await send(stage, one, b"kept")
        await cluster.advance(1)
        await one.commit_transaction()
    await sees(stage, b"kept")


@pytest.mark.parametrize("seed", range(2))
def test_an_older_coordinator_is_not_listened_to(seed: int):
    play(of_a_coordinator_that_was_replaced, seed=seed, **SETTINGS)


def test_if_it_were_it_would_end_what_the_new_one_has_begun(monkeypatch: pytest.MonkeyPatch):
    original = ProducerState.check_marker

    def check(self, producer_id, epoch, marker, *, strict=False):
        return original(self, producer_id, epoch, marker._replace(coordinator_epoch=1 << 30), strict=strict)

    monkeypatch.setattr(ProducerState, "check_marker", check)
    with pytest.raises(Broken, match="kept"):
        play(of_a_coordinator_that_was_replaced, watched=False, **SETTINGS)

"""A producer that stood still while another one was started under its transactional id, and goes on."""

import asyncio
from dataclasses import replace

import pytest

from ottla.broker.transactions import VERSION_1, Decision, decisions
from ottla.client import FatalTransactionError, KafkaError
from tests.simulation.scenarios.stage import Broken, Stage, play
from tests.simulation.scenarios.transactions import SETTINGS, an_id, producer, sees, send


async def it_wakes_up(stage: Stage, version: int = 2) -> None:
    """In the middle of its transaction, when the other one has committed one of its own and is in the next."""
    name = await an_id(stage)
    zombie = producer(stage, name, transaction_version=version)
    await zombie.start()
    async with zombie.transaction():
        await send(stage, zombie, b"before")
    await zombie.begin_transaction()
    await send(stage, zombie, b"given up")
    async with producer(stage, name, transaction_version=version) as one:
        async with one.transaction():
            await send(stage, one, b"kept")
        await one.begin_transaction()
        await send(stage, one, b"kept too")
        await _goes_on(stage, zombie)
        await one.commit_transaction()
    await zombie.stop()
    await sees(stage, b"before", b"kept", b"kept too")


async def _goes_on(stage: Stage, zombie: object) -> None:
    """Whatever it tries ends in an error that says that it is over."""
    with pytest.raises(KafkaError):
        await send(stage, zombie, b"of the dead")
    with pytest.raises(FatalTransactionError):
        try:
            await asyncio.wait_for(zombie.commit_transaction(), 30)
        except FatalTransactionError:
            raise
        except KafkaError:
            await asyncio.wait_for(zombie.abort_transaction(), 30)


async def by_the_first_version(stage: Stage) -> None:
    await it_wakes_up(stage, 1)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("story", [it_wakes_up, by_the_first_version])
def test_it_is_fenced_and_nothing_of_it_is_seen(story, seed: int):
    play(story, seed=seed, **SETTINGS)


def test_if_a_start_did_not_fence_both_would_go_on(monkeypatch: pytest.MonkeyPatch):
    """Whoever starts gets the epoch that there is."""
    next_epoch = decisions._next_epoch

    def same(txn, expected, timeout_ms, now_ms, fresh):
        decision = next_epoch(txn, expected, timeout_ms, now_ms, fresh)
        return Decision(record=replace(decision.record, producer=txn.producer), producer=txn.producer)

    def fence(txn, now_ms, _fresh, _version, *, resume):
        return Decision(record=decisions._prepared(txn, False, txn.producer, now_ms, version=VERSION_1))

    monkeypatch.setattr(decisions, "_next_epoch", same)
    monkeypatch.setattr(decisions, "_fence", fence)
    with pytest.raises((Broken, pytest.fail.Exception)):
        play(by_the_first_version, watched=False, **SETTINGS)

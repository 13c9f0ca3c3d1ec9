"""A producer that stood still while another one was started under its transactional id, and goes on."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from ottla.broker.transactions import VERSION_1, Decision, decisions
from ottla.client import (
    AbortableTransactionError,
    InvalidProducerEpochError,
    ProducerFenced,
    TopicPartition,
)
from tests.simulation.scenarios.stage import TOPIC, Broken, Stage, play
from tests.simulation.scenarios.transactions import SETTINGS, Application, an_id, committed, producer, sees, send

Try = Callable[[Stage, Any, int], Awaitable[None]]


async def it_wakes_up(stage: Stage, version: int, tries: Try) -> None:
    """In the middle of its transaction, when the other one has committed one of its own and is in the next."""
    name = await an_id(stage)
    application = Application(stage)
    zombie = producer(stage, name, transaction_version=version)
    await application.does(_until_the_middle(stage, zombie))
    application.pause()
    goes_on = application.does(tries(stage, zombie, version))
    async with producer(stage, name, transaction_version=version) as one:
        async with one.transaction():
            await send(stage, one, b"kept")
        await one.begin_transaction()
        await send(stage, one, b"kept too")
        assert not goes_on.done()
        application.resume()
        await asyncio.wait_for(goes_on, 60)
        await one.commit_transaction()
    await application.does(zombie.stop())
    await sees(stage, b"before", b"kept", b"kept too")


async def _until_the_middle(stage: Stage, zombie: Any) -> None:
    await zombie.start()
    async with zombie.transaction():
        await send(stage, zombie, b"before")
    await zombie.begin_transaction()
    await send(stage, zombie, b"given up")


async def to_write(stage: Stage, zombie: Any, _version: int) -> None:
    """The partition has seen the newer epoch. Only the coordinator knows what that means (KIP-588)."""
    with pytest.raises(InvalidProducerEpochError) as written:
        await send(stage, zombie, b"of the dead")
    assert written.value.code is ErrorCode.invalid_producer_epoch
    with pytest.raises(AbortableTransactionError) as refused:
        await zombie.commit_transaction()
    assert isinstance(refused.value.__cause__, InvalidProducerEpochError)
    await to_abort(stage, zombie, _version)


async def to_write_elsewhere(stage: Stage, zombie: Any, version: int) -> None:
    """The partition knows nothing of either, and its leader asks the coordinator; by v1 the producer does."""
    with pytest.raises(InvalidProducerEpochError if version > 1 else ProducerFenced):
        where = (stage.index + 1) % 5
        await zombie.send_and_wait(TOPIC, b"of the dead", partition=where)
    if version > 1:
        await to_abort(stage, zombie, version)
    else:
        await _is_over(zombie)


async def to_commit_offsets(stage: Stage, zombie: Any, version: int) -> None:
    with pytest.raises(ProducerFenced) as told:
        await zombie.send_offsets_to_transaction({TopicPartition(TOPIC, stage.index): 1}, "some group")
    assert told.value.code is (ErrorCode.invalid_producer_epoch if version > 1 else ErrorCode.producer_fenced)
    await _is_over(zombie)


async def to_commit(_stage: Stage, zombie: Any, _version: int) -> None:
    with pytest.raises(ProducerFenced) as told:
        await zombie.commit_transaction()
    assert told.value.code is ErrorCode.producer_fenced
    assert told.value.definite, "nobody has to wonder whether it was committed"
    await _is_over(zombie)


async def to_abort(_stage: Stage, zombie: Any, _version: int) -> None:
    with pytest.raises(ProducerFenced) as told:
        await zombie.abort_transaction()
    assert told.value.code is ErrorCode.producer_fenced
    await _is_over(zombie)


async def _is_over(zombie: Any) -> None:
    with pytest.raises(ProducerFenced):
        await zombie.begin_transaction()


async def it_stands_still_anywhere(stage: Stage, version: int) -> None:
    """Between any two steps of one transaction after another. Of a commit that had left nobody knows before."""
    name = await an_id(stage)
    application = Application(stage)
    zombie = producer(stage, name, transaction_version=version)
    await application.does(zombie.start())
    begun: list[bytes] = []
    done: list[bytes] = []
    works = application.does(_work(stage, zombie, begun, done))
    await stage.cluster.advance(stage.cluster.world.rng("stands still").uniform(0.1, 0.3))
    application.pause()
    async with producer(stage, name, transaction_version=version) as one, one.transaction():
        await send(stage, one, b"kept")
    application.resume()
    with pytest.raises(ProducerFenced) as told:
        await asyncio.wait_for(works, 60)
    await application.does(zombie.stop())
    assert done, "it stood still before anything was done"
    seen = await committed(stage)
    seen.remove(b"kept")
    if seen != done and (told.value.definite or seen != begun):
        raise Broken(f"done: {done}; begun: {begun}; seen: {seen}")


async def _work(stage: Stage, zombie: Any, begun: list[bytes], done: list[bytes]) -> None:
    for number in range(10_000):
        async with zombie.transaction():
            begun.append(b"%d" % number)
            await send(stage, zombie, begun[-1])
        done.append(begun[-1])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("version", [1, 2])
def test_wherever_it_stood_it_is_fenced_and_knows_what_was_done(version: int, seed: int):
    play(lambda stage: it_stands_still_anywhere(stage, version), seed=seed, **SETTINGS)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("tries", [to_write, to_write_elsewhere, to_commit_offsets, to_commit, to_abort])
def test_it_is_told_so_and_nothing_of_it_is_seen(tries: Try, version: int):
    play(lambda stage: it_wakes_up(stage, version, tries), **SETTINGS)


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
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        play(lambda stage: it_wakes_up(stage, 1, to_commit), watched=False, **SETTINGS)

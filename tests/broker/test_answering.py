"""Answers made of several that come later, and questions to a log that share a mark."""

import asyncio

import pytest
from kio.schema.errors import ErrorCode

from ottla.broker.answering import together
from ottla.broker.coordination import Confirmations
from ottla.broker.coordination.confirmations import MAX_ASKING


async def futures(count: int) -> list[asyncio.Future[int]]:
    return [asyncio.get_running_loop().create_future() for _ in range(count)]


async def test_results_come_in_order_and_after_the_last():
    one, two = parts = await futures(2)
    answer = together(parts)
    two.set_result(2)
    await asyncio.sleep(0)
    assert not answer.done()
    one.set_result(1)
    assert await answer == [1, 2]


async def test_who_gives_up_gives_up_all_parts():
    parts = await futures(2)
    answer = together(parts)
    parts[0].set_result(1)
    answer.cancel()
    await asyncio.sleep(0)
    assert parts[1].cancelled()


async def test_the_first_failure_is_the_answer():
    one, two = parts = await futures(2)
    answer = together(parts)
    one.set_exception(ValueError("no"))
    two.set_exception(ValueError("neither"))
    with pytest.raises(ValueError, match="no"):
        await answer


class Log:
    def __init__(self, *, alone: bool = False) -> None:
        self.alone = alone
        self.marks = []

    def mark(self, done) -> None:
        self.marks.append(done)


async def test_who_asks_while_a_mark_is_under_way_waits_for_the_next():
    log = Log()
    confirmations = Confirmations(log)
    first, second, third = (confirmations.ask() for _ in range(3))
    assert len(log.marks) == 1
    log.marks.pop()(ErrorCode.none)
    assert first.result() and not second.done() and not third.done()
    third.cancel()
    log.marks.pop()(ErrorCode.coordinator_not_available)
    assert second.result() is False
    fourth = confirmations.ask()
    assert len(log.marks) == 1
    log.marks.pop()(ErrorCode.none)
    assert fourth.result()


async def test_a_sole_replica_needs_no_mark():
    log = Log(alone=True)
    assert Confirmations(log).ask().result()
    assert not log.marks


async def test_no_more_may_ask_than_a_bound():
    confirmations = Confirmations(Log())
    asked = [confirmations.ask() for _ in range(MAX_ASKING + 2)]
    assert [each.done() for each in asked[-2:]] == [False, True]
    assert asked[-1].result() is False

"""What requests take of this process's time, for who charges clients for it. Nothing here runs without a `Meter`."""

import asyncio
import datetime
import types
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

from ottla.wire.api import Answer, Later, Request


@dataclass(frozen=True, slots=True)
class Meter:
    """`charge` is told of seconds that a request took, and returns the ms that its client has to wait for that;
    `timer` is a clock in seconds, of which only differences count."""

    charge: Callable[[Request, float], int]
    timer: Callable[[], float]


class Bill:
    """The time that one request takes, from its parsing to its encoded answer. The clock stands from `pause` to
    `go_on`: while the request waits for something, others are served."""

    __slots__ = ("_meter", "_since", "_spent")

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._spent = 0.0
        self._since: float | None = meter.timer()

    def pause(self) -> None:
        if self._since is not None:
            self._spent += self._meter.timer() - self._since
            self._since = None

    def go_on(self) -> None:
        if self._since is None:
            self._since = self._meter.timer()

    def charge(self, request: Request) -> int:
        """Charge what was spent and not charged before; the ms that the client has to wait. The clock goes on."""
        self.pause()
        spent, self._spent = self._spent, 0.0
        self.go_on()
        return self._meter.charge(request, spent)

    def takes_up(self, answer: Answer | Awaitable[Answer] | Later) -> Answer | Awaitable[Answer] | Later:
        """What a handler has returned; if that is not the answer yet, the clock stands until there is more to do."""
        if isinstance(answer, Later) or asyncio.isfuture(answer):
            self.pause()
        elif asyncio.iscoroutine(answer):
            self.pause()
            return _timed(answer, self)
        return answer

    def told(self, answer: Answer, request: Request) -> Answer:
        """Charge, and tell the wait if the answer has a place for it. What is encoded already has told it itself."""
        wait_ms = self.charge(request)
        if wait_ms and isinstance(answer, Mapping):
            return {**answer, "throttle_time": datetime.timedelta(milliseconds=wait_ms)}
        return answer

    def close(self, request: Request) -> None:
        """Charge the rest, of which the answer cannot tell any more."""
        self.charge(request)
        self.pause()


def on_the_bill(request: Request, step: Callable[[], None]) -> Callable[[], None]:
    """The same step, of a request that has waited for it: it is on the bill, and what is waited for after it is not."""
    bill = request.bill
    if bill is None:
        return step

    def going() -> None:
        bill.go_on()
        try:
            step()
        finally:
            bill.pause()

    return going


async def _timed(answering: Awaitable[Answer], bill: Bill) -> Answer:
    return await _steps(answering.__await__(), bill)


@types.coroutine
def _steps(steps: Generator[Any, Any, Answer], bill: Bill) -> Generator[Any, Any, Answer]:
    """The steps of a coroutine with the clock going, and what it waits for between them with the clock standing."""
    step: Callable[[], Any] = steps.__next__
    while True:
        bill.go_on()
        try:
            awaited = step()
        except StopIteration as end:
            answer: Answer = end.value
            return answer
        finally:
            bill.pause()
        try:
            yield awaited
        except BaseException as error:  # noqa: BLE001  whatever it is, it is for who waits there
            step = _throwing(steps, error)
        else:
            step = steps.__next__


def _throwing(steps: Generator[Any, Any, Answer], error: BaseException) -> Callable[[], Any]:
    return lambda: steps.throw(error)

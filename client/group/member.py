"""The shell of a group's member: carries out what the machine asks for, and tells it what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, Protocol

from ottla.client.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError
from ottla.client.group.model import (
    Action,
    Answered,
    Done,
    Event,
    Fail,
    GiveUp,
    Identity,
    Machine,
    Note,
    Phase,
    Polled,
    Refused,
    Rejoin,
    Send,
    Subscribe,
    TakeOver,
    Tick,
    Unreachable,
)
from ottla.client.group.protocol import Partitions
from ottla.client.logs import get_logger

log = get_logger(__name__)

_CALLBACK: Final = "callback"
_FLOW: Final = frozenset({"join", "sync", "leave"})
"""Kinds of which one replaces the other."""


LEAVE_WITHIN: Final = 5.0
"""Seconds for which a member that leaves looks for a coordinator to tell it to."""


def _settled(event: Answered | Unreachable | Refused) -> bool:
    return isinstance(event, Refused) or (isinstance(event, Answered) and not event.code.retriable)


class Wire(Protocol):
    """How a protocol's requests are sent."""

    async def ask(self, send: Send) -> Answered: ...
    def outdated(self) -> bool: ...


class Host(Protocol):
    """Who reads the partitions."""

    async def give_up(self, partitions: Partitions, lost: bool) -> None: ...
    async def take_over(self, owned: Partitions, added: Partitions) -> None: ...
    def failed(self, error: KafkaError) -> None: ...
    def crashed(self, error: BaseException) -> None: ...


class GroupMember:
    """One member of one group, from the first `subscribe` until `stop`."""

    def __init__(
        self, group_id: str, machine: Machine, wire: Wire, host: Host, backoff: Callable[[int], float]
    ) -> None:
        self._group_id = group_id
        self._machine = machine
        self._wire = wire
        self._host = host
        self._backoff = backoff
        self._busy_since: float | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._stopped = False

    @property
    def identity(self) -> Identity:
        return self._machine.identity

    @property
    def phase(self) -> Phase:
        return self._machine.phase

    def subscribe(self, topics: frozenset[str], regex: str = "") -> None:
        """Be a member with these topics, and those that the coordinator finds by an expression; with none, leave."""
        self.tell(Subscribe(topics, regex))

    def waiting(self) -> None:
        """The program waits for records."""
        self._busy_since = None
        if self._machine.waits_for_poll:
            self.tell(Polled())

    def polled(self) -> None:
        """The program has taken records, or asked for some."""
        if self._machine.waits_for_poll:
            self.tell(Polled())
        self._busy_since = asyncio.get_running_loop().time()

    def look_at_metadata(self) -> None:
        """Ask for another assignment if the one that was made here does not fit the cluster any more."""
        if self._machine.phase is Phase.STABLE and self._wire.outdated():
            self.tell(Rejoin("the partitions of a topic have changed"))

    async def settled(self, timeout: float) -> None:
        """Until the member is stable, has failed, or so many seconds are over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while self.phase not in (Phase.STABLE, Phase.FAILED, Phase.IDLE) and loop.time() < deadline:
            await self._change(deadline - loop.time())

    async def stop(self, timeout: float) -> None:
        """Give everything up and leave, within so many seconds; after that just be gone."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        if not self._stopped:
            self.tell(Subscribe(frozenset()))
        while self.phase is not Phase.OUT and loop.time() < deadline and not self._stopped:
            await self._change(deadline - loop.time())
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _change(self, timeout: float) -> None:
        self._changed.clear()
        waiter = asyncio.get_running_loop().create_task(self._changed.wait())
        try:
            await asyncio.wait([waiter], timeout=timeout)
        finally:
            waiter.cancel()

    def tell(self, event: Event) -> None:
        """Hand the event to the machine and do what it asks for."""
        if self._stopped:
            return
        loop = asyncio.get_running_loop()
        before = self._machine.phase
        effects = self._machine.step(event, loop.time())
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if effects.wake_at is None else loop.call_at(effects.wake_at, self._tick)
        for action in effects.actions:
            self._carry_out(action)
        if self._machine.phase is not before:
            self._changed.set()
            # What changed while the group was busy asked nobody for anything.
            self.look_at_metadata()

    def _tick(self) -> None:
        self._timer = None
        self.tell(Tick(self._busy_since))

    def _carry_out(self, action: Action) -> None:
        match action:
            case Send():
                self._replace(action.kind, self._ask(action))
            case GiveUp():
                log.info(
                    "partitions_lost" if action.lost else "partitions_given_up",
                    group=self._group_id,
                    generation=self.identity.generation,
                    partitions=len(action.partitions),
                )
                self._replace(_CALLBACK, self._called(partial(self._host.give_up, action.partitions, action.lost)))
            case TakeOver():
                log.info(
                    "partitions_taken_over",
                    group=self._group_id,
                    member=self.identity.member_id,
                    generation=self.identity.generation,
                    partitions=len(action.owned),
                    added=len(action.added),
                )
                self._replace(_CALLBACK, self._called(partial(self._host.take_over, action.owned, action.added)))
            case Fail():
                log.warning("group_member_failed", group=self._group_id, error=str(action.error))
                self._host.failed(action.error)
            case Note():
                log.info(action.event, group=self._group_id, member=self.identity.member_id, **action.facts)

    def _replace(self, kind: str, work: Coroutine[Any, Any, None]) -> None:
        for other in _FLOW if kind in _FLOW else (kind,):
            task = self._tasks.pop(other, None)
            # The one that is running now has handed in its answer, and ends by itself.
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        task = asyncio.get_running_loop().create_task(work, name=f"group {self._group_id}: {kind}")
        self._tasks[kind] = task
        task.add_done_callback(lambda done: self._finished(kind, done))

    def _finished(self, kind: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(kind) is task:
            del self._tasks[kind]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._host.crashed(error)

    async def _ask(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        event = await self._try(send)
        # Who just goes keeps its partitions from the others until its session is over, which can be long.
        until = loop.time() + LEAVE_WITHIN if send.kind == "leave" else loop.time()
        attempts = 0
        while not _settled(event) and loop.time() < until:
            attempts += 1
            await asyncio.sleep(self._backoff(attempts))
            event = await self._try(send)
        self.tell(event)

    async def _try(self, send: Send) -> Answered | Unreachable | Refused:
        try:
            return await self._wire.ask(send)
        except (KafkaConnectionError, KafkaTimeoutError):
            return Unreachable(send.kind)
        except KafkaError as error:
            return Refused(send.kind, error)

    async def _called(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await work()
        self.tell(Done())

"""The copier's processes from outside: started, killed, paused, and what they said until then."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tests.failover.copier.job import Job

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a transaction, as far as its copier could tell.

    Attributes:
        records: how many there are in it; None if the copier never came to the point of committing.
        outcome: "committed", "aborted", or "" if it did not learn that.
    """

    records: int | None = None
    outcome: str = ""


class Instance:
    """One process; `said` is what it told line by line, `errors` what it wrote besides, known at its end."""

    def __init__(self, library: str, job: Job) -> None:
        self.job = job
        self.said: list[dict[str, Any]] = []
        self.transactions: dict[str, Told] = {}
        self.errors = ""
        self._library = library
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    async def start(self) -> None:
        """Does not wait until it is ready."""
        told = {name: value for name, value in asdict(self.job).items() if name in Job.__match_args__}
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.failover.copier", self._library, json.dumps(told)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        self._listening = asyncio.create_task(self._listen(self._process), name=str(self))

    def __str__(self) -> str:
        return f"{self.job.name}.{self.job.instance}"

    @property
    def process(self) -> asyncio.subprocess.Process:
        assert self._process is not None
        return self._process

    @property
    def ended(self) -> bool:
        return self._listening is not None and self._listening.done()

    def signal(self, number: signal.Signals) -> None:
        """Nothing happens to one that has ended."""
        if self.process.returncode is None:
            self.process.send_signal(number)

    def go_on(self) -> None:
        """The line that one which holds waits for."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")

    async def until(self, what: Callable[[Instance], bool], within: float) -> None:
        """Wait for something that only a line, or the end, of this process can bring about. Raises TimeoutError."""
        async with asyncio.timeout(within):
            while not what(self):
                self._news.clear()
                await self._news.wait()

    async def end(self, within: float) -> int:
        """Wait for the end, and for all that was said before; the exit status. Raises TimeoutError."""
        async with asyncio.timeout(within):
            assert self._listening is not None
            await asyncio.shield(self._listening)
            return await self.process.wait()

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None and process.stderr is not None
        errors = asyncio.create_task(process.stderr.read())
        async for line in process.stdout:
            self._hear(json.loads(line))
        await process.wait()
        self.errors = (await errors).decode(errors="replace")
        self._news.set()

    def _hear(self, line: dict[str, Any]) -> None:
        self.said.append(line)
        key = f"{self}.{line['attempt']}"
        known = self.transactions.get(key, Told())
        match line["said"]:
            case "begun":
                self.transactions[key] = known
            case "committing":
                self.transactions[key] = replace(known, records=line["records"])
            case "committed" | "aborted" as outcome:
                self.transactions[key] = replace(known, outcome=outcome)
        self._news.set()


class Application:
    """All instances under one name, one after the other; who ends by itself is started again."""

    def __init__(self, library: str, first: Job) -> None:
        self._library = library
        self._first = first
        self.instances: list[Instance] = []
        self._keeper: asyncio.Task[None] | None = None

    @property
    def newest(self) -> Instance:
        return self.instances[-1]

    async def start(self, hold: str | None = None) -> Instance:
        """One more instance, whatever the others do."""
        job = replace(self._first, instance=len(self.instances) + 1, hold=hold)
        self.instances.append(Instance(self._library, job))
        await self.newest.start()
        return self.newest

    def keep(self) -> None:
        """From now on, whenever the newest instance has given up, start another one."""
        self._keeper = asyncio.create_task(self._keep(), name=f"keeper of {self._first.name}")

    async def _keep(self) -> None:
        while True:
            instance = self.newest
            await instance.process.wait()
            if instance is self.newest:
                await self.start()

    async def unattended(self) -> None:
        """Nobody is started any more."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None

    async def stop(self, within: float) -> None:
        """End the newest one in good order, and wait for the end of all. Raises TimeoutError."""
        await self.unattended()
        if self.instances:
            self.newest.signal(signal.SIGTERM)
        for instance in self.instances:
            await instance.end(within)

    async def destroy(self) -> None:
        """Whatever is left of it."""
        await self.unattended()
        for instance in self.instances:
            instance.signal(signal.SIGKILL)
            await instance.end(10.0)

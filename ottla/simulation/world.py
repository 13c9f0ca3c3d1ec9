"""A world from one seed: the loop, the network, the trace, and everybody's share of the randomness."""

from __future__ import annotations

import asyncio
import gc
import random
import warnings
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ottla.simulation.entropy import held_still
from ottla.simulation.errors import SimulationError
from ottla.simulation.loop import START, SimulatedLoop
from ottla.simulation.network import Network
from ottla.simulation.process import Machine
from ottla.simulation.trace import Trace

T = TypeVar("T")

# 2024-01-01T00:00:00Z: wall time when a simulation begins.
EPOCH_S = 1_704_067_200.0


class World:
    """Everything that one simulation consists of. `complaints` are errors that nobody handled, as text."""

    def __init__(self, seed: int | str) -> None:
        self.seed = seed
        self.home = Machine("home", "10.0.0.254")
        self.loop = SimulatedLoop(self.rng("loop"), self.home)
        self.trace = Trace(self.loop.time)
        self.network = self.loop.network = Network(self.loop, self.rng("network"), self.trace.carried)
        self.network.add(self.home)
        self.complaints: list[str] = []
        self.loop.set_exception_handler(self._complain)

    def rng(self, purpose: str) -> random.Random:
        """Randomness for one purpose: drawing more of it here changes nothing elsewhere."""
        return random.Random(f"{self.seed}/{purpose}")

    def wall_clock_ms(self) -> int:
        return int((EPOCH_S + self.loop.time() - START) * 1000)

    def _complain(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if self.loop.current.dead:
            return  # the power went in the middle of a callback
        self.complaints.append(f"{context.get('message')}: {context.get('exception')!r}")

    def run(self, scenario: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a scenario to its end. Use a world once."""
        _WORLDS[id(self.loop)] = self
        collecting = gc.isenabled()
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            with (
                held_still(
                    self.rng("entropy"), monotonic=self.loop.time, wall=lambda: EPOCH_S + self.loop.time() - START
                ),
                self.trace.logging(),
            ):
                try:
                    return self.loop.run_until_complete(scenario())
                finally:
                    self._end()
        finally:
            del _WORLDS[id(self.loop)]
            gc.unfreeze()
            if collecting:
                gc.enable()

    def _end(self) -> None:
        for process in self.loop.processes:
            self.loop.kill(process)
        self.loop.set_exception_handler(lambda _loop, _context: None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for process in self.loop.processes:
                process.bury()
            gc.collect()
        self.loop.close()


_WORLDS: dict[int, World] = {}


def current_world() -> World:
    """The world that the running loop belongs to. Raises SimulationError outside of a simulation."""
    world = _WORLDS.get(id(asyncio.get_running_loop()))
    if world is None:
        raise SimulationError("this is not running in a simulation")
    return world


def run(scenario: Callable[[], Coroutine[Any, Any, T]], seed: int | str) -> T:
    """Run a coroutine function in a new world made from `seed`, and return its result."""
    return World(seed).run(scenario)

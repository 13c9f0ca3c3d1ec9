"""A world from one seed: the loop, the network, the trace, and everybody's share of the randomness."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
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
        self._others = 0  # shares given to others, who may have drawn from them
        self._own = {purpose: self.rng(purpose) for purpose in ("loop", "network", "entropy")}
        self._others = 0
        self._untouched: tuple[object, ...] = ()
        self.home = Machine("home", "10.0.0.254")
        self.loop = SimulatedLoop(self._own["loop"], self.home)
        self.trace = Trace(self.loop.time)
        self.network = self.loop.network = Network(self.loop, self._own["network"], self.trace.carried)
        self.network.add(self.home)
        self.complaints: list[str] = []
        self.loop.set_exception_handler(self._complain)

    def rng(self, purpose: str) -> random.Random:
        """Randomness for one purpose: drawing more of it here changes nothing elsewhere."""
        self._others += 1
        return random.Random(f"{self.seed}/{purpose}")

    def reseed(self, seed: int | str) -> None:
        """Be a world of another seed, from here on and as if from the beginning.

        Raises SimulationError when something was drawn already, because then it could not be.
        """
        if seed == self.seed:
            return
        if self._others or self._states() != self._untouched:
            raise SimulationError(
                f"the seed cannot become {seed}: something was already drawn from seed {self.seed}. Give the seed to "
                "run() or to the marker, or make the cluster before anything that uses randomness or the network"
            )
        self.seed = seed
        for purpose, rng in self._own.items():
            rng.seed(f"{seed}/{purpose}")
        random.seed(self._own["entropy"].getrandbits(128))
        self._untouched = self._states()

    def _states(self) -> tuple[object, ...]:
        # The loop draws at every turn, which says nothing as long as there is nobody else whose turn it could be.
        return random.getstate(), self._own["network"].getstate(), self._own["entropy"].getstate()

    def wall_clock_ms(self) -> int:
        return int((EPOCH_S + self.loop._now - START) * 1000)

    def _complain(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if self.loop.current.dead:
            return  # the power went in the middle of a callback
        self.complaints.append(f"{context.get('message')}: {context.get('exception')!r}")

    def run(self, scenario: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a scenario to its end. Use a world once."""
        _WORLDS[id(self.loop)] = self
        collecting = gc.isenabled()
        _freeze()
        gc.disable()
        try:
            with (
                held_still(
                    self._own["entropy"], monotonic=self.loop.time, wall=lambda: EPOCH_S + self.loop.time() - START
                ),
                self.trace.logging(),
            ):
                self._untouched = self._states()
                try:
                    return self.loop.run_until_complete(scenario())
                finally:
                    self._end()
        finally:
            del _WORLDS[id(self.loop)]
            # What was there before stays frozen: collecting is quicker for the next world then, and it is not garbage.
            if collecting:
                gc.enable()

    def _end(self) -> None:
        for process in self.loop.processes:
            if not process.dead:
                process.tidy()
            self.loop.kill(process)
        self.loop.set_exception_handler(lambda _loop, _context: None)
        # Whatever code trips over whose world is gone is expected.
        told, sys.unraisablehook = sys.unraisablehook, lambda _: None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for process in self.loop.processes:
                    process.bury()
                gc.collect()
        finally:
            sys.unraisablehook = told
        self.loop.close()


def _freeze() -> None:
    """Set aside what is there, so that collecting while a world lives is quick.

    That also holds what is reachable from a world that is over, for the world itself was there before it ran: so once
    there is twice as much as was in use, all of it is looked through.
    """
    global _in_use
    gc.collect()
    gc.freeze()
    if gc.get_freeze_count() > 2 * _in_use:
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        _in_use = gc.get_freeze_count()


_in_use = 0
_WORLDS: dict[int, World] = {}


_REAL_LOOP = """a simulated cluster needs a simulated event loop, and {found}. In a test of pytest, write

    @pytest.mark.simulation
    async def test_something(simulated_cluster): ...

without a mark of asyncio or anyio; elsewhere ottla.simulation.run(scenario, seed=7), where `scenario` is your coroutine
function."""


def current_world() -> World:
    """The world that the running loop belongs to. Raises SimulationError outside of a simulation."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise SimulationError(_REAL_LOOP.format(found="no event loop is running here")) from None
    world = _WORLDS.get(id(loop))
    if world is None:
        raise SimulationError(_REAL_LOOP.format(found="this is a real one"))
    return world


def run(scenario: Callable[[], Coroutine[Any, Any, T]], seed: int | str) -> T:
    """Run a coroutine function in a new world made from `seed`, and return its result."""
    return World(seed).run(scenario)

"""Holds still what third parties reach for behind the back of the event loop: clocks and the system's randomness.

Our own packages take time and randomness through their seams. This is for what they use: aiohttp writes the date into
answers and shuffles with the random module, asyncio clients read time.monotonic.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

from ottla.simulation.foreign import outside_state


@contextlib.contextmanager
def held_still(rng: random.Random, *, monotonic: Callable[[], float], wall: Callable[[], float]) -> Iterator[None]:
    """Within this, `time`, `os.urandom` and the module functions of `random` follow the simulation. Seconds."""
    replacements: list[tuple[Any, str, Any]] = [
        (time, "time", wall),
        (time, "time_ns", lambda: round(wall() * 1e9)),
        (time, "monotonic", monotonic),
        (time, "monotonic_ns", lambda: round(monotonic() * 1e9)),
        (time, "perf_counter", monotonic),
        (time, "perf_counter_ns", lambda: round(monotonic() * 1e9)),
        (os, "urandom", rng.randbytes),
        (random, "_urandom", rng.randbytes),
        *outside_state(wall),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in replacements]
    state = random.getstate()
    random.seed(rng.getrandbits(128))
    for module, name, replacement in replacements:
        setattr(module, name, replacement)
    try:
        yield
    finally:
        for module, name, original in before:
            setattr(module, name, original)
        random.setstate(state)

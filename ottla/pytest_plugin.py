"""For pytest: tests that run in a simulated cluster, in virtual time. Pytest loads it wherever Ottla is installed.

An `async def` test runs in a simulation when it asks for the fixture `simulated_cluster`, or is marked with

    @pytest.mark.simulation(seeds=range(20), nodes=3, settings={...}, limit=120.0)

of which everything may be left out: `seeds` (an iterable, or how many) runs the test once for each, the rest is for
`simulated_cluster`, and `limit` is the number of virtual seconds after which the test has failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import os
import traceback
import types
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

# What costs time to import is imported by tests that are simulated: pytest loads this file for everybody.
if TYPE_CHECKING:
    from ottla.simulation import SimulatedCluster, World

_MARK, _SEED, _CLUSTER, _OPTION = "simulation", "simulation_seed", "simulated_cluster", "--simulation-seed"
_WORLD = pytest.StashKey["World"]()
_LIMIT_S = 120.0
# What a test that is over its limit is given to clean up, as long as a client waits for an answer.
_CLEANUP_S = 60.0
_LAST_EVENTS = 40


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("ottla", "Ottla's simulated cluster")
    group.addoption(_OPTION, metavar="N", help="run every simulated test with this seed only")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "simulation(seeds=1, nodes=3, settings={}, limit=120.0): run this coroutine in a simulation, once per seed",
    )


# -- what is collected


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_pycollect_makeitem() -> Generator[None, Any, Any]:
    """Make simulated tests plain functions, before any plugin for asynchronous tests sees that they are coroutines."""
    made = yield
    for item in made if isinstance(made, list) else [made]:
        if isinstance(item, pytest.Function) and _is_simulated(item, item.fixturenames):
            item.obj = _as_function(item, item.obj)
    return made


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if not _is_simulated(metafunc.definition, metafunc.fixturenames):
        return
    seeds = _seeds(metafunc.config, _option(metafunc.definition, "seeds", None))
    if seeds is not None:
        if _SEED not in metafunc.fixturenames:
            metafunc.fixturenames.append(_SEED)
        metafunc.parametrize(_SEED, seeds, indirect=True, ids=[f"seed={seed}" for seed in seeds])


def _is_simulated(item: pytest.Function, fixtures: Iterable[str]) -> bool:
    wanted = _CLUSTER in fixtures or item.get_closest_marker(_MARK) is not None
    return wanted and inspect.iscoroutinefunction(item.obj)


def _seeds(config: pytest.Config, marked: int | Iterable[int | str] | None) -> Sequence[int | str] | None:
    only: str | None = config.getoption(_OPTION)
    if only is not None:
        return [int(only) if only.isdecimal() else only]
    if marked is None:
        return None
    return range(marked) if isinstance(marked, int) else list(marked)


def _option(item: pytest.Item, name: str, default: Any) -> Any:
    """The nearest marker that says something about it counts: a test's before its class's and its module's."""
    for marker in item.iter_markers(_MARK):
        if name in marker.kwargs:
            return marker.kwargs[name]
    return default


# -- how it runs


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A world is used once; whoever runs a test again needs another."""
    if _WORLD in item.stash:
        del item.stash[_WORLD]


def _world(item: pytest.Item) -> World:
    if _WORLD not in item.stash:
        from ottla.simulation import World

        callspec = getattr(item, "callspec", None)
        item.stash[_WORLD] = World(0 if callspec is None else callspec.params.get(_SEED, 0))
    return item.stash[_WORLD]


def _as_function(item: pytest.Function, test: Callable[..., Any]) -> Callable[..., None]:
    @functools.wraps(test)
    def simulated(**fixtures: Any) -> None:
        world = _world(item)
        limit = float(_option(item, "limit", _LIMIT_S))
        world.run(lambda: _within(limit, test, fixtures))
        if world.complaints:
            warnings.warn(pytest.PytestWarning(f"nobody handled: {'; '.join(world.complaints[:5])}"), stacklevel=2)

    return simulated


async def _within(limit: float, test: Callable[..., Any], fixtures: dict[str, Any]) -> None:
    cluster = fixtures.get(_CLUSTER)
    async with contextlib.nullcontext() if cluster is None else cluster:
        running = asyncio.ensure_future(test(**fixtures))
        await asyncio.wait((running,), timeout=limit)
        if running.done():
            await running
            return
        stack = "".join(traceback.format_list([line for frame in running.get_stack() for line in _where(frame)]))
        running.cancel()
        await asyncio.wait((running,), timeout=_CLEANUP_S)
        pytest.fail(f"the test did not end within {limit:g} virtual seconds; it was here:\n{stack}", pytrace=False)


def _where(frame: types.FrameType) -> traceback.StackSummary:
    return traceback.StackSummary.extract([(frame, frame.f_lineno)])


@pytest.fixture
def simulation_seed(request: pytest.FixtureRequest) -> int | str:
    """The seed that this run of the test is made from."""
    seed: int | str = getattr(request, "param", 0)
    return seed


@pytest.fixture
def simulated_cluster(request: pytest.FixtureRequest) -> SimulatedCluster:
    """A cluster that is up when the test begins; the marker says of how many nodes, with which settings and seeds."""
    from ottla.simulation import SimulatedCluster

    item = request.node
    if not inspect.iscoroutinefunction(inspect.unwrap(item.obj)):
        raise pytest.UsageError(f"{item.nodeid}: only an `async def` test can use {_CLUSTER}")
    return SimulatedCluster(
        nodes=_option(item, "nodes", 3), settings=_option(item, "settings", None), world=_world(item)
    )


# -- what a failure says


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    world = item.stash.get(_WORLD, None)
    if report.failed and world is not None:
        hashing = os.environ.get("PYTHONHASHSEED", "random")
        replay = f"pytest {_OPTION} {world.seed} '{item.nodeid.partition('[')[0]}'"
        lines = [f"seed {world.seed}; again with: {replay}", f"PYTHONHASHSEED was {hashing}"]
        lines += [f"nobody handled: {complaint}" for complaint in world.complaints[:5]]
        lines += ["the last events, by virtual time in seconds:"]
        lines += map(str, list(world.trace.happenings)[-_LAST_EVENTS:])
        report.sections.append(("Simulation", "\n".join(lines)))
    return report

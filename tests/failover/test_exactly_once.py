"""Consume, transform, produce: nodes and the application itself are killed and frozen, and every input counts once.

EXACTLY_ONCE_SEEDS=1-20 runs the schedules of these seeds, not only that of one; a test's name ends with its seed.
"""

from __future__ import annotations

import asyncio
import os
import signal
from itertools import product

import pytest

from tests.failover.application import Instance
from tests.failover.cluster import Cluster
from tests.failover.copier.__main__ import FENCED_STATUS
from tests.failover.copier.job import HOLDS
from tests.failover.exactly_once import LIBRARIES, PATIENCE_S, SETTINGS, Scene, schedule

pytestmark = pytest.mark.asyncio(loop_scope="module")

MORE_SETTINGS = SETTINGS
STEPS = 3
# In that one's three steps both coordinators and copiers are struck, and a copier is frozen.
FIRST_SEED, _, LAST_SEED = os.environ.get("EXACTLY_ONCE_SEEDS", "247").partition("-")
SEEDS = range(int(FIRST_SEED), int(LAST_SEED or FIRST_SEED) + 1)


def tell(scene: Scene) -> None:
    """For a failure's report."""
    for instance in scene.instances():
        lines = [*instance.said[-12:], *instance.errors.splitlines()[-30:]]
        print(f"{instance}, {instance.process.returncode}:", *lines, sep="\n    ")  # noqa: T201


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("library", LIBRARIES)
async def test_whoever_dies_every_input_counts_once(cluster: Cluster, library: str, seed: int) -> None:
    scene = Scene(cluster, f"storm-{library}-{seed}", library, seed)
    plan = schedule(seed, scene.names, STEPS)
    print(*plan, sep="\n")  # noqa: T201  shown with a failure
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with scene.open():
            for application in scene.applications.values():
                await application.start()
                application.keep()
            await scene.goes_on()
            for step in plan:
                await scene.strike(step)
                whole = loop.time()
                await scene.goes_on()
                print(f"{whole - began:.1f} s: everybody is back; {loop.time() - whole:.1f} s later copies come")  # noqa: T201
            await scene.settle()
            print(await scene.check(), f"in {loop.time() - began:.0f} s")  # noqa: T201
    finally:
        tell(scene)


@pytest.mark.parametrize(("library", "where"), [*product(LIBRARIES[:1], HOLDS), *product(LIBRARIES[1:], HOLDS[-1:])])
async def test_an_instance_that_wakes_up_is_fenced(cluster: Cluster, library: str, where: str) -> None:
    """It was in the middle of a transaction; its successor has settled that and gone on."""
    scene = Scene(cluster, f"zombie-{library}-{where.split()[-1]}", library)
    application = scene.applications[scene.names[0]]
    try:
        async with scene.open():
            old = await application.start(hold=where)
            await old.until(holding, PATIENCE_S)
            old.signal(signal.SIGSTOP)
            author = f"{old}.2"
            new = await application.start()
            await new.until(lambda instance: committed(instance) >= 2, PATIENCE_S)
            before = scene.on_disk(author)
            old.go_on()
            old.signal(signal.SIGCONT)
            assert await old.end(PATIENCE_S) == FENCED_STATUS, old.said
            last = [line["said"] for line in old.said if line["attempt"] == 2]
            assert last in (["begun", "holding", "going on", *more, "fenced"] for more in ([], ["committing"]))
            assert scene.on_disk(author) == before, "it has written after it was fenced"
            await scene.goes_on()
            await scene.settle()
            assert old.transactions[author].outcome != "committed"
            assert not any(value.endswith(author.encode()) for value in scene.copies.seen)
            print(await scene.check())  # noqa: T201
    finally:
        tell(scene)


def holding(instance: Instance) -> bool:
    return any(line["said"] == "holding" for line in instance.said)


def committed(instance: Instance) -> int:
    return sum(each.outcome == "committed" for each in instance.transactions.values())

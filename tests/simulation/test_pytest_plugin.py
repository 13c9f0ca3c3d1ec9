"""What a user sees of the plugin: each test here runs pytest on a file of theirs, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

PASSING = """
import asyncio
import time

import pytest
from ottla.simulation import SimulatedCluster, SimulationError, leader_of

def now():
    return asyncio.get_running_loop().time()

@pytest.mark.simulation(seeds=range(2))
async def test_with_seeds(simulated_cluster, simulation_seed):
    assert simulated_cluster.world.seed == simulation_seed
    began, clock = now(), time.monotonic()
    await asyncio.sleep(3600 * 24 * 0.001)
    assert now() - began == pytest.approx(time.monotonic() - clock) and now() - began > 86

@pytest.mark.simulation
async def test_a_cluster_with_a_seed_of_its_own():
    async with SimulatedCluster(seed=7) as cluster:
        await cluster.create_topic("orders")
        async with cluster.producer() as producer:
            await producer.send_and_wait("orders", b"before")
            cluster.kill(leader_of("orders", 0))
            await producer.send_and_wait("orders", b"after")
        assert cluster.world.seed == 7
        with pytest.raises(SimulationError, match="already drawn from seed 7"):
            SimulatedCluster(seed=8)

@pytest.mark.simulation(nodes=1, settings={"num.partitions": "3"})
class TestOfAClass:
    async def test_a_method(self, simulated_cluster, tmp_path):
        assert isinstance(self, TestOfAClass) and list(simulated_cluster.nodes) == [1]

    @pytest.mark.parametrize("letter", "ab")
    @pytest.mark.simulation(seeds=["x"])
    async def test_the_nearest_marker_counts(self, simulated_cluster, letter, simulation_seed):
        assert simulation_seed == "x" and list(simulated_cluster.nodes) == [1]

    def test_a_plain_function_is_left_alone(self):
        with pytest.raises(SimulationError, match="no event loop is running"):
            SimulatedCluster()

async def test_the_fixture_is_enough(simulated_cluster):
    await simulated_cluster.advance(1)

@pytest.mark.asyncio
async def test_a_real_loop_is_told_what_to_write():
    with pytest.raises(SimulationError, match="@pytest.mark.simulation"):
        SimulatedCluster(seed=1)
"""

FAILING = """
import asyncio
import pytest

@pytest.mark.simulation(seeds=[3, 4], nodes=1)
async def test_loses(simulated_cluster, simulation_seed):
    simulated_cluster.kill(1)
    assert simulation_seed == 3

@pytest.mark.simulation(limit=5, nodes=1)
async def test_waits(simulated_cluster):
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.Event().wait()

async def orphan():
    raise ValueError("lost")

@pytest.mark.simulation(nodes=1)
async def test_forgets_a_task(simulated_cluster):
    asyncio.ensure_future(orphan())
    await simulated_cluster.advance(60)

def test_is_not_asynchronous(simulated_cluster):
    pass
"""


def pytest_on(folder: Path, code: str, *options: str) -> str:
    """What pytest says of a file with such code; nothing of our own configuration applies."""
    (folder / "test_theirs.py").write_text(code)
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "--strict-markers", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_simulated_tests_live_beside_those_of_pytest_asyncio(tmp_path, mode):
    said = pytest_on(tmp_path, PASSING, "-o", f"asyncio_mode={mode}")
    assert "9 passed" in said, said
    for name in ("test_with_seeds[seed=0]", "test_with_seeds[seed=1]", "test_the_nearest_marker_counts[seed=x-a]"):
        assert f"PASSED test_theirs.py::{name}" in said.replace("TestOfAClass::", ""), said


def test_a_failure_says_its_seed_and_what_happened(tmp_path):
    said = pytest_on(tmp_path, FAILING, "-W", "always")
    assert "3 failed" not in said and "2 failed, 2 passed" in said and "1 error" in said, said
    assert "seed 4; again with: pytest --simulation-seed 4 'test_theirs.py::test_loses'" in said
    assert "node_ready node=1" in said and "simulation kill node=1" in said
    assert "seed 3; again" not in said
    assert "did not end within 5 virtual seconds; it was here" in said and "await asyncio.Event().wait()" in said
    assert "nobody handled: Task exception was never retrieved: ValueError('lost')" in said
    assert "only an `async def` test can use simulated_cluster" in said


def test_one_seed_is_replayed(tmp_path):
    said = pytest_on(tmp_path, FAILING, "--simulation-seed", "4", "-k", "loses")
    assert "1 failed" in said and "test_loses[seed=4]" in said and "passed" not in said, said


def test_whoever_has_no_simulated_tests_pays_nothing():
    code = "import sys, ottla.pytest_plugin; print([name for name in sys.modules if name.startswith('ottla.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "['ottla.pytest_plugin']"

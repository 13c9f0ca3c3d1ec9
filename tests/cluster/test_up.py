"""``ottla up`` and its companions, used as a newcomer would."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ottla.cluster import free_base_port, wait_for_exit
from tests.cluster.command import ottla


@pytest.fixture
async def detached(tmp_path: Path) -> AsyncIterator[tuple[Path, int]]:
    """A detached cluster of three nodes: its directory and base port."""
    directory, base = tmp_path / "cluster", free_base_port(3)
    started = await ottla("up", "--dir", str(directory), "--base-port", str(base), "--detach")
    assert started.status == 0, started.err
    assert re.fullmatch(
        rf"3 nodes ready at 127.0.0.1:{base},127.0.0.1:{base + 1},127.0.0.1:{base + 2} after \d+\.\d\d s \(in .*\)\n",
        started.out,
    )
    yield directory, base
    if (directory / "control.json").exists():
        assert (await ottla("down", "--dir", str(directory))).status == 0


def _nodes(directory: Path) -> dict[int, dict[str, object]]:
    state = json.loads((directory / "cluster.json").read_text())
    return {node["id"]: node for node in state["nodes"]}


def _alive(pid: object) -> bool:
    assert isinstance(pid, int)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_day_in_the_life(detached: tuple[Path, int]) -> None:
    directory, base = detached
    where, bootstrap = ("--dir", str(directory)), ("--bootstrap", f"127.0.0.1:{base}")
    state = json.loads((directory / "cluster.json").read_text())
    assert set(state) == {"cluster_id", "bootstrap", "nodes"}
    assert state["bootstrap"] == ",".join(f"127.0.0.1:{base + index}" for index in range(3))
    for index, node in enumerate(state["nodes"]):
        assert set(node) == {"id", "pid", "kafka", "controller", "http", "dir"}
        assert node["id"] == index + 1
        assert node["kafka"] == f"127.0.0.1:{base + index}"
        assert node["controller"] == f"127.0.0.1:{base + 100 + index}"
        assert node["http"] == f"127.0.0.1:{base + 200 + index}"
        assert _alive(node["pid"])

    created = await ottla("topic", "create", "orders", "-p", "3", "-r", "3", *bootstrap)
    assert (created.status, created.out) == (0, "Created topic orders.\n")
    assert (await ottla("produce", "orders", *bootstrap, give=b"one\ntwo\n")).status == 0

    pid = _nodes(directory)[2]["pid"]
    killed = await ottla("kill", "2", *where)
    assert (killed.status, killed.out) == (0, "node 2 killed\n")
    assert not _alive(pid)
    assert _nodes(directory)[2]["pid"] is None
    assert (await ottla("produce", "orders", *bootstrap, give=b"three\n")).status == 0

    assert (await ottla("start", "2", *where)).status == 0
    assert _alive(_nodes(directory)[2]["pid"])
    assert (await ottla("pause", "3", *where)).out == f"node 3 paused (pid {_nodes(directory)[3]['pid']})\n"
    assert (await ottla("resume", "3", *where)).status == 0
    assert (await ottla("stop", "1", *where)).out == "node 1 stopped\n"
    assert _nodes(directory)[1]["pid"] is None

    rest = ("--bootstrap", f"127.0.0.1:{base + 1},127.0.0.1:{base + 2}")
    read = await ottla("consume", "orders", "--from-beginning", "-n", "3", *rest)
    assert sorted(read.out.split()) == ["one", "three", "two"]
    status = await ottla("status", "--format", "json", *rest)
    assert status.status == 0
    assert {broker["id"] for broker in json.loads(status.out)["brokers"]} == {2, 3}

    pids = [node["pid"] for node in _nodes(directory).values() if node["pid"] is not None]
    assert (await ottla("down", *where)).out == "all nodes stopped\n"
    assert not any(_alive(pid) for pid in pids)
    assert all(node["pid"] is None for node in _nodes(directory).values())


async def test_what_was_written_is_there_after_down_and_up(detached: tuple[Path, int]) -> None:
    directory, base = detached
    bootstrap = ("--bootstrap", f"127.0.0.1:{base}")
    assert (await ottla("topic", "create", "kept", "-p", "1", "-r", "3", *bootstrap)).status == 0
    assert (await ottla("produce", "kept", *bootstrap, give=b"still here\n")).status == 0
    before = json.loads((directory / "cluster.json").read_text())["cluster_id"]
    assert (await ottla("down", "--dir", str(directory))).status == 0
    again = await ottla("up", "--dir", str(directory), "--base-port", str(base), "--detach")
    assert again.status == 0, again.err
    assert json.loads((directory / "cluster.json").read_text())["cluster_id"] == before
    assert (await ottla("consume", "kept", "--from-beginning", "-n", "1", *bootstrap)).out == "still here\n"


async def test_errors_are_one_clear_line(detached: tuple[Path, int], tmp_path: Path) -> None:
    directory, base = detached
    unknown = await ottla("kill", "7", "--dir", str(directory))
    assert (unknown.status, unknown.err) == (1, "ottla kill: there is no node 7; the nodes are 1, 2, 3\n")
    nowhere = await ottla("stop", "1", "--dir", str(tmp_path / "nowhere"))
    assert nowhere.status == 1
    assert nowhere.err.startswith("ottla stop: no cluster runs in ")
    other = await ottla("up", "--nodes", "5", "--dir", str(directory), "--base-port", str(base), "--detach")
    assert other.status == 1
    assert "holds a cluster of 3 nodes, not 5" in other.err
    assert (await ottla("up", "--detach")).status == 2


async def test_a_temporary_cluster_leaves_nothing_behind(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ottla.cli", "up", "--nodes", "1", "--base-port", str(free_base_port(1))),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        line = (await process.stdout.readline()).decode()
        assert line.startswith("1 nodes ready at ")
        assert list(tmp_path.iterdir())
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    assert not list(tmp_path.iterdir())


async def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    base = free_base_port(1)
    taken = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", base)
    async with taken:
        failed = await ottla("up", "--nodes", "1", "--dir", str(tmp_path / "c"), "--base-port", str(base), "--detach")
    assert failed.status == 1
    assert "node 1 ended before it was ready" in failed.err
    assert "address already in use" in failed.err


async def test_nodes_do_not_outlive_a_supervisor_that_was_killed(detached: tuple[Path, int]) -> None:
    directory, _ = detached
    pids = [node["pid"] for node in _nodes(directory).values()]
    supervisor = json.loads((directory / "control.json").read_text())["pid"]
    os.kill(supervisor, signal.SIGKILL)
    for pid in pids:
        assert isinstance(pid, int)
        assert await wait_for_exit(pid, 20.0)
    (directory / "control.json").unlink()

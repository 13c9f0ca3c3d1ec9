"""A node as a process: a wrong configuration, a directory that is another's, a clean stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from ottla.cluster import free_base_port
from tests.cluster.command import ottla

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("KAFKA_")}


def _config(tmp_path: Path, base: int, **changes: object) -> Path:
    settings: dict[str, object] = {
        "node.id": 1,
        "cluster.id": "5L6g3nShT-eMCtK--X86sw",
        "controller.quorum.voters": f"1@127.0.0.1:{base + 100}",
        "listeners": f"PLAINTEXT://127.0.0.1:{base},CONTROLLER://127.0.0.1:{base + 100}",
        "log.dirs": str(tmp_path / "data"),
        **{name.replace("_", "."): value for name, value in changes.items()},
    }
    path = tmp_path / "node.toml"
    path.write_text("".join(f'"{name}" = {value!r}\n' for name, value in settings.items()))
    return path


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"num_partitons": 3}, "num.partitons"),
        ({"node_id": "one"}, "node.id"),
        ({"controller_quorum_voters": "2@127.0.0.1:9999"}, "ottla.cluster.secret"),
        ({"broker_session_timeout_ms": -5}, "broker.session.timeout.ms"),
    ],
)
async def test_a_wrong_configuration_is_one_line_and_status_2(
    tmp_path: Path, changes: dict[str, object], complaint: str
) -> None:
    ended = await ottla("node", "--config", str(_config(tmp_path, 20_000, **changes)), env=CLEAN)
    assert ended.status == 2
    assert len(ended.err.splitlines()) == 1
    assert complaint in ended.err


async def _run_until_ready(config: Path) -> tuple[asyncio.subprocess.Process, bytes]:
    ready_in, ready_out = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ottla.cli", "node", "--config", str(config), "--ready-fd", str(ready_out)),
        stderr=asyncio.subprocess.PIPE,
        pass_fds=(ready_out,),
        env=CLEAN,
    )
    os.close(ready_out)
    said = await asyncio.to_thread(os.read, ready_in, 16)
    os.close(ready_in)
    return process, said


async def test_sigterm_ends_a_node_cleanly_and_its_directory_is_its_own(tmp_path: Path) -> None:
    base = free_base_port(1)
    config = _config(tmp_path, base)
    process, said = await _run_until_ready(config)
    assert said == b"ready\n"
    second = await ottla("node", "--config", str(config), env=CLEAN)
    assert second.status == 1
    assert "is in use by another process" in second.err
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(20):
        _, errors = await process.communicate()
    assert process.returncode == 0
    assert b'"level": "error"' not in errors
    assert (tmp_path / "data" / ".kafka_cleanshutdown").exists()

    stranger = await ottla("node", "--config", str(_config(tmp_path, base, cluster_id="another-cluster")), env=CLEAN)
    assert (stranger.status, "belongs to cluster 5L6g3nShT-eMCtK--X86sw" in stranger.err) == (1, True)
    other = _config(tmp_path, base, node_id=2, controller_quorum_voters=f"2@127.0.0.1:{base + 100}")
    renamed = await ottla("node", "--config", str(other), env=CLEAN)
    assert (renamed.status, "belongs to node 1, this is node 2" in renamed.err) == (1, True)


async def test_a_node_without_its_quorum_still_ends_at_once(tmp_path: Path) -> None:
    base = free_base_port(3)
    voters = ",".join(f"{node}@127.0.0.1:{base + 99 + node}" for node in (1, 2, 3))
    config = _config(tmp_path, base, controller_quorum_voters=voters, ottla_cluster_secret="x" * 32)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ottla.cli", "node", "--config", str(config)), stderr=asyncio.subprocess.PIPE, env=CLEAN
    )
    assert process.stderr is not None
    async with asyncio.timeout(20):
        while b"raft_state" not in await process.stderr.readline():
            assert process.returncode is None
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    assert process.returncode == 0

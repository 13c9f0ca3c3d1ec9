"""A node whose metadata directory is damaged: one line that says what to do, and status 1."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ottla.cluster import free_base_port
from ottla.controller import Entry, LogStorage, Snapshot
from ottla.controller.raft import HardState, Ready
from ottla.log import OsDisk
from tests.cluster.command import ottla

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("KAFKA_")}
CLUSTER = "5L6g3nShT-eMCtK--X86sw"
LOG = f"{0:020d}.log"
SNAPSHOT = f"{2:020d}-{1:010d}.checkpoint"


def _written(data: Path) -> Path:
    """A metadata directory with entries and a snapshot, closed in good order."""
    storage = LogStorage(OsDisk(), str(data), lambda: 0, cluster_id=CLUSTER, node_id=1)
    storage.load()
    storage.persist(Ready(hard_state=HardState(1, 1, False, "disk.1"), entries=(Entry(1, 1), Entry(2, 1))))
    storage.persist(Ready(snapshot=Snapshot(2, 1, b"{}")))
    storage.persist(Ready(entries=(Entry(3, 1), Entry(4, 1))))
    storage.close()
    return data / "__cluster_metadata-0"


def _config(tmp_path: Path, voters: int) -> Path:
    base = free_base_port(1)
    quorum = ",".join(f"{voter}@127.0.0.1:{base + 99 + voter}" for voter in range(1, voters + 1))
    path = tmp_path / "node.toml"
    path.write_text(
        f'"node.id" = 1\n"cluster.id" = "{CLUSTER}"\n"controller.quorum.voters" = "{quorum}"\n'
        f'"listeners" = "PLAINTEXT://127.0.0.1:{base},CONTROLLER://127.0.0.1:{base + 100}"\n'
        f'"log.dirs" = "{tmp_path / "data"}"\n"ottla.cluster.secret" = "{"x" * 32}"\n'
    )
    return path


@pytest.mark.parametrize(
    ("name", "voters", "cure"),
    [
        (LOG, 1, "restore"),
        ("quorum-state", 1, "without this node the voters have no majority"),
        ("quorum-state", 3, "or wipe it (only it, and on this node only)"),
        (SNAPSHOT, 3, "or wipe it"),
    ],
)
async def test_damage_is_one_line_that_says_what_to_do_and_status_1(
    tmp_path: Path, name: str, voters: int, cure: str
) -> None:
    directory = _written(tmp_path / "data")
    content = bytearray((directory / name).read_bytes())
    content[len(content) // 2] ^= 1
    content[len(content) // 2 + 1] ^= 6  # a single bit of the log would be flipped back
    (directory / name).write_bytes(content)
    ended = await ottla("node", "--config", str(_config(tmp_path, voters)), env=CLEAN)
    assert ended.status == 1
    assert "Traceback" not in ended.err
    (line,) = [line for line in ended.err.splitlines() if not line.startswith("{")]
    assert line.startswith("ottla node: cannot start: ")
    assert str(directory) in line
    assert cure in line
    assert "from a backup" in line
    assert (directory / name).read_bytes() == content

"""The process that forks nodes, when whoever asked for them is gone."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from pathlib import Path

from ottla.cluster import free_base_port, prepare


async def test_a_node_that_nobody_can_reach_any_more_is_stopped(tmp_path: Path) -> None:
    """Its supervisor was killed between the request and the answer, which then cannot be given."""
    node = prepare(tmp_path, nodes=3, base_port=free_base_port(3), settings={}).nodes[0]
    ours, theirs = socket.socketpair()
    ready, started = os.pipe()
    nursery = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ottla.cluster.nursery", str(theirs.fileno()), pass_fds=[theirs.fileno()]
    )
    request = {"config": str(node.config_file), "log": str(tmp_path / "log"), "name": "node"}
    socket.send_fds(ours, [json.dumps(request).encode()], [started])
    for each in (ours, theirs):
        each.close()
    os.close(started)
    reader = asyncio.StreamReader()
    with os.fdopen(ready, "rb") as pipe:
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        async with asyncio.timeout(30):
            assert await nursery.wait() == 0
            # The node has the other end for as long as it runs; alone it is never ready.
            assert await reader.read() == b""

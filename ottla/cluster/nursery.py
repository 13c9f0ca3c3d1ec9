"""A process that has imported everything once and forks a node whenever it is asked to.

Importing is most of what it costs to start a node. Forked nodes share that memory, and start in a fraction of the time.
The nursery runs no event loop and no thread, so that a fork of it is a clean slate.

The supervisor sends ``{"config": FILE, "log": FILE, "name": TEXT}`` and the writing end of the ready pipe over a socket
pair, and gets ``{"pid": N}`` back. The nursery ends when the pair is closed. Nodes still there then have lost
their supervisor: they are told to stop, since no command could reach them any more.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

MAX_MESSAGE = 8192


def serve(channel: socket.socket) -> None:
    """Fork a node for every request until the other end is closed."""
    from ottla.broker import load_schemas
    from ottla.node import node_main  # these imports are what the nursery is for

    load_schemas(every_version=True)

    # Whoever started the nursery watches the nodes by their process descriptors; nobody waits for them here.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    nodes: list[int] = []
    while True:
        data, descriptors = _receive(channel)
        if not data:
            _stop(nodes)
            return
        request = json.loads(data)
        pid = os.fork()
        if pid == 0:
            channel.close()
            _become_node(request["log"], request["name"])
            os._exit(_run(partial(node_main, Path(request["config"]), ready_descriptor=descriptors[0])))
        os.close(descriptors[0])
        nodes = [descriptor for descriptor in nodes if _lives(descriptor)]
        with suppress(ProcessLookupError):
            nodes.append(os.pidfd_open(pid))
        with suppress(ConnectionError):  # the supervisor has gone meanwhile, as the next look will show
            channel.sendall(json.dumps({"pid": pid}).encode())


def _receive(channel: socket.socket) -> tuple[bytes, list[int]]:
    """A request with its descriptor; nothing when the supervisor has gone, if it left something unread or not."""
    try:
        data, descriptors, _, _ = socket.recv_fds(channel, MAX_MESSAGE, 1)
    except ConnectionError:
        return b"", []
    return data, descriptors


def _lives(descriptor: int) -> bool:
    """Whether the process is still there; closes the descriptor of one that is not."""
    try:
        signal.pidfd_send_signal(descriptor, 0)
    except ProcessLookupError:
        os.close(descriptor)
        return False
    return True


def _stop(nodes: list[int]) -> None:
    """SIGTERM to those that are left, also if they are paused."""
    for descriptor in nodes:
        for number in (signal.SIGTERM, signal.SIGCONT):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, number)


def _become_node(log: str, name: str) -> None:
    """A session, standard files, signals and a name of its own."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    with suppress(OSError):  # only Linux has it, and it is only for people who look at a list of processes
        Path("/proc/self/comm").write_text(name, encoding="ascii")


def _run(node: Callable[..., int]) -> int:
    try:
        return node(log_level="info")
    except BaseException:  # noqa: BLE001  nothing of the nursery's own may run in a forked node
        import traceback

        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    sys.modules.setdefault("hypothesis", None)  # type: ignore[arg-type]  # see ottla.cli.main
    with socket.socket(fileno=int(sys.argv[1])) as end:
        serve(end)

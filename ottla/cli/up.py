"""``ottla up``: a local cluster of node processes, until Ctrl-C, SIGTERM or ``ottla down``."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

DETACHED_READY_SECONDS = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``ottla up``."""
    parser.add_argument("--nodes", "-n", type=int, default=3, help="how many nodes (default 3)")
    parser.add_argument("--dir", type=Path, help="where the data stays; without it, a temporary directory")
    parser.add_argument("--base-port", type=int, default=9092, help="Kafka port of node 1 (default 9092)")
    parser.add_argument("--detach", "-d", action="store_true", help="return when the cluster is ready (needs --dir)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a node setting under its Kafka name; repeatable",
    )


def run(args: argparse.Namespace) -> int:
    """Run the cluster; exit status 1 with one line if it cannot start."""
    from ottla.cluster import LayoutError, NodeFailed

    if args.detach:
        return _detach(args)
    directory = args.dir or Path(tempfile.mkdtemp(prefix="ottla-"))
    try:
        asyncio.run(_serve(directory, args))
    except (LayoutError, NodeFailed) as error:
        print(f"ottla up: {error}", file=sys.stderr)
        return 1
    finally:
        if args.dir is None:
            shutil.rmtree(directory)
    return 0


async def _serve(directory: Path, args: argparse.Namespace) -> None:
    from ottla.cluster import ControlServer, Supervisor, prepare

    layout = prepare(directory, nodes=args.nodes, base_port=args.base_port, settings=parse_settings(args.set))
    supervisor = Supervisor(layout)
    enough = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, enough.set)
    control = ControlServer(supervisor, on_down=enough.set)
    starting = asyncio.ensure_future(supervisor.start())
    stopping = asyncio.ensure_future(enough.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait((starting,))
        return
    try:
        seconds = await starting
        await control.start()
        print(f"{args.nodes} nodes ready at {layout.bootstrap} after {seconds:.2f} s (in {directory})", flush=True)
        await stopping
    finally:
        stopping.cancel()
        await control.stop()
        await supervisor.stop()


def parse_settings(pairs: list[str]) -> dict[str, str | int | bool]:
    """``["a.b=1"]`` as ``{"a.b": "1"}``; raises LayoutError for a pair without "="."""
    from ottla.cluster import LayoutError

    settings: dict[str, str | int | bool] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign:
            raise LayoutError(f"--set takes KEY=VALUE, not {pair!r}")
        settings[key.strip()] = value.strip()
    return settings


def _detach(args: argparse.Namespace) -> int:
    """Start ``ottla up`` in a session of its own and wait for the line that says that it is ready."""
    if args.dir is None:
        print("ottla up: --detach needs --dir, so that `ottla down --dir DIR` can find the cluster", file=sys.stderr)
        return 2
    args.dir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "ottla.cli", "up", "--nodes", str(args.nodes), "--dir", str(args.dir)]
    command += ["--base-port", str(args.base_port), *(word for pair in args.set for word in ("--set", pair))]
    with (args.dir / "up.log").open("ab") as errors:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
        )
    assert child.stdout is not None
    line = child.stdout.readline().decode()
    if not line:
        child.wait(DETACHED_READY_SECONDS)
        print(f"ottla up: the cluster did not start:\n{_last_lines(args.dir / 'up.log')}", file=sys.stderr)
        return 1
    print(line, end="")
    child.stdout.close()
    # The child goes on by itself; without this the destructor would warn of a child that still runs.
    child.returncode = 0
    return 0


def _last_lines(path: Path) -> str:
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-8:])

"""``ottla kill|stop|start|pause|resume|down``: what can be done to a cluster that ``ottla up`` runs."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

_DOWN_SECONDS = 60.0
_DONE = {"kill": "killed", "stop": "stopped", "start": "ready", "pause": "paused", "resume": "resumed"}


def command(do: str) -> SimpleNamespace:
    """The ``add_arguments`` and ``run`` of one companion command."""

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        if do != "down":
            parser.add_argument("node", type=int, metavar="ID", help="the node's id, from 1")
        parser.add_argument("--dir", type=Path, required=True, help="the directory given to `ottla up --dir`")

    def run(args: argparse.Namespace) -> int:
        return _run(do, args)

    return SimpleNamespace(add_arguments=add_arguments, run=run)


def _run(do: str, args: argparse.Namespace) -> int:
    from ottla.cluster import ControlError

    work: Callable[[], str] = (
        (lambda: asyncio.run(_down(args.dir))) if do == "down" else (lambda: asyncio.run(_one(do, args)))
    )
    try:
        print(work())
    except ControlError as error:
        print(f"ottla {do}: {error}", file=sys.stderr)
        return 1
    return 0


async def _one(do: str, args: argparse.Namespace) -> str:
    from ottla.cluster import ask

    answer = await ask(args.dir, do, args.node)
    pid = answer.get("pid")
    return f"node {args.node} {_DONE[do]}" + (f" (pid {pid})" if pid else "")


kill, stop, start, pause, resume, down = (command(do) for do in (*_DONE, "down"))


async def _down(directory: Path) -> str:
    from ottla.cluster import ControlError, ask, wait_for_exit

    answer = await ask(directory, "down")
    if not await wait_for_exit(int(str(answer["pid"])), _DOWN_SECONDS):
        raise ControlError(f"the cluster in {directory} has not stopped within {_DOWN_SECONDS:g} s")
    return "all nodes stopped"

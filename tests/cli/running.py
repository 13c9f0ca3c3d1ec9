"""The command called as a function, against nodes of our own."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from ottla.cli import main
from ottla.cluster import Supervisor, free_base_port, prepare


async def ottla(*words: str, bootstrap: str | None = None) -> tuple[int, str, str]:
    """Exit status, standard output, standard error of the command, in a thread: it has an event loop of its own."""
    out, err = io.TextIOWrapper(io.BytesIO()), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        where = [] if bootstrap is None else ["--bootstrap", bootstrap]
        status = await asyncio.to_thread(main, [*words, *where])
    out.flush()
    out.seek(0)
    return status, out.read(), err.getvalue()


async def asked(*words: str, bootstrap: str) -> Any:
    """What it prints as JSON."""
    status, out, err = await ottla(*words, "--format", "json", bootstrap=bootstrap)
    assert (status, err) == (0, ""), err
    return json.loads(out)


async def told(*words: str, bootstrap: str) -> str:
    """What it prints for people."""
    status, out, err = await ottla(*words, bootstrap=bootstrap)
    assert (status, err) == (0, ""), err
    return out


async def refused(*words: str, bootstrap: str, status: int = 1) -> str:
    """The one line that it says in place of doing it."""
    found, out, err = await ottla(*words, bootstrap=bootstrap)
    assert (found, out) == (status, ""), err
    assert err.count("\n") == 1
    return err


@asynccontextmanager
async def serving(directory: Path, *, nodes: int, settings: Mapping[str, str] | None = None) -> AsyncIterator[str]:
    """A cluster of our own; yields its bootstrap servers."""
    supervisor = Supervisor(prepare(directory, nodes=nodes, base_port=free_base_port(nodes), settings=settings))
    try:
        await supervisor.start()
        yield supervisor.layout.bootstrap
    finally:
        await supervisor.stop(within=10.0)

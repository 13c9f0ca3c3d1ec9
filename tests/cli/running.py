"""The command called as a function, against nodes of our own."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from ottla.cli import main


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

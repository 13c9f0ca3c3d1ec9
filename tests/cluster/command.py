"""The ``ottla`` command as a person runs it: in processes of its own."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass

COMMAND_S = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command printed and how it ended."""

    status: int
    out: str
    err: str


async def ottla(*words: str, give: bytes = b"", env: dict[str, str] | None = None) -> Outcome:
    """Run ``ottla WORDS`` to its end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ottla.cli", *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=env,
    )
    try:
        async with asyncio.timeout(COMMAND_S):
            out, err = await process.communicate(give)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return Outcome(process.returncode, out.decode(), err.decode())

"""How ``ottla kill`` and its companions reach the supervisor: one JSON line each way over a loopback connection.

The port and a token stand in ``control.json``, which only the owner of the directory can read.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

from ottla.cluster.layout import HOST, LayoutError
from ottla.cluster.process import NodeFailed, NodeProcess
from ottla.cluster.supervisor import Supervisor

MAX_LINE = 4096
REQUEST_SECONDS = 90.0


class ControlError(Exception):
    """The supervisor could not be reached or refused; the text is for the person who asked."""


class ControlServer:
    """Takes commands for a Supervisor; ``on_down`` is called when the whole cluster is asked to stop."""

    def __init__(self, supervisor: Supervisor, on_down: Callable[[], None]) -> None:
        self._supervisor = supervisor
        self._on_down = on_down
        self._token = secrets.token_urlsafe(24)
        self._server: asyncio.Server | None = None
        self._actions: dict[str, Callable[[NodeProcess], Awaitable[None]]] = {
            "kill": _kill,
            "stop": NodeProcess.stop,
            "start": NodeProcess.start,
            "pause": _pause,
            "resume": _resume,
        }

    async def start(self) -> None:
        """Listen on a free loopback port and write ``control.json``."""
        self._server = await asyncio.start_server(self._serve, HOST, 0, limit=MAX_LINE)
        port = self._server.sockets[0].getsockname()[1]
        path = self._supervisor.layout.control_file
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump({"pid": os.getpid(), "port": port, "token": self._token}, file)

    async def stop(self) -> None:
        """Stop listening and take ``control.json`` away."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        self._supervisor.layout.control_file.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                answer = await self._answer(await reader.readline())
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        except (TimeoutError, ConnectionError, ValueError):
            # A stranger on the port, or a companion that went away: nobody is left to be told.
            writer.transport.abort()
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, object]:
        request = json.loads(line)
        if not isinstance(request, dict) or not hmac.compare_digest(str(request.get("token")), self._token):
            return {"error": "wrong token"}
        if request.get("do") == "down":
            self._on_down()
            return {"pid": os.getpid()}
        action = self._actions.get(str(request.get("do")))
        if action is None:
            return {"error": f"unknown command {request.get('do')!r}"}
        try:
            node = self._supervisor.node(int(request["node"]))
            await action(node)
        except (LayoutError, NodeFailed, KeyError, TypeError) as error:
            return {"error": str(error)}
        return {"node": node.plan.id, "state": node.state.value, "pid": node.pid}


async def _kill(node: NodeProcess) -> None:
    node.kill()
    await node.gone()


async def _pause(node: NodeProcess) -> None:
    node.pause()


async def _resume(node: NodeProcess) -> None:
    node.resume()


async def ask(directory: Path, do: str, node: int | None = None) -> dict[str, object]:
    """Ask the supervisor of the cluster in ``directory`` to do something; raises ControlError."""
    path = directory / "control.json"
    try:
        control = json.loads(path.read_text(encoding="utf-8"))
        reader, writer = await asyncio.open_connection(HOST, int(control["port"]), limit=MAX_LINE)
    except FileNotFoundError as error:
        raise ControlError(f"no cluster runs in {directory} (there is no {path.name})") from error
    except (OSError, ValueError, KeyError) as error:
        raise ControlError(f"the supervisor of {directory} does not answer: {error}") from error
    try:
        writer.write(json.dumps({"token": control["token"], "do": do, "node": node}).encode() + b"\n")
        async with asyncio.timeout(REQUEST_SECONDS):
            line = await reader.readline()
        if not line:
            raise ControlError("the supervisor closed the connection without an answer")
        answer: dict[str, object] = json.loads(line)
    except (OSError, ValueError) as error:
        raise ControlError(f"the supervisor of {directory} does not answer: {error}") from error
    finally:
        writer.close()
    if "error" in answer:
        raise ControlError(str(answer["error"]))
    return answer

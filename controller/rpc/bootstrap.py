"""Finding the voters of a quorum by addresses alone: `controller.quorum.bootstrap.servers` (KIP-853)."""

import asyncio
from collections.abc import Mapping, Sequence

import structlog
from pydantic import ValidationError

from ottla.controller.rpc.errors import RpcError
from ottla.controller.rpc.http_client import RpcClient
from ottla.controller.rpc.models.voters import FindVoters, FindVotersResponse
from ottla.controller.rpc.peers import Address
from ottla.controller.rpc.server import CONTROLLER_PATH

log = structlog.get_logger(__name__)

PATH = CONTROLLER_PATH + FindVoters.__name__
TIMEOUT_S = 3.0
FIRST_PAUSE_S = 0.1
MAX_PAUSE_S = 1.0
TOLD_EVERY_S = 10.0


class QuorumFinder:
    """Asks whoever listens at these addresses who votes: any node of the cluster knows, voter or not."""

    def __init__(self, rpc: RpcClient, servers: Sequence[Address]) -> None:
        self._rpc = rpc
        self._servers = servers
        self._failures: dict[Address, str] = {}
        self.finding = False

    def __bool__(self) -> bool:
        return bool(self._servers)

    async def ask(self) -> Mapping[int, Address] | None:
        """The voters as the first one that knows them tells; None if nobody does."""
        for server in self._servers:
            try:
                answer = await self._rpc.ask(server, PATH, FindVoters().model_dump_json().encode(), timeout=TIMEOUT_S)
                found = FindVotersResponse.model_validate_json(answer)
            except (RpcError, ValidationError) as error:
                self._failures[server] = str(error) or type(error).__name__
                continue
            if found.voters:
                return {node_id: (host, port) for node_id, host, port in found.voters}
            self._failures[server] = found.message or "it knows no voters"
        return None

    async def find(self) -> Mapping[int, Address]:
        """Ask until somebody knows, and say now and then why nobody does; `finding` meanwhile."""
        loop = asyncio.get_running_loop()
        self.finding = True
        pause, told = FIRST_PAUSE_S, loop.time() - TOLD_EVERY_S + TIMEOUT_S
        while (voters := await self.ask()) is None:
            if loop.time() - told >= TOLD_EVERY_S:
                told = loop.time()
                answers = [f"{host}:{port}: {self._failures[host, port]}" for host, port in self._servers]
                log.warning("quorum_not_found", answers=answers)
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_S)
        self.finding = False
        log.info("quorum_found", voters=sorted(voters))
        return voters

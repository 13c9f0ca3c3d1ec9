"""ControllerClient: how a node's own parts reach the active controller, wherever it is."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar, cast

from kio.schema.errors import ErrorCode
from pydantic import ValidationError

from ottla.controller.rpc.errors import ControllerUnavailable, PeerRejected, PeerUnreachable, RpcError
from ottla.controller.rpc.models.base import AnyRequest, RpcRequest, RpcResponse
from ottla.controller.rpc.models.table import OF_NODES
from ottla.controller.rpc.server import CONTROLLER_PATH

R = TypeVar("R", bound=RpcResponse)

MAX_CALLS = 256
MAX_CLIENT_CALLS = 192
ATTEMPT_TIMEOUT_S = 5.0
FIRST_BACKOFF_S = 0.02
MAX_BACKOFF_S = 0.25
# Refusals that another attempt, later or elsewhere, can cure: 408 is a body that came too slowly, 423 this node's
# former life not yet known to be over, and from 500 on the fault is the peer's own. Any other means that this node or
# its request is wrong.
_PASSING_REFUSALS = frozenset({408, 423, *range(500, 600)})


class _Trail:
    """What the last attempt of a call failed with."""

    last: RpcError | None = None


class Post(Protocol):
    """The part of RpcClient that this needs."""

    async def post(self, to: int, path: str, body: bytes, *, timeout: float) -> bytes: ...


class ControllerClient:
    """Sends requests to the active controller: in process when it is this node, else over the controller listener.

    `leader()` is Raft's view of who leads (None: nobody known); the wiring calls `leader_changed()` whenever that
    view changes, which wakes every waiting call at once and moves those whose controller has been replaced.
    `local` handles a request in this process. `voters` are asked in turn while no leader is known.

    A request whose attempt was cut off may have been carried out and is then sent again: the controller's requests
    are safe to repeat (epochs fence them), but a repeated CreateTopics can find its own topic already there.
    """

    def __init__(
        self,
        node_id: int,
        remote: Post,
        *,
        leader: Callable[[], int | None],
        local: Callable[[AnyRequest, int], Awaitable[RpcResponse]] | None,
        voters: Sequence[int],
        attempt_timeout: float = ATTEMPT_TIMEOUT_S,
    ) -> None:
        self._node_id = node_id
        self._remote = remote
        self._leader = leader
        self._local = local
        self.set_voters(voters)
        self._attempt_timeout = attempt_timeout
        self._turn = 0
        self._calls = 0
        self._changed: asyncio.Future[None] | None = None

    def set_voters(self, voters: Sequence[int]) -> None:
        """Who is asked while no leader is known."""
        self._others = [voter for voter in voters if voter != self._node_id]

    def leader_changed(self) -> None:
        """Raft's view of the leader changed. Cheap; call it for every change."""
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)
        self._changed = None

    async def call(self, request: RpcRequest[R], *, timeout: float = 30.0) -> R:
        """The active controller's answer. Its `error` is data: only NOT_CONTROLLER is dealt with here.

        Raises ControllerUnavailable when no active controller answered within `timeout` seconds, or when 256 calls are
        waiting already (192, if the request is a client's); PeerRejected when the controller refuses this node (wrong
        secret, cluster or node id) or cannot read the request.
        """
        if self._calls >= (MAX_CALLS if isinstance(request, OF_NODES) else MAX_CLIENT_CALLS):
            raise ControllerUnavailable(f"{self._calls} requests to the controller are waiting already")
        self._calls += 1
        trail = _Trail()
        try:
            async with asyncio.timeout(timeout) as deadline:
                return await self._until_answered(request, trail)
        except TimeoutError:
            if not deadline.expired():
                raise
            name, last = type(request).__name__, trail.last
            raise ControllerUnavailable(f"no active controller answered {name} within {timeout:g} s: {last}") from last
        finally:
            self._calls -= 1

    async def _until_answered(self, request: RpcRequest[R], trail: "_Trail") -> R:
        backoff, hint, hopped = FIRST_BACKOFF_S, None, False
        while True:
            changed = self._change()
            target = hint if hint is not None else self._target()
            hint = None
            answer = await self._ask(target, request, trail)
            if answer is not None:
                if answer.error != ErrorCode.not_controller.value:
                    return cast(R, answer)
                trail.last = ControllerUnavailable(f"node {target} is not the active controller")
                if answer.controller_id not in (None, -1, target):
                    hint = answer.controller_id
            # A hint is followed at once, but two nodes that point at each other are not asked in a tight circle.
            if hint is not None and not hopped:
                hopped = True
                continue
            hopped = False
            await asyncio.wait((changed,), timeout=backoff)
            backoff = min(backoff * 2, MAX_BACKOFF_S)
            if changed.done():
                backoff, hint = FIRST_BACKOFF_S, None

    def _target(self) -> int | None:
        leader = self._leader()
        if leader is not None and leader >= 0:
            return leader
        if not self._others:
            return None
        self._turn += 1
        return self._others[self._turn % len(self._others)]

    async def _ask(self, target: int | None, request: AnyRequest, trail: "_Trail") -> RpcResponse | None:
        """One attempt; None when it is worth another one."""
        if target is None:
            return None
        if target == self._node_id:
            return None if self._local is None else await self._local(request, self._node_id)
        path, body = CONTROLLER_PATH + type(request).__name__, request.model_dump_json().encode()
        attempt = asyncio.ensure_future(self._remote.post(target, path, body, timeout=self._attempt_timeout))
        try:
            while not attempt.done():
                await asyncio.wait((attempt, self._change()), return_when=asyncio.FIRST_COMPLETED)
                if not attempt.done() and self._leader() not in (None, -1, target):
                    return None
            return type(request).response_type.model_validate_json(attempt.result())
        except PeerUnreachable as error:
            trail.last = error
        except PeerRejected as error:
            if error.status not in _PASSING_REFUSALS:
                raise
            trail.last = error
        except ValidationError as error:
            raise RpcError(f"node {target} answered {type(request).__name__} with nonsense: {error}") from error
        finally:
            attempt.cancel()
        return None

    def _change(self) -> asyncio.Future[None]:
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        return self._changed

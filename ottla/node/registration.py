"""A broker's life in the eyes of the controller: register, be unfenced, send heartbeats, leave in good order.

Sources: KIP-500, KIP-631 (broker registration and heartbeats), KIP-903 (broker epochs).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from kio.schema.errors import ErrorCode

from ottla.controller import (
    ControllerUnavailable,
    Heartbeat,
    HeartbeatResponse,
    ListenerModel,
    MetadataImage,
    MetadataView,
    PeerRejected,
    RegisterBroker,
    RegisterBrokerResponse,
    ReplicaLogModel,
    RpcError,
)
from ottla.node.errors import NodeError
from ottla.node.quorum import Quorum

log = structlog.get_logger(__name__)

RETRY_S = 0.05
CALL_S = 5.0
_UNREGISTERED = (ErrorCode.stale_broker_epoch.value, ErrorCode.broker_id_not_registered.value)
# The former life of this node may not be known to be over. It is once its session ends, and once those who watch it
# have noticed its silence, which takes them less than this.
FORMER_LIFE_S = 5.0
NODE_ID_IN_USE = 423


@dataclass(frozen=True, slots=True)
class Advertisement:
    """What a broker tells of itself when it registers."""

    node_id: int
    incarnation: str
    cluster_id: str
    listeners: tuple[ListenerModel, ...]
    rack: str | None
    http: str


class Registration:
    """Keeps one broker registered. `on_registered` is told each new broker epoch. `logs` are those that the controller
    has to know of before anybody may lead the partition."""

    def __init__(
        self,
        quorum: Quorum,
        advertisement: Advertisement,
        *,
        heartbeat_interval: float,
        session_timeout: float,
        on_registered: Callable[[int], Awaitable[None]],
        logs: Callable[[], tuple[ReplicaLogModel, ...]] = tuple,
    ) -> None:
        self._on_registered = on_registered
        self._logs = logs
        self._told: tuple[ReplicaLogModel, ...] = ()
        self._quorum = quorum
        self._advertisement = advertisement
        self._interval = heartbeat_interval
        self._patience = session_timeout + FORMER_LIFE_S
        self._beating: asyncio.Task[None] | None = None
        self._beat_now = asyncio.Event()
        self.epoch = -1
        self.fenced = True

    @property
    def view(self) -> MetadataView:
        return self._quorum.view

    async def register(self, *, clean_shutdown: bool, previous_epoch: int) -> None:
        """Register, and wait until this node's own metadata shows it.

        Raises NodeError when the cluster refuses this node for good: it is not of this cluster, or another process with
        its id goes on living.
        """
        about = self._advertisement
        request = RegisterBroker(
            node_id=about.node_id,
            incarnation=about.incarnation,
            cluster_id=about.cluster_id,
            listeners=about.listeners,
            rack=about.rack,
            http=about.http,
            clean_shutdown=clean_shutdown,
            previous_epoch=previous_epoch,
        )
        response = await self._until_registered(request)
        self.epoch = response.epoch
        await self._on_registered(self.epoch)
        await self._until_known(response.offset)
        log.info("registered", broker=about.node_id, epoch=self.epoch)

    async def _until_registered(self, request: RegisterBroker) -> RegisterBrokerResponse:
        loop = asyncio.get_running_loop()
        claimed_since: float | None = None
        while True:
            began = loop.time()
            response = await self._try_to_register(request)
            if isinstance(response, RegisterBrokerResponse):
                return response
            if response is None:
                claimed_since = None
            elif claimed_since is None:
                claimed_since = began
                log.warning("registration_has_to_wait", reason=response)
            elif loop.time() - claimed_since > self._patience:
                raise NodeError(f"the cluster refuses this node: {response}")
            await asyncio.sleep(RETRY_S)

    async def _try_to_register(self, request: RegisterBroker) -> RegisterBrokerResponse | str | None:
        """The answer; or why another process has the name of this node; or None when nobody could decide."""
        try:
            response = await self._quorum.controller.call(request, timeout=CALL_S)
        except PeerRejected as error:
            raise NodeError(f"the cluster refuses this node: {error.message}") from error
        except ControllerUnavailable as error:
            refusal = error.__cause__
            if isinstance(refusal, PeerRejected) and refusal.status == NODE_ID_IN_USE:
                return refusal.message
            log.warning("no_controller_to_register_with", reason=str(error))
            return None
        if response.error == ErrorCode.duplicate_broker_registration.value:
            return response.message
        if response.error == ErrorCode.request_timed_out.value:
            log.warning("no_controller_to_register_with", reason=response.message)
            return None
        if response.error:
            raise NodeError(f"the controller refuses this broker: {response.message}")
        return response

    async def _until_known(self, offset: int) -> None:
        while True:
            try:
                await self.view.wait_for(offset, CALL_S)
                return
            except TimeoutError:
                log.warning("metadata_is_behind", offset=self.view.image.offset, wanted=offset)

    async def unfence(self) -> asyncio.Task[None]:
        """Send heartbeats until the controller counts on this broker; the task goes on with them."""
        while True:
            response = await self._beat()
            if response is not None and response.error == 0 and not response.fenced:
                break
            await asyncio.sleep(RETRY_S)
        await self._until_known(response.offset)
        self._beating = asyncio.create_task(self._keep_beating(), name="heartbeats")
        return self._beating

    async def _keep_beating(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            timer = loop.call_later(RETRY_S if self.fenced else self._interval, self._beat_now.set)
            try:
                await self._beat_now.wait()
            finally:
                timer.cancel()
            self._beat_now.clear()
            await self._beat()

    def metadata_changed(self, image: MetadataImage) -> None:
        """Do not sit out the interval while fenced: whoever took this broker for dead hears at once that it lives."""
        broker = image.brokers.get(self._advertisement.node_id)
        if broker is not None and broker.fenced and broker.epoch == self.epoch and not self.fenced:
            self._beat_now.set()

    def tell_logs(self) -> None:
        """Do not sit out the interval either while somebody waits for what this broker has."""
        logs = self._logs()
        if logs and logs != self._told:
            self._beat_now.set()

    async def _beat(self, *, want_shutdown: bool = False) -> HeartbeatResponse | None:
        """One heartbeat; None when no controller took it."""
        self._told = self._logs()
        request = Heartbeat(
            node_id=self._advertisement.node_id,
            epoch=self.epoch,
            applied_offset=self.view.image.offset,
            want_shutdown=want_shutdown,
            logs=self._told,
        )
        try:
            response = await self._quorum.controller.call(request, timeout=CALL_S)
        except RpcError as error:
            # Also when a peer refuses this node: it was registered, so the fault is more likely that peer's, or that of
            # a stranger at its address. If not, the session ends and others take over.
            log.warning("heartbeat_failed", reason=str(error))
            return None
        if response.error in _UNREGISTERED:
            if want_shutdown:
                return response
            # Another registration took this broker's place, or the controller never knew it: begin anew.
            log.warning("registration_lost", epoch=self.epoch, reason=response.message)
            self._set_fenced(fenced=True)
            await self.register(clean_shutdown=False, previous_epoch=self.epoch)
        elif response.error == 0:
            # A fence that this node's own metadata does not show yet will show; heartbeats do not wait for it.
            self._set_fenced(fenced=response.fenced)
        return response

    def _set_fenced(self, *, fenced: bool) -> None:
        if fenced != self.fenced:
            self.fenced = fenced
            log.info("fenced" if fenced else "unfenced", broker=self._advertisement.node_id, epoch=self.epoch)

    async def leave(self, *, within: float) -> bool:
        """Controlled shutdown: let leadership move away first. False when that could not be had within the time."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait((self._beating,))
        if self.epoch < 0:
            return True
        try:
            async with asyncio.timeout(within):
                while self._quorum.can_decide:
                    response = await self._beat(want_shutdown=True)
                    if response is not None and (response.should_shutdown or response.error in _UNREGISTERED):
                        return True
                    await asyncio.sleep(RETRY_S)
        except TimeoutError:
            pass
        log.warning("controlled_shutdown_failed", broker=self._advertisement.node_id)
        return False

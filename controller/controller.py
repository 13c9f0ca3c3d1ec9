"""ActiveController: answers the requests of `ottla.controller.rpc` while this node leads the metadata quorum."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from kio.schema.errors import ErrorCode

from ottla.controller.active import Consensus, Reign, Repairs, RepairSettings
from ottla.controller.metadata import MAX_REBALANCE, Decision, MetadataImage, Policy, Record, decide, rebalance
from ottla.controller.metadata.records import BrokerChanged, PartitionChanged
from ottla.controller.raft import NotLeader, Overloaded, RaftStatus, RaftStopped
from ottla.controller.rpc.models.base import AnyRequest, RpcResponse
from ottla.controller.rpc.models.brokers import (
    AllocateProducerIds,
    Heartbeat,
    RegisterBroker,
    RegisterBrokerResponse,
    UnregisterBroker,
)
from ottla.controller.rpc.models.features import UpdateFeatures
from ottla.controller.rpc.models.partitions import (
    AlterPartition,
    AlterPartitionReassignments,
    AlterPartitionReassignmentsResponse,
)
from ottla.controller.rpc.models.topics import CreateTopics, CreateTopicsResponse, DeleteTopics, DeleteTopicsResponse
from ottla.controller.view import MetadataView

if TYPE_CHECKING:
    from random import Random

log = structlog.get_logger(__name__)

# Between two passes of the rebalance when one was not enough.
REBALANCE_PAUSE_S = 1.0
# Partitions that a log line names.
MAX_NAMED = 20


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """`policy` rules decisions. `rebalance_interval_s` is leader.imbalance.check.interval.seconds, None for never.
    Without `repair` replicas of brokers that are gone wait for them for ever."""

    policy: Policy
    rebalance_interval_s: float | None = 300.0
    repair: RepairSettings | None = None


class ActiveController:
    """Exists on every controller node, and reigns while that node leads and has applied an entry of its own term.

    Wiring: `driver.subscribe(controller.on_status)` and, for evidence about processes, `peer_dead` and `peer_alive`.
    """

    def __init__(
        self, node_id: int, consensus: Consensus, view: MetadataView, settings: ControllerSettings, rng: "Random"
    ) -> None:
        self._node_id = node_id
        self._consensus = consensus
        self._view = view
        self._settings = settings
        self._rng = rng
        self._reign: Reign | None = None
        # Node -> the incarnation that there was evidence against last; `_dead`: those not heard of since.
        self._accused: dict[int, str | None] = {}
        self._dead: set[int] = set()
        self._rebalancing: asyncio.TimerHandle | None = None
        self._repairs: Repairs | None = None

    @property
    def active(self) -> bool:
        return self._reign is not None and not self._reign.over

    # Leadership

    def on_status(self, status: RaftStatus) -> None:
        """Raft's status changed: begin or end a reign."""
        reign = self._reign
        if reign is not None and (not status.leading or status.term != reign.term):
            self.stop()
        if status.leading and self._reign is None:
            self._begin(status.term)

    def _begin(self, term: int) -> None:
        log.info("active_controller", node=self._node_id, term=term, offset=self._view.image.offset)
        self._reign = Reign(term, self._consensus, self._view, self._settings.policy, self._rng)
        # Another process may have registered with the last controller before this node has met it.
        self._reign.begin(node_id for node_id in self._dead if self._is_accused(node_id))
        self._schedule_rebalance(self._settings.rebalance_interval_s)
        if self._settings.repair is not None:
            self._repairs = Repairs(self._reign, self._settings.repair)

    def stop(self) -> None:
        """End the reign, if there is one. Requests that wait are answered when Raft knows what became of them."""
        if self._reign is None:
            return
        self._reign.end()
        log.info("controller_resigned", node=self._node_id, term=self._reign.term)
        self._reign = None
        if self._rebalancing is not None:
            self._rebalancing.cancel()
            self._rebalancing = None
        if self._repairs is not None:
            self._repairs.stop()
            self._repairs = None

    # Evidence

    def peer_dead(self, node_id: int) -> None:
        """The node's process is gone. Remembered for the reigns to come until there is a sign of life, or until the
        node has registered in another one.

        May be called again: it is news if another process has registered since. If the same one has been heard of
        since, it cannot be reached from here, which is no proof of anything.
        """
        if self._is_accused(node_id):
            return
        self._accused[node_id] = self._incarnation_of(node_id)
        self._dead.add(node_id)
        if self._reign is not None:
            self._reign.suspect((node_id,))

    def peer_alive(self, node_id: int) -> None:
        self._accused.pop(node_id, None)
        self._dead.discard(node_id)

    def _is_accused(self, node_id: int) -> bool:
        """Whether the evidence was about the process that is registered now."""
        return node_id in self._accused and self._accused[node_id] == self._incarnation_of(node_id)

    def _incarnation_of(self, node_id: int) -> str | None:
        broker = self._view.image.brokers.get(node_id)
        return None if broker is None else broker.incarnation

    # Requests

    async def handle(self, request: AnyRequest, caller: int) -> RpcResponse:
        """The answer to a request of node `caller`, once what it says is committed and applied here.

        NOT_CONTROLLER when this node does not reign, or ceases to before the commit: then the request may have been
        carried out or not. REQUEST_TIMED_OUT when too much waits to be committed: it was not carried out.
        """
        reign = self._reign
        if reign is None or reign.over:
            return self._not_controller(request)
        claimed = _node_of(request)
        if claimed is not None and claimed != caller:
            return _refuse(request, ErrorCode.cluster_authorization_failed, f"node {caller} speaks for {claimed}")
        try:
            return await self._commit(reign, request, self._decide(reign, request))
        except (NotLeader, RaftStopped):
            return self._not_controller(request)
        except Overloaded as error:
            return _refuse(request, ErrorCode.request_timed_out, str(error))

    def _decide(self, reign: Reign, request: AnyRequest) -> Decision[Any]:
        now = reign.now()
        if isinstance(request, Heartbeat):
            reign.reports.note(request, reign.image, now)
            return decide(reign.image, reign.policy, request, reign.rng, reports=reign.reports.by(now))
        live = isinstance(request, RegisterBroker) and reign.sessions.live(request.node_id, now)
        return decide(reign.image, reign.policy, request, reign.rng, session_live=live)

    async def _commit(self, reign: Reign, request: AnyRequest, decision: Decision[Any]) -> RpcResponse:
        response: RpcResponse = decision.response
        if isinstance(request, Heartbeat) and not response.error:
            self._sign_of_life(reign, request)
        if decision.records:
            waiting: asyncio.Future[int] | None = reign.submit(decision.records)
        else:
            waiting = reign.pending()
        if isinstance(request, RegisterBroker) and not response.error:
            # Not before it is proposed: a session is that of the registered incarnation.
            self._sign_of_life(reign, request)
        offset = reign.image.offset
        if waiting is not None:
            # The caller may give up waiting; the entry is in the log all the same.
            offset = await asyncio.shield(waiting)
        if decision.records:
            _tell(request, decision, self._view.image)
        return type(response)(**{**vars(response), "offset": offset})

    def _sign_of_life(self, reign: Reign, request: RegisterBroker | Heartbeat) -> None:
        self._dead.discard(request.node_id)
        if isinstance(request, Heartbeat) and request.want_shutdown:
            # It will fall silent soon, which is no news then.
            reign.sessions.end((request.node_id,))
        else:
            reign.heard(request.node_id)

    def _not_controller(self, request: AnyRequest) -> RpcResponse:
        leader = self._consensus.leader_id
        hint = None if leader == self._node_id else leader
        return request.response_type(
            error=ErrorCode.not_controller.value, message="This node is not the active controller.", controller_id=hint
        )

    # Preferred leaders

    def _schedule_rebalance(self, delay: float | None) -> None:
        if delay is not None:
            self._rebalancing = asyncio.get_running_loop().call_later(delay, self._rebalance)

    def _rebalance(self) -> None:
        reign = self._reign
        if reign is None or reign.over:
            return
        changes = rebalance(reign.image)
        delay = self._settings.rebalance_interval_s if len(changes) < MAX_REBALANCE else REBALANCE_PAUSE_S
        try:
            if changes:
                reign.submit(changes)
                log.info("preferred_leaders_elected", partitions=len(changes), term=reign.term)
        except (NotLeader, RaftStopped, Overloaded) as error:
            log.warning("leader_rebalance_put_off", reason=str(error))
        self._schedule_rebalance(delay)


def _node_of(request: AnyRequest) -> int | None:
    """The node in whose name a broker's request speaks; None for requests that any node may forward."""
    if isinstance(request, RegisterBroker | Heartbeat | AlterPartition | AllocateProducerIds):
        return request.node_id
    return None


def _refuse(request: AnyRequest, code: ErrorCode, message: str) -> RpcResponse:
    return request.response_type(error=code.value, message=message)


def _tell(request: AnyRequest, decision: Decision[Any], image: MetadataImage) -> None:
    """One event for each thing that an operator would ask about."""
    response = decision.response
    match request:
        case RegisterBroker():
            assert isinstance(response, RegisterBrokerResponse)
            log.info(
                "broker_registered",
                broker=request.node_id,
                epoch=response.epoch,
                incarnation=request.incarnation,
                clean_shutdown=request.clean_shutdown,
            )
        case UnregisterBroker():
            log.info("broker_unregistered", broker=request.broker_id)
        case AlterPartitionReassignments():
            assert isinstance(response, AlterPartitionReassignmentsResponse)
            begun = [f"{each.topic}-{each.partition}" for each in response.partitions if not each.error]
            log.info("partitions_reassigned", partitions=begun[:MAX_NAMED], count=len(begun))
        case UpdateFeatures():
            log.info("features_updated", levels={each.feature: each.level for each in request.updates})
        case Heartbeat(want_shutdown=True):
            log.info("broker_leaves", broker=request.node_id)
        case Heartbeat():
            if any(isinstance(record, BrokerChanged) for record in decision.records):
                log.info("broker_unfenced", broker=request.node_id)
            _tell_recovered(request, decision.records, image)
        case CreateTopics():
            log.info("topics_created", topics=_done(response), offset=image.offset)
        case DeleteTopics():
            log.info("topics_deleted", topics=_done(response), offset=image.offset)


def _tell_recovered(request: Heartbeat, records: Sequence[Record], image: MetadataImage) -> None:
    """Leaders of partitions of which nobody was known to have everything, by what replicas have told."""
    waited = {(each.topic_id, each.partition) for each in request.logs}
    found = [
        f"{image.topic_names[record.topic_id]}-{record.partition}: {record.leader}"
        for record in records
        if isinstance(record, PartitionChanged) and (record.topic_id, record.partition) in waited
    ]
    if found:
        log.warning("leaders_by_log", partitions=found[:MAX_NAMED], count=len(found))


def _done(response: RpcResponse) -> list[str | None]:
    assert isinstance(response, CreateTopicsResponse | DeleteTopicsResponse)
    return [topic.name for topic in response.topics if not topic.error]

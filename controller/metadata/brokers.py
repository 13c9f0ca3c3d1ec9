"""The life of a broker in the metadata: registered and fenced, unfenced, leaving, fenced again (KIP-500, KIP-631)."""

from collections.abc import Collection

from kio.schema.errors import ErrorCode

from ottla.controller.metadata.decision import Decision, Policy
from ottla.controller.metadata.election import NO_REPORTS, elect_leaderless, take_out
from ottla.controller.metadata.image import CORDONED, BrokerImage, MetadataImage
from ottla.controller.metadata.min_insync import pin_min_insync
from ottla.controller.metadata.records import (
    BrokerChanged,
    BrokerRegistered,
    BrokerUnregistered,
    ConfigChanged,
    ProducerIdsAllocated,
    Record,
)
from ottla.controller.metadata.recovery import Reports
from ottla.controller.rpc.models.brokers import (
    AllocateProducerIds,
    AllocateProducerIdsResponse,
    Heartbeat,
    HeartbeatResponse,
    RegisterBroker,
    RegisterBrokerResponse,
    UnregisterBroker,
    UnregisterBrokerResponse,
)

PRODUCER_ID_BLOCK = 1000


def register_broker(
    image: MetadataImage, policy: Policy, request: RegisterBroker, *, session_live: bool
) -> Decision[RegisterBrokerResponse]:
    """A new incarnation gets a new epoch and is fenced until it has caught up with the metadata.

    It leaves every ISR that has another member: whether its last stop was clean or not, it has not followed since.
    After an unclean one it may lack records that it had confirmed, so it is no eligible leader either (KIP-966): clean
    is only a stop of the very registration that the image knows, or, beyond KIP-966, of the one before if nothing came
    of the last: a process that dies before it hears of its registration cannot tell the next of it. The epoch is the
    Raft index that the registration is expected at, hence larger than all before. The first registration also makes
    min.insync.replicas the cluster's own.

    `session_live` says that the registered incarnation has lately been heard of.
    Answers INCONSISTENT_CLUSTER_ID or DUPLICATE_BROKER_REGISTRATION.
    """
    if request.cluster_id != image.cluster_id:
        return _not_registered(
            ErrorCode.inconsistent_cluster_id,
            f"Expected cluster ID {image.cluster_id}, but got cluster ID {request.cluster_id}",
        )
    before = image.brokers.get(request.node_id)
    clean = before is not None and request.clean_shutdown and before.knows_stop(request.previous_epoch)
    record = BrokerRegistered(
        id=request.node_id,
        epoch=image.offset + 1,
        incarnation=request.incarnation,
        listeners=tuple((listener.name, listener.host, listener.port) for listener in request.listeners),
        rack=request.rack,
        http=request.http,
        previous_epoch=request.previous_epoch if clean else -1,
    )
    if before is None:
        # New, or unregistered once: then it may still be what an ISR has left, and nobody knows what became of it.
        return Decision(
            (
                record,
                *pin_min_insync(image, policy),
                *take_out(image, policy, {request.node_id}, lost={request.node_id}),
            ),
            RegisterBrokerResponse(epoch=record.epoch),
        )
    if before.incarnation != request.incarnation and session_live:
        return _not_registered(
            ErrorCode.duplicate_broker_registration,
            f"Another broker is registered with broker id {request.node_id} and is alive",
        )
    if _same_registration(before, record):
        # The answer to the first attempt was lost.
        return Decision((), RegisterBrokerResponse(epoch=before.epoch))
    # A process that registers again has lost nothing: it never stopped.
    lost = () if clean or before.incarnation == request.incarnation else (request.node_id,)
    return Decision(
        (record, *pin_min_insync(image, policy), *take_out(image, policy, {request.node_id}, lost=lost)),
        RegisterBrokerResponse(epoch=record.epoch),
    )


def _not_registered(code: ErrorCode, message: str) -> Decision[RegisterBrokerResponse]:
    return Decision((), RegisterBrokerResponse(error=code.value, message=message))


def _same_registration(before: BrokerImage, record: BrokerRegistered) -> bool:
    listeners = tuple((listener.name, listener.host, listener.port) for listener in before.listeners)
    return (before.incarnation, listeners, before.rack, before.http) == (
        record.incarnation,
        record.listeners,
        record.rack,
        record.http,
    )


def heartbeat(
    image: MetadataImage, policy: Policy, request: Heartbeat, reports: Reports = NO_REPORTS
) -> Decision[HeartbeatResponse]:
    """Unfences a broker that has caught up with its registration, sees a leaving one off, and elects leaders once
    enough replicas have told of their logs, by `reports`, which has what comes with this heartbeat.

    A broker that wants to shut down loses its leaderships and its places in ISRs and is fenced in one entry; the
    answer, given after that is committed, lets it go. Where it was the last of an ISR the partition has no leader
    until it is back.
    Answers BROKER_ID_NOT_REGISTERED or STALE_BROKER_EPOCH.
    """
    broker = image.brokers.get(request.node_id)
    if broker is None:
        return _no_heartbeat(policy, ErrorCode.broker_id_not_registered)
    if broker.epoch != request.epoch:
        return _no_heartbeat(policy, ErrorCode.stale_broker_epoch)
    session_ms = policy.session_timeout_ms
    if broker.in_controlled_shutdown or request.want_shutdown:
        gone = HeartbeatResponse(fenced=True, should_shutdown=True, session_ms=session_ms)
        return Decision(() if broker.in_controlled_shutdown else tuple(_see_off(image, policy, broker)), gone)
    if broker.fenced and request.applied_offset >= broker.epoch:
        unfenced = BrokerChanged(id=broker.id, epoch=broker.epoch, fenced=False)
        return Decision(
            (unfenced, *elect_leaderless(image, policy, returned=broker.id, reports=reports)),
            HeartbeatResponse(fenced=False, session_ms=session_ms),
        )
    topics = {topic.name for each in request.logs if (topic := image.topic_by_id(each.topic_id)) is not None}
    elected = elect_leaderless(image, policy, topics=sorted(topics), reports=reports)
    return Decision(tuple(elected), HeartbeatResponse(fenced=broker.fenced, session_ms=session_ms))


def _see_off(image: MetadataImage, policy: Policy, broker: BrokerImage) -> list[Record]:
    leaving = BrokerChanged(
        id=broker.id, epoch=broker.epoch, fenced=None if broker.fenced else True, in_controlled_shutdown=True
    )
    return [leaving, *take_out(image, policy, {broker.id})]


def _no_heartbeat(policy: Policy, code: ErrorCode) -> Decision[HeartbeatResponse]:
    return Decision((), HeartbeatResponse(error=code.value, session_ms=policy.session_timeout_ms))


def unregister_broker(
    image: MetadataImage, policy: Policy, request: UnregisterBroker
) -> Decision[UnregisterBrokerResponse]:
    """The broker leaves as if it were fenced, and its registration is gone, and with it a cordon. It stays a replica
    where it is one, for that is for a reassignment to change. Answers BROKER_ID_NOT_REGISTERED."""
    broker = image.brokers.get(request.broker_id)
    if broker is None:
        return Decision(
            (),
            UnregisterBrokerResponse(
                error=ErrorCode.broker_id_not_registered.value,
                message=f"Broker ID {request.broker_id} is not currently registered",
            ),
        )
    gone = BrokerUnregistered(id=broker.id, epoch=broker.epoch)
    name = str(broker.id)
    cordoned = CORDONED in image.configs.get(("broker", name), {})
    cordon = (ConfigChanged(kind="broker", name=name, key=CORDONED),) if cordoned else ()
    return Decision((gone, *cordon, *take_out(image, policy, {broker.id})), UnregisterBrokerResponse())


def fence(image: MetadataImage, policy: Policy, broker_ids: Collection[int]) -> tuple[Record, ...]:
    """These brokers are fenced, with all that follows for their partitions, in one entry. Who is fenced stays so."""
    fencing = {
        broker_id for broker_id in broker_ids if broker_id in image.brokers and not image.brokers[broker_id].fenced
    }
    if not fencing:
        return ()
    fenced = [
        BrokerChanged(id=broker_id, epoch=image.brokers[broker_id].epoch, fenced=True) for broker_id in sorted(fencing)
    ]
    return (*fenced, *take_out(image, policy, fencing))


def allocate_producer_ids(image: MetadataImage, request: AllocateProducerIds) -> Decision[AllocateProducerIdsResponse]:
    """The next block of producer ids (KIP-730). Answers STALE_BROKER_EPOCH."""
    if not knows_epoch(image, request.node_id, request.broker_epoch):
        return Decision((), AllocateProducerIdsResponse(error=ErrorCode.stale_broker_epoch.value))
    first = image.next_producer_id
    record = ProducerIdsAllocated(
        node_id=request.node_id,
        broker_epoch=request.broker_epoch,
        next_producer_id=first + PRODUCER_ID_BLOCK,
    )
    return Decision((record,), AllocateProducerIdsResponse(first=first, count=PRODUCER_ID_BLOCK))


def knows_epoch(image: MetadataImage, broker_id: int, epoch: int) -> bool:
    """Whether this is the present incarnation of a registered broker."""
    broker = image.brokers.get(broker_id)
    return broker is not None and broker.epoch == epoch

"""Brokers that register and live, and what they ask for beside."""

from uuid import UUID

from pydantic import Field

from ottla.controller.rpc.models.base import RpcModel, RpcRequest, RpcResponse

# In one heartbeat; more than that of one broker wait for those to get leaders.
MAX_REPLICA_LOGS = 10_000


class ListenerModel(RpcModel):
    """One advertised listener: clients are told to come to `host`:`port`."""

    name: str
    host: str
    port: int = Field(ge=0, le=65535)


class RegisterBrokerResponse(RpcResponse):
    """`epoch` is the broker's epoch from now on; it goes into every later request of this incarnation."""

    epoch: int = -1


class RegisterBroker(RpcRequest[RegisterBrokerResponse]):
    """A broker process has started (KIP-500, KIP-631).

    `incarnation` is drawn once per process. `clean_shutdown` says that all is still there that the last
    registered process on this directory has answered for; `previous_epoch` is its epoch (-1 unknown), as in KIP-966.
    """

    response_type = RegisterBrokerResponse
    node_id: int = Field(ge=0)
    incarnation: str
    cluster_id: str
    listeners: tuple[ListenerModel, ...]
    rack: str | None = None
    http: str = ""
    clean_shutdown: bool = False
    previous_epoch: int = -1


class HeartbeatResponse(RpcResponse):
    """`session_ms`: the broker is fenced when no heartbeat has come for so long."""

    fenced: bool = True
    should_shutdown: bool = False
    session_ms: int = 0


class ReplicaLogModel(RpcModel):
    """What a broker has of a partition that waits for its replicas to tell that, in its present leader epoch:
    `last_epoch` is that of the last record, -1 for none, and `end` the offset after it."""

    topic_id: UUID
    partition: int = Field(ge=0)
    leader_epoch: int
    last_epoch: int
    end: int = Field(ge=0)


class Heartbeat(RpcRequest[HeartbeatResponse]):
    """`applied_offset`: Raft index up to which the broker has applied the metadata. `logs`: of partitions whose ISR and
    ELR are empty."""

    response_type = HeartbeatResponse
    node_id: int
    epoch: int
    applied_offset: int
    want_shutdown: bool = False
    logs: tuple[ReplicaLogModel, ...] = Field(default=(), max_length=MAX_REPLICA_LOGS)


class AllocateProducerIdsResponse(RpcResponse):
    """The ids `first` to `first + count - 1` belong to the asking broker."""

    first: int = -1
    count: int = 0


class AllocateProducerIds(RpcRequest[AllocateProducerIdsResponse]):
    """A block of producer ids that nobody else was or will be given (KIP-730)."""

    response_type = AllocateProducerIdsResponse
    node_id: int
    broker_epoch: int


class UnregisterBrokerResponse(RpcResponse):
    """`error` and `message` say it all."""


class UnregisterBroker(RpcRequest[UnregisterBrokerResponse]):
    """A broker that will not come back is taken out of the cluster (KIP-500)."""

    response_type = UnregisterBrokerResponse
    broker_id: int

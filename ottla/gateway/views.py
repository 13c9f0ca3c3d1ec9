"""What the gateway may see of the node: read-only, and looked at only when somebody asks."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ottla.controller import MetadataImage


class ReplicaRow(NamedTuple):
    """One replica on this node. `followers` (end offset by broker, -1 unknown) is for the leader only. Those that are
    only being added do not count among `replicas`. `producers` are those whose sequences are remembered; `late`: a
    transaction is open for longer than any may be."""

    topic: str
    partition: int
    is_leader: bool
    leader_epoch: int
    high_watermark: int
    log_start_offset: int
    log_end_offset: int
    size: int
    min_insync: int
    replicas: int
    in_sync: int
    followers: Mapping[int, int]
    reassigning: bool = False
    last_stable_offset: int = -1
    producers: int = 0
    late: bool = False


class GroupRow(NamedTuple):
    """One group that this node coordinates. `offsets` is by (topic, partition)."""

    group: str
    state: str
    members: int
    offsets: Mapping[tuple[str, int], int]


class Traffic(Protocol):
    """Counters of the Kafka listeners since the start (`ottla.wire.Stats`); `requests` is by api key."""

    connections: int
    accepted: int
    refused: int
    errors: int
    failures: int
    bytes_in: int
    bytes_out: int
    requests: dict[int, int]


class Quorum(Protocol):
    """This node's view of the Raft quorum (`ottla.broker.QuorumStatus`)."""

    @property
    def leader_id(self) -> int: ...
    @property
    def term(self) -> int: ...
    @property
    def high_watermark(self) -> int: ...


class Changes(Protocol):
    """Counters of what happened to partitions (`MetadataChanges`)."""

    isr_shrinks: int
    isr_expands: int
    elections: int
    unclean_elections: int


class Cleaner(Protocol):
    """How the log cleaner fares (`ottla.log.CleanerStatus`)."""

    @property
    def uncleanable(self) -> int: ...
    @property
    def max_dirty_ratio(self) -> float: ...


class Transactions(Protocol):
    """The transactional ids that the node coordinates (`ottla.broker.TransactionSummary`)."""

    @property
    def states(self) -> Mapping[str, int]: ...
    @property
    def oldest_s(self) -> float: ...
    @property
    def markers(self) -> int: ...
    @property
    def unverified(self) -> int: ...


@dataclass(frozen=True, slots=True)
class NodeViews:
    """Callables, so that nothing is held on to and nothing is worked out before a request asks for it.

    `reasons_not_ready` is empty when the node is registered, unfenced and caught up. `raft_log_end` is the index after
    the last entry here. `standings` is the death watch's opinion of every peer. On a node without the broker role
    `replicas`, `groups`, `transactions`, `traffic` and `cleaner` yield nothing.
    """

    node_id: int
    reasons_not_ready: Callable[[], Mapping[str, str]]
    image: Callable[[], MetadataImage]
    quorum: Callable[[], Quorum]
    is_active_controller: Callable[[], bool]
    raft_log_end: Callable[[], int]
    raft_dropped: Callable[[], int] = lambda: 0
    standings: Callable[[], Mapping[int, str]] = dict
    replicas: Callable[[], Iterable[ReplicaRow]] = tuple
    groups: Callable[[], Iterable[GroupRow]] = tuple
    transactions: Callable[[], Transactions | None] = lambda: None
    traffic: Callable[[], Traffic | None] = lambda: None
    changes: Callable[[], Changes | None] = lambda: None
    cleaner: Callable[[], Cleaner | None] = lambda: None

"""Kafka's broker keys beside the settings of this node: those that are taken without effect, those that are refused,
and where a served one is not quite Kafka's. A reason for each, as data.

A test holds these tables, and those of what is served, against all keys of Kafka 4.1 with their types and defaults.
"""

from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType

from ottla.controller import ConfigDef, ConfigType, ConfigValue

_LOOP = "a node is one event loop and does not divide its work among threads"
_PURGATORY = "requests that wait are let go when they are answered"
_RAFT = "the metadata log is replicated by Raft's own AppendEntries and has no such timer"
_METADATA_LOG = "snapshots of the metadata go by entries and bytes, and the log before them is dropped"
_WINDOWS = "quotas are token buckets that hold ten seconds, as long as Kafka's windows by default"
_CLEANER = "one log is compacted at a time, chunk by chunk, and no faster or slower than the disk allows"
_STATES = "what coordinators keep is read as other logs are"
_SOCKET = "the system chooses"
_PEERS = "requests between nodes have deadlines of their own"
_SHARE = "share groups (KIP-932) are not implemented"
_STREAMS = "streams groups (KIP-1071) are not implemented"
_TIERED = "tiered storage (KIP-405) is not implemented"
_METRICS = "metrics are scraped from ottla.http.listener"
_CLASS = "no classes of Java can be loaded"
_SASL = "clients do not authenticate themselves"
_TLS = "connections are plain TCP"

INERT_ROWS = """
add.partitions.to.txn.retry.backoff.max.ms INT 100
add.partitions.to.txn.retry.backoff.ms INT 20
alter.log.dirs.replication.quota.window.num INT 11
alter.log.dirs.replication.quota.window.size.seconds INT 1
background.threads INT 10
controller.quorum.append.linger.ms INT 25
controller.quorum.election.backoff.max.ms INT 1000
controller.quorum.fetch.timeout.ms INT 2000
controller.quorum.request.timeout.ms INT 2000
controller.quorum.retry.backoff.ms INT 20
controller.quota.window.num INT 11
controller.quota.window.size.seconds INT 1
controller.socket.timeout.ms INT 30000
delete.records.purgatory.purge.interval.requests INT 1
fetch.purgatory.purge.interval.requests INT 1000
group.consumer.assignors LIST uniform,range
group.coordinator.append.linger.ms INT 5
group.coordinator.rebalance.protocols LIST classic,consumer
group.coordinator.threads INT 4
initial.broker.registration.timeout.ms INT 60000
log.cleaner.io.buffer.load.factor DOUBLE 0.9
log.cleaner.io.buffer.size INT 524288
log.cleaner.io.max.bytes.per.second DOUBLE 1.7976931348623157E308
log.cleaner.threads INT 1
log.dir.failure.timeout.ms LONG 30000
log.flush.start.offset.checkpoint.interval.ms INT 60000
metadata.log.max.snapshot.interval.ms LONG 3600000
metadata.log.segment.bytes INT 1073741824
metadata.log.segment.ms LONG 604800000
metadata.max.idle.interval.ms INT 500
metadata.max.retention.bytes LONG 104857600
metadata.max.retention.ms LONG 604800000
num.io.threads INT 8
num.network.threads INT 3
num.recovery.threads.per.data.dir INT 2
num.replica.alter.log.dirs.threads INT
num.replica.fetchers INT 1
offsets.load.buffer.size INT 5242880
offsets.topic.compression.codec INT 0
producer.purgatory.purge.interval.requests INT 1000
queued.max.requests INT 500
quota.window.num INT 11
quota.window.size.seconds INT 1
replica.fetch.backoff.ms INT 1000
replica.socket.receive.buffer.bytes INT 65536
replication.quota.window.num INT 11
replication.quota.window.size.seconds INT 1
request.timeout.ms INT 30000
security.inter.broker.protocol STRING PLAINTEXT
share.coordinator.state.topic.min.isr SHORT 2
share.coordinator.state.topic.replication.factor SHORT 3
socket.connection.setup.timeout.max.ms LONG 30000
socket.connection.setup.timeout.ms LONG 10000
socket.receive.buffer.bytes INT 102400
socket.send.buffer.bytes INT 102400
transaction.abort.timed.out.transaction.cleanup.interval.ms INT 10000
transaction.partition.verification.enable BOOLEAN true
transaction.state.log.load.buffer.size INT 5242880
transaction.two.phase.commit.enable BOOLEAN false
"""

_WHY_INERT: Mapping[str, str] = {
    "add.partitions.to.txn.retry.backoff*": "the client is told to ask again",
    "alter.log.dirs.replication.quota.window.*": "there is one data directory, between which nothing moves",
    "background.threads": _LOOP,
    "controller.quorum.*": _RAFT,
    "controller.quota.window.*": _WINDOWS,
    "controller.socket.timeout.ms": _PEERS,
    "*.purgatory.purge.interval.requests": _PURGATORY,
    "group.consumer.assignors": "both are always there, and uniform is the default",
    "group.coordinator.append.linger.ms": "records of a coordinator do not wait for more of them",
    "group.coordinator.rebalance.protocols": "every protocol that is implemented is always on",
    "group.coordinator.threads": _LOOP,
    "initial.broker.registration.timeout.ms": "a broker goes on trying to register",
    "log.cleaner.io.*": _CLEANER,
    "log.cleaner.threads": _CLEANER,
    "log.dir.failure.timeout.ms": "a node without its one data directory ends",
    "log.flush.start.offset.checkpoint.interval.ms": "log start offsets go with the recovery points",
    "metadata.max.idle.interval.ms": "the leader's heartbeats are no entries of the log",
    "metadata.*": _METADATA_LOG,
    "num.*": _LOOP,
    "offsets.load.buffer.size": _STATES,
    "offsets.topic.compression.codec": "records of coordinators are not compressed",
    "queued.max.requests": "queued.max.request.bytes bounds them",
    "quota.window.*": _WINDOWS,
    "replica.fetch.backoff.ms": "the time between attempts grows from one to the next",
    "replica.socket.receive.buffer.bytes": _SOCKET,
    "replication.quota.window.*": _WINDOWS,
    "request.timeout.ms": _PEERS,
    "security.inter.broker.protocol": "PLAINTEXT is the only one so far",
    "share.coordinator.*": _SHARE,
    "socket.connection.setup.timeout.*": _PEERS,
    "socket.*.buffer.bytes": _SOCKET,
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "each transaction has a timer of its own",
    "transaction.partition.verification.enable": "partitions are always verified with the coordinator (KIP-890)",
    "transaction.state.log.load.buffer.size": _STATES,
    "transaction.two.phase.commit.enable": "two-phase commit (KIP-939) is not implemented",
}
"""By patterns; the first that matches a name is its reason."""

_FIXED = frozenset(
    {
        "group.consumer.assignors",
        "security.inter.broker.protocol",
        "transaction.partition.verification.enable",
        "transaction.two.phase.commit.enable",
    }
)
"""What another value would promise is not so: it is refused."""

UNDESCRIBED = frozenset(
    {
        "broker.id.generation.enable",
        "confluent.support.metrics.enable",
        "controlled.shutdown.max.retries",
        "controlled.shutdown.retry.backoff.ms",
        "group.coordinator.new.enable",
        "leader.imbalance.per.broker.percentage",
        "log.initial.task.delay.ms",
        "producer.id.expiration.check.interval.ms",
        "reserved.broker.max.id",
    }
)
"""Taken without effect too, as files for Kafka 3 have them; to Kafka 4 they are unknown, or internal. (Kafka 4 moves
every leadership to its preferred replica, whatever leader.imbalance.per.broker.percentage says, and so do we.)"""

REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "alter.config.policy.class.name": _CLASS,
        "authorizer.class.name": "there is no authorizer: every client may do everything",
        "client.quota.callback.class": _CLASS,
        "connection.failed.authentication.delay.ms": _SASL,
        "connections.max.reauth.ms": _SASL,
        "create.topic.policy.class.name": f"{_CLASS}; ottla.policy. begins the limits that there are",
        "delegation.token.*": "delegation tokens (KIP-48): clients do not authenticate themselves",
        "early.start.listeners": "the controller listener always starts first",
        "group.share.*": _SHARE,
        "group.streams.*": _STREAMS,
        "kafka.metrics.*": _METRICS,
        "local.retention.*": _TIERED,
        "log.local.retention.*": _TIERED,
        "metadata.log.dir": "the metadata log is in log.dirs",
        "metric.reporters": _METRICS,
        "metrics.*": _METRICS,
        "principal.builder.class": _CLASS,
        "remote.*": _TIERED,
        "replica.alter.log.dirs.io.max.bytes.per.second": "there is one data directory, between which nothing moves",
        "sasl.*": _SASL,
        "security.providers": _CLASS,
        "share.*": _SHARE,
        "ssl.*": _TLS,
        "streams.*": _STREAMS,
        "telemetry.max.bytes": "metrics of clients (KIP-714) are not taken",
    }
)
"""Keys that nothing here goes by, of brokers, topics and groups, by patterns. A file that has one is refused, since
what it asks for would not be so; those of `INERT` come first."""

DIFFERENT: Mapping[str, str] = MappingProxyType(
    {
        "broker.id": "means node.id, and is described as that",
        "controller.listener.names": "has a default, so that the smallest file is smaller",
        "group.coordinator.rebalance.protocols": _STREAMS,
        "listener.security.protocol.map": "PLAINTEXT is the only protocol; listeners do not change at run time",
        "listeners": "the default is for one node alone; listeners do not change at run time",
        "log.dir": "means log.dirs, and is described as that",
        "log.dirs": "has the default that log.dir has in Kafka, as both are one",
        "max.connections": "an unbounded number of connections would be memory without bound",
        "process.roles": "has a default, so that the smallest file is smaller",
        "queued.max.request.bytes": "requests without limit would be memory without bound",
        "socket.listen.backlog.size": "many clients come back at once when a node dies",
    }
)
"""Served keys whose type or default is not Kafka's, or that Kafka changes at run time and we do not."""


def why(patterns: Mapping[str, str], name: str) -> str | None:
    """The reason of the first pattern that matches."""
    return next((reason for pattern, reason in patterns.items() if fnmatchcase(name, pattern)), None)


def _only(default: str) -> Callable[[ConfigValue], str | None]:
    def check(value: ConfigValue) -> str | None:
        text = ",".join(value) if isinstance(value, tuple) else str(value)
        return None if text.lower() == default.lower() else f"only {default} is supported"

    return check


def _inert() -> Iterator[ConfigDef]:
    for row in INERT_ROWS.strip().splitlines():
        name, kind, *default = row.split(" ")
        yield ConfigDef(
            name=name,
            type=ConfigType[kind],
            default=default[0] if default else None,
            doc=f"Taken without effect: {why(_WHY_INERT, name)}.",
            check=_only(*default) if name in _FIXED else None,
            dynamic=False,
        )


INERT: Mapping[str, ConfigDef] = MappingProxyType({row.name: row for row in _inert()})
"""Kafka's keys that are taken without effect, with Kafka's types and defaults. They can be described but not changed
while the node runs: a change would look as if it had been one."""

"""The table of a node's own settings: name, type, default and meaning, as data.

An attribute is Kafka's name with underscores for dots. Names, types and defaults are Kafka's (KIP-1030 included) unless
the row says so; `ottla.` begins what Kafka does not have. Settings that are the defaults of topic configs
(`log.retention.ms`, `min.insync.replicas`, ...) are not here but in the controller's table, `TOPIC_DEFAULTS`.
"""

from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from ottla.node.endpoints import Endpoint, Voter, overrides_error

_INT_MAX = 2**31 - 1
_LONG_MAX = 2**63 - 1
_MiB = 1024 * 1024


def _key(
    default: object,
    doc: str,
    *,
    kind: str | None = None,
    dynamic: bool = False,
    check: Callable[[Any], str | None] | None = None,
    **bounds: Any,
) -> Any:
    """`kind` is Kafka's type where it is not what the annotation suggests. A `dynamic` one can be changed while the
    node runs, for one broker or for all (KIP-226). `check` finds what else is wrong with a value."""
    extra: Any = {"kind": kind, "dynamic": dynamic, "check": check}
    return Field(default=default, description=doc, validate_default=False, json_schema_extra=extra, **bounds)


class Settings(BaseModel):
    """Every field is one setting. Values may be text, as files and variables give it."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=lambda name: name.replace("_", "."))

    # Who this node is
    node_id: int = _key(..., "This node's id, unique in the cluster.", ge=0, le=_INT_MAX)
    cluster_id: str = _key(
        ..., "The cluster's id, the same on every node.", min_length=1, max_length=64, pattern=r"^[!-~]+$"
    )
    process_roles: tuple[Literal["broker", "controller"], ...] = _key(
        ("broker", "controller"), "broker, controller or both. (Kafka has no default.)"
    )
    broker_rack: str | None = _key(None, "The rack of this broker; replicas are spread over racks (KIP-36).")

    # Where it listens
    listeners: tuple[Endpoint, ...] = _key(
        (Endpoint("PLAINTEXT", "127.0.0.1", 9092), Endpoint("CONTROLLER", "127.0.0.1", 9093)),
        "Where this node listens, as NAME://host:port,... An empty host means all interfaces. A broker-only node needs "
        "the controller listener too: the metadata log is pushed to it. (Kafka's default is PLAINTEXT://:9092.)",
        kind="string",
    )
    advertised_listeners: tuple[Endpoint, ...] = _key(
        (), "Where others are told to come; what is not named here is advertised as in listeners.", kind="string"
    )
    listener_security_protocol_map: dict[str, str] = _key(
        {}, "The protocol of each listener, as NAME:PROTOCOL,... PLAINTEXT is the only one so far.", kind="string"
    )
    inter_broker_listener_name: str = _key(
        "", "The listener that brokers replicate through; by default PLAINTEXT, or the only one."
    )
    controller_listener_names: str = _key("CONTROLLER", "The listener that nodes speak to each other through.")
    controller_quorum_voters: tuple[Voter, ...] = _key(
        (),
        "The controllers, as id@host:port,... A new cluster begins when all of them have been there at once. They vote "
        "until voters are added or removed (KIP-853), and keep this setting until then.",
    )
    controller_quorum_bootstrap_servers: tuple[tuple[str, int], ...] = _key(
        (),
        "Where nodes of the cluster listen for others, as host:port,... A node without controller.quorum.voters asks "
        "there who votes; one that has both asks when it finds no leader (KIP-853). (In Kafka a new cluster can begin "
        "with this alone.)",
    )
    ottla_http_listener: tuple[str, int] | None = _key(
        None, "host:port of /healthz, /readyz and /metrics; not served when unset."
    )
    ottla_cluster_secret: SecretStr | None = _key(None, "The secret that lets a node in, 16 bytes or more.")
    ottla_cluster_secret_file: str | None = _key(None, "A file that holds the secret instead.")

    # Liveness and consensus
    broker_session_timeout_ms: int = _key(9000, "Silence after which a broker is fenced.", ge=1)
    broker_heartbeat_interval_ms: int = _key(2000, "Time between a broker's heartbeats.", ge=1)
    controller_quorum_election_timeout_ms: int = _key(
        1000,
        "Time without a leader's word after which a controller campaigns, or up to twice that; a leader without a "
        "majority's word for as long resigns.",
        ge=10,
    )
    controlled_shutdown_enable: bool = _key(True, "Whether a stopping broker hands its leaderships over first.")
    auto_leader_rebalance_enable: bool = _key(True, "Whether preferred leaders are restored by themselves.")
    leader_imbalance_check_interval_seconds: int = _key(300, "How often they are.", ge=1, kind="long")

    # Topics
    num_partitions: int = _key(1, "Partitions of a topic that does not say.", ge=1)
    default_replication_factor: int = _key(1, "Replication factor of a topic that does not say.", ge=1, le=32767)
    auto_create_topics_enable: bool = _key(True, "Whether asking for an unknown topic makes it.")
    delete_topic_enable: bool = _key(True, "Whether topics can be deleted.")

    ottla_policy_max_partitions_per_request: int = _key(
        10_000, "Partitions that one request may make, or reassign; more are a POLICY_VIOLATION.", ge=1
    )
    ottla_policy_max_partitions_per_topic: int = _key(
        _INT_MAX,
        "Partitions that a topic may be given, when it is made or later; more are a POLICY_VIOLATION. Internal topics "
        "are what the cluster needs, here and below.",
        ge=1,
        le=_INT_MAX,
    )
    ottla_policy_min_replication_factor: int = _key(
        1, "The least replication factor of a new topic; less is a POLICY_VIOLATION.", ge=1, le=32767
    )
    ottla_policy_max_replication_factor: int = _key(
        32767, "The greatest replication factor of a new topic; more is a POLICY_VIOLATION.", ge=1, le=32767
    )

    # Replication
    replica_lag_time_max_ms: int = _key(30_000, "Lag after which a follower leaves the ISR.", ge=1, kind="long")
    replica_fetch_wait_max_ms: int = _key(500, "The longest a follower's fetch waits.", ge=0)
    replica_fetch_min_bytes: int = _key(1, "Bytes for which it waits.", ge=0)
    replica_fetch_max_bytes: int = _key(_MiB, "Bytes per partition in a follower's fetch.", ge=1)
    replica_fetch_response_max_bytes: int = _key(10 * _MiB, "Bytes in all in a follower's fetch.", ge=1)
    leader_replication_throttled_rate: int = _key(
        _LONG_MAX,
        "Bytes per second that this broker sends, as leader of partitions of which "
        "leader.replication.throttled.replicas names it, to replicas that are not in sync (KIP-73). (In Kafka those "
        "that are in sync count too.)",
        ge=0,
        kind="long",
        dynamic=True,
    )
    follower_replication_throttled_rate: int = _key(
        _LONG_MAX,
        "Bytes per second that this broker fetches for its replicas that are not in sync and that "
        "follower.replication.throttled.replicas names (KIP-73).",
        ge=0,
        kind="long",
        dynamic=True,
    )
    replica_socket_timeout_ms: int = _key(
        30_000, "How long a follower's fetch may take beyond its wait before its leader is taken for dead.", ge=1
    )
    replica_selector_class: Literal["", "org.apache.kafka.common.replica.RackAwareReplicaSelector"] = _key(
        "",
        "Who picks the replica that a consumer reads from (KIP-392): by default it is the leader, with Kafka's "
        "org.apache.kafka.common.replica.RackAwareReplicaSelector a replica of the ISR in the consumer's rack. "
        "(Kafka takes any class.)",
    )
    replica_high_watermark_checkpoint_interval_ms: int = _key(
        5000, "How often high watermarks are written down.", ge=1, kind="long"
    )

    # Where replicas are
    cordoned_log_dirs: tuple[str, ...] = _key(
        (),
        "* keeps this broker from being given more replicas, of new partitions or by a repair (KIP-1066). Set it with "
        "IncrementalAlterConfigs: a node's file cannot have it.",
        dynamic=True,
    )
    ottla_repair_after_ms: int = _key(
        900_000,
        "How long a broker may be away before its replicas are rebuilt on others; -1 for as long as it likes. It is "
        "what controllers have seen: a change of controller adds the time without one, and at most a sixteenth of this "
        "and five seconds.",
        ge=-1,
        kind="long",
    )
    ottla_repair_partitions: int = _key(20, "How many partitions are repaired at a time.", ge=1)
    ottla_repair_throttled_rate: int = _key(
        50 * _MiB,
        "Bytes per second that this broker fetches for replicas that are being rebuilt on it by a repair.",
        ge=0,
        kind="long",
        dynamic=True,
    )

    # The log
    log_dirs: str = _key("/tmp/kafka-logs", "The data directory; one, so far. log.dir means the same.", min_length=1)
    ottla_flush: Literal["os", "synced"] = _key(
        "os", "os: the page cache, as Kafka. synced: records are on disk before they are acknowledged."
    )
    log_retention_check_interval_ms: int = _key(300_000, "How often old segments are looked for.", ge=1, kind="long")
    log_cleaner_enable: bool = _key(True, "Whether compacted logs are compacted.")
    log_cleaner_backoff_ms: int = _key(
        15_000, "How often compacted logs are looked at.", ge=1, kind="long", dynamic=True
    )
    log_cleaner_dedupe_buffer_size: int = _key(
        134_217_728,
        "Memory for the keys of a log that is compacted; more keys take several rounds.",
        ge=1_048_576,
        kind="long",
        dynamic=True,
    )
    log_flush_offset_checkpoint_interval_ms: int = _key(
        60_000, "How often recovery points and log start offsets are written down.", ge=1
    )
    metadata_log_max_record_bytes_between_snapshots: int = _key(
        20 * _MiB, "Bytes of metadata log after which a snapshot is taken.", ge=1, kind="long"
    )
    producer_id_expiration_ms: int = _key(86_400_000, "How long an idle producer's state is kept.", ge=1, dynamic=True)

    # Consumer groups
    group_initial_rebalance_delay_ms: int = _key(
        3000, "How long an empty group waits for more members before its first rebalance (KIP-134).", ge=0
    )
    group_min_session_timeout_ms: int = _key(6000, "The shortest session that a member may ask for.", ge=1)
    group_max_session_timeout_ms: int = _key(1_800_000, "The longest session that a member may ask for.", ge=1)
    group_max_size: int = _key(_INT_MAX, "Most members of a group (KIP-389).", ge=1, le=_INT_MAX)
    group_consumer_session_timeout_ms: int = _key(
        45_000, "Silence after which a member of a KIP-848 group is out.", ge=1
    )
    group_consumer_heartbeat_interval_ms: int = _key(5000, "Time between heartbeats in KIP-848 groups.", ge=1)
    group_consumer_min_session_timeout_ms: int = _key(
        45_000, "The shortest session that may be set for a KIP-848 group.", ge=1
    )
    group_consumer_max_session_timeout_ms: int = _key(
        60_000, "The longest session that may be set for a KIP-848 group.", ge=1
    )
    group_consumer_min_heartbeat_interval_ms: int = _key(
        5000, "The shortest time between heartbeats that may be set for a KIP-848 group.", ge=1
    )
    group_consumer_max_heartbeat_interval_ms: int = _key(
        15_000, "The longest time between heartbeats that may be set for a KIP-848 group.", ge=1
    )
    group_consumer_max_size: int = _key(_INT_MAX, "Most members of a KIP-848 group.", ge=1, le=_INT_MAX)
    group_consumer_migration_policy: Literal["disabled", "upgrade", "downgrade", "bidirectional"] = _key(
        "bidirectional", "Whether groups with members move to the KIP-848 protocol (upgrade), and back (downgrade)."
    )
    offset_metadata_max_bytes: int = _key(4096, "The largest metadata of a committed offset.", ge=0)
    offsets_commit_timeout_ms: int = _key(5000, "The longest a commit waits to be replicated.", ge=1)
    offsets_retention_minutes: int = _key(
        10_080, "How long offsets are kept that no member of the group may need any more (KIP-211).", ge=1
    )
    offsets_retention_check_interval_ms: int = _key(
        600_000, "How often such offsets are looked for.", ge=1, kind="long"
    )
    offsets_topic_num_partitions: int = _key(50, "Partitions of __consumer_offsets, when it is made.", ge=1)
    offsets_topic_replication_factor: int = _key(
        3,
        "Replicas of __consumer_offsets, when it is made; no more than there are brokers then. (Kafka refuses to make "
        "it with fewer.)",
        ge=1,
        le=32767,
        kind="short",
    )
    offsets_topic_segment_bytes: int = _key(100 * _MiB, "Segment size of __consumer_offsets, when it is made.", ge=1)

    # Transactions
    transactional_id_expiration_ms: int = _key(
        604_800_000, "How long a transactional id is kept that nobody uses.", ge=1
    )
    transaction_max_timeout_ms: int = _key(900_000, "The longest transaction that a producer may ask for.", ge=1)
    transaction_remove_expired_transaction_cleanup_interval_ms: int = _key(
        3_600_000, "How often unused transactional ids are looked for.", ge=1
    )
    transaction_state_log_num_partitions: int = _key(50, "Partitions of __transaction_state, when it is made.", ge=1)
    transaction_state_log_replication_factor: int = _key(
        3,
        "Replicas of __transaction_state, when it is made; no more than there are brokers then. (Kafka refuses to make "
        "it with fewer.)",
        ge=1,
        le=32767,
        kind="short",
    )
    transaction_state_log_min_isr: int = _key(
        2, "min.insync.replicas of __transaction_state, when it is made; no more than its replicas.", ge=1
    )
    transaction_state_log_segment_bytes: int = _key(
        100 * _MiB, "Segment size of __transaction_state, when it is made.", ge=1
    )

    # Bounds
    socket_request_max_bytes: int = _key(100 * _MiB, "The largest request.", ge=1, le=_INT_MAX)
    queued_max_request_bytes: int = _key(
        512 * _MiB,
        "Bytes of requests held at once over all connections. (Kafka: -1, without a limit.)",
        ge=1024,
        kind="long",
    )
    max_connections: int = _key(
        10_000, "Client connections at once. (Kafka: without a limit.)", ge=1, le=_INT_MAX, dynamic=True
    )
    max_connections_per_ip: int = _key(
        _INT_MAX, "Client connections at once from one address.", ge=0, le=_INT_MAX, dynamic=True
    )
    max_connections_per_ip_overrides: str = _key(
        "",
        "The same for single addresses, as ADDRESS:NUMBER,... (In Kafka names of hosts may stand there too.)",
        dynamic=True,
        check=overrides_error,
    )
    max_connection_creation_rate: int = _key(
        _INT_MAX,
        "Client connections in a second, with ten seconds' worth at once (KIP-612): those that come faster are not "
        "heard before their turn. Where there are several listeners, that of the brokers is free.",
        ge=1,
        le=_INT_MAX,
        dynamic=True,
    )
    socket_listen_backlog_size: int = _key(
        128, "Connections that may wait to be accepted. (Kafka: 50.)", ge=1, le=_INT_MAX
    )
    connections_max_idle_ms: int = _key(600_000, "Idle time after which a connection is closed.", ge=1, kind="long")
    max_incremental_fetch_session_cache_slots: int = _key(1000, "Fetch sessions kept (KIP-227).", ge=0)
    max_request_partition_size_limit: int = _key(
        2000, "Most partitions in one answer that describes topics (KIP-966).", ge=1, le=_INT_MAX
    )
    fetch_max_bytes: int = _key(55 * _MiB, "Most record bytes in one Fetch answer.", ge=1024)

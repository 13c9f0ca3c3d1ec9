"""/metrics: worked out at the scrape from what the node already knows.

Three families of names, so that existing dashboards find what they look for: those of kafka_exporter (about the whole
cluster, therefore each sample from one node only: the active controller, or a partition's leader for its offsets),
Kafka's own JMX beans as Strimzi exports them (per node), and `ottla_` for what nobody else has. Samples about
this node carry its id in the label `node`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from kio.schema.index import api_key_map
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from ottla.controller import MetadataImage, PartitionImage
from ottla.gateway.views import GroupRow, NodeViews, ReplicaRow

_PRODUCE, _FETCH = 0, 1


def make_registry(views: NodeViews) -> CollectorRegistry:
    """A registry of its own for every node: several can live in one process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(NodeCollector(views))
    return registry


Sample = tuple[Sequence[object], float]


def _gauge(name: str, doc: str, labels: Sequence[str], samples: Iterable[Sample]) -> Metric:
    family = GaugeMetricFamily(name, doc, labels=labels)
    for values, number in samples:
        family.add_metric([str(value) for value in values], number)
    return family


def _counter(name: str, doc: str, labels: Sequence[str], samples: Iterable[Sample]) -> Metric:
    family = CounterMetricFamily(name, doc, labels=labels)
    for values, number in samples:
        family.add_metric([str(value) for value in values], number)
    return family


class NodeCollector:
    """A Prometheus collector over `NodeViews`."""

    def __init__(self, views: NodeViews) -> None:
        self._views = views

    def collect(self) -> Iterator[Metric]:
        views = self._views
        image, rows = views.image(), list(views.replicas())
        if views.is_active_controller():
            yield from _cluster(image)
        yield from _offsets(rows)
        yield from _replicas(views.node_id, rows)
        yield from _groups(views.node_id, list(views.groups()), rows)
        yield from self._transactions()
        yield from self._controller(image)
        yield from self._raft()
        yield from self._traffic()
        yield from self._changes()
        yield from self._cleaner()

    def _transactions(self) -> Iterator[Metric]:
        found, node = self._views.transactions(), self._views.node_id
        if found is None:
            return
        yield _gauge(
            "ottla_transactional_ids",
            "Transactional ids that this node coordinates, by state.",
            ["node", "state"],
            [([node, state], count) for state, count in sorted(found.states.items())],
        )
        yield _gauge(
            "ottla_transaction_oldest_seconds",
            "Age of the oldest transaction under way of those that this node coordinates; 0 for none.",
            ["node"],
            [([node], found.oldest_s)],
        )
        yield _counter(
            "kafka_server_addpartitionstotxnmanager_verificationfailures",
            "Partitions that a coordinator did not say to be part of a transaction when this node asked.",
            ["node"],
            [([node], found.unverified)],
        )
        yield _gauge(
            "ottla_transaction_markers_missing",
            "Partitions that this node has yet to tell how a transaction ended.",
            ["node"],
            [([node], found.markers)],
        )

    def _controller(self, image: MetadataImage) -> Iterator[Metric]:
        node, active = self._views.node_id, self._views.is_active_controller()
        yield _gauge(
            "kafka_controller_kafkacontroller_activecontrollercount",
            "1 on the active controller.",
            ["node"],
            [([node], float(active))],
        )
        if active:
            offline = sum(1 for _, _, state in image.all_partitions() if state.leader < 0)
            yield _gauge(
                "kafka_controller_kafkacontroller_offlinepartitionscount",
                "Partitions without a leader.",
                ["node"],
                [([node], offline)],
            )
        yield _gauge(
            "ottla_metadata_applied_offset", "Raft index of the metadata image.", ["node"], [([node], image.offset)]
        )
        reasons = self._views.reasons_not_ready()
        yield _gauge("ottla_ready", "Whether /readyz says yes.", ["node"], [([node], float(not reasons))])
        standings = self._views.standings()
        yield _gauge(
            "ottla_peer_standing",
            "What the death watch has proven about a peer (unknown, watching, broken, silent, dead, left).",
            ["node", "peer", "standing"],
            [([node, peer, standing], 1.0) for peer, standing in standings.items()],
        )

    def _raft(self) -> Iterator[Metric]:
        quorum, node = self._views.quorum(), self._views.node_id
        facts = (
            ("current_epoch", "Raft term.", quorum.term),
            ("current_leader", "Id of the Raft leader; -1 when none is known.", quorum.leader_id),
            ("high_watermark", "Raft commit index.", quorum.high_watermark),
            ("log_end_offset", "End of the metadata log.", self._views.raft_log_end()),
        )
        for name, doc, value in facts:
            yield _gauge(f"kafka_server_raftmetrics_{name}", doc, ["node"], [([node], value)])
        yield _counter(
            "ottla_raft_messages_dropped",
            "Raft messages given up because a queue was full or a peer could not be reached.",
            ["node"],
            [([node], self._views.raft_dropped())],
        )

    def _traffic(self) -> Iterator[Metric]:
        traffic, node = self._views.traffic(), self._views.node_id
        if traffic is None:
            return
        beans = "kafka_server_brokertopicmetrics_total"
        requests = dict(traffic.requests)
        for name, key in (("produce", _PRODUCE), ("fetch", _FETCH)):
            count = requests.get(key, 0)
            yield _counter(f"{beans}{name}requests", f"{name.title()} requests.", ["node"], [([node], count)])
        yield _counter(
            "ottla_requests",
            "Requests by API.",
            ["node", "api"],
            [([node, _api_name(key)], count) for key, count in sorted(requests.items())],
        )
        yield _gauge(
            "kafka_server_socketservermetrics_connection_count",
            "Open Kafka connections.",
            ["node"],
            [([node], traffic.connections)],
        )
        facts = (
            ("ottla_connections_accepted", "Kafka connections taken.", traffic.accepted),
            ("ottla_connections_refused", "Kafka connections over the limit.", traffic.refused),
            ("ottla_protocol_errors", "Connections closed for what the peer sent.", traffic.errors),
            ("ottla_handler_failures", "Requests whose handler failed.", traffic.failures),
            ("ottla_network_received_bytes", "Bytes read from Kafka connections.", traffic.bytes_in),
            ("ottla_network_sent_bytes", "Bytes written to Kafka connections.", traffic.bytes_out),
        )
        for name, doc, value in facts:
            yield _counter(name, doc, ["node"], [([node], value)])

    def _changes(self) -> Iterator[Metric]:
        changes, node = self._views.changes(), self._views.node_id
        if changes is None:
            return
        facts = (
            ("kafka_server_replicamanager_isrshrinks", "ISRs that lost a member while led here.", changes.isr_shrinks),
            ("kafka_server_replicamanager_isrexpands", "ISRs that won a member while led here.", changes.isr_expands),
            ("ottla_leader_elections", "Partitions that this node was elected to lead.", changes.elections),
            (
                "kafka_controller_controllerstats_uncleanleaderelections",
                "Of those, from outside the ISR.",
                changes.unclean_elections,
            ),
        )
        for name, doc, value in facts:
            yield _counter(name, doc, ["node"], [([node], value)])

    def _cleaner(self) -> Iterator[Metric]:
        cleaner, node = self._views.cleaner(), self._views.node_id
        if cleaner is None:
            return
        facts = (
            ("uncleanable_partitions_count", "Compacted logs whose last cleaning failed.", cleaner.uncleanable),
            (
                "max_dirty_percent",
                "What is dirty of what may be cleaned, in the dirtiest compacted log.",
                int(100 * cleaner.max_dirty_ratio),
            ),
        )
        for name, doc, value in facts:
            yield _gauge(f"kafka_log_logcleanermanager_{name}", doc, ["node"], [([node], value)])


def _api_name(key: int) -> str:
    name = api_key_map.get(key)
    return str(key) if name is None else name.title().replace("_", "")


def _cluster(image: MetadataImage) -> Iterator[Metric]:
    """kafka_exporter's metrics that come from metadata alone."""
    live = {broker.id: broker for broker in image.brokers.values() if not broker.fenced}
    yield _gauge("kafka_brokers", "Brokers that are registered and not fenced.", [], [([], len(live))])
    info = [
        ([broker.id, f"{broker.listeners[0].host}:{broker.listeners[0].port}"], 1.0)
        for broker in live.values()
        if broker.listeners
    ]
    yield _gauge("kafka_broker_info", "Address of a broker.", ["id", "address"], info)
    counts = [([topic.name], len(topic.partitions)) for topic in image.topics.values()]
    yield _gauge("kafka_topic_partitions", "Partitions of a topic.", ["topic"], counts)
    states = [((topic.name, index), state) for topic, index, state in image.all_partitions()]
    rows: tuple[tuple[str, str, list[float]], ...] = (
        ("leader", "Leader; -1 for none.", [state.leader for _, state in states]),
        ("replicas", "Replicas.", [len(state.replicas) for _, state in states]),
        ("in_sync_replica", "Replicas in sync.", [len(state.isr) for _, state in states]),
        (
            "leader_is_preferred",
            "1 if the first replica leads.",
            [_is_preferred(state) for _, state in states],
        ),
        (
            "under_replicated_partition",
            "1 if a replica is not in sync.",
            [float(len(state.isr) < len(state.replicas)) for _, state in states],
        ),
    )
    for name, doc, values in rows:
        samples = [(where, value) for (where, _), value in zip(states, values, strict=True)]
        yield _gauge(f"kafka_topic_partition_{name}", doc, ["topic", "partition"], samples)


def _is_preferred(state: PartitionImage) -> float:
    return float(state.replicas[:1] == (state.leader,))


def _per_partition(
    name: str, doc: str, rows: Iterable[ReplicaRow], value: Callable[[ReplicaRow], float], node: int | None = None
) -> Metric:
    labels = ["topic", "partition"] if node is None else ["node", "topic", "partition"]
    head = [] if node is None else [node]
    return _gauge(name, doc, labels, [([*head, row.topic, row.partition], value(row)) for row in rows])


def _offsets(rows: list[ReplicaRow]) -> Iterator[Metric]:
    """Offsets are told by the partition's leader, and so by one node."""
    led = [row for row in rows if row.is_leader]
    yield _per_partition("kafka_topic_partition_current_offset", "High watermark.", led, lambda row: row.high_watermark)
    yield _per_partition("kafka_topic_partition_oldest_offset", "Log start.", led, lambda row: row.log_start_offset)


def _groups(node: int, groups: list[GroupRow], rows: list[ReplicaRow]) -> Iterator[Metric]:
    """A group is told of by its coordinator, and so by one node. The lag is counted to the high watermark as this
    node's own replica knows it: where it has none, there is no sample."""
    ends = {(row.topic, row.partition): row.high_watermark for row in rows}
    offsets = [(group.group, at, offset) for group in groups for at, offset in group.offsets.items()]
    lags = [(group, at, max(ends[at] - offset, 0)) for group, at, offset in offsets if at in ends]
    labels = ["consumergroup", "topic", "partition"]
    families = (
        ("current_offset", "Committed offset.", offsets),
        ("lag", "Records that the group has yet to read.", lags),
    )
    for name, doc, values in families:
        sums: Counter[tuple[str, str]] = Counter()
        for group_id, (topic, _), value in values:
            sums[group_id, topic] += value
        samples = [([group_id, *at], value) for group_id, at, value in values]
        yield _gauge(f"kafka_consumergroup_{name}", doc, labels, samples)
        yield _gauge(f"kafka_consumergroup_{name}_sum", f"{doc} Over the topic.", labels[:2], sums.items())
    members = [([group.group], group.members) for group in groups]
    yield _gauge("kafka_consumergroup_members", "Members of the group.", ["consumergroup"], members)
    states = Counter(group.state for group in groups)
    yield _gauge(
        "ottla_groups",
        "Groups that this node coordinates, by state.",
        ["node", "state"],
        [([node, state], count) for state, count in sorted(states.items())],
    )


def _replicas(node: int, rows: list[ReplicaRow]) -> Iterator[Metric]:
    led = [row for row in rows if row.is_leader]
    counts = (
        ("partitioncount", "Replicas here.", len(rows)),
        ("leadercount", "Partitions led here.", len(led)),
        ("underreplicatedpartitions", "Of those, short of replicas.", sum(row.in_sync < row.replicas for row in led)),
        ("underminisrpartitioncount", "Of those, below min.insync.replicas.", sum(map(_under_min, led))),
        ("atminisrpartitioncount", "Of those, at min.insync.replicas.", sum(map(_at_min, led))),
        ("reassigningpartitions", "Of those, on their way to other replicas.", sum(row.reassigning for row in led)),
        ("produceridcount", "Producers whose sequences are remembered here.", sum(row.producers for row in rows)),
        (
            "partitionswithlatetransactionscount",
            "Replicas here with a transaction that is open for longer than any may be.",
            sum(row.late for row in rows),
        ),
    )
    for name, doc, count in counts:
        yield _gauge(f"kafka_server_replicamanager_{name}", doc, ["node"], [([node], count)])
    yield _per_partition("kafka_cluster_partition_underminisr", "1 below min.insync.replicas.", led, _under_min, node)
    yield _per_partition("kafka_cluster_partition_atminisr", "1 at min.insync.replicas.", led, _at_min, node)
    yield _per_partition(
        "kafka_cluster_partition_laststableoffsetlag",
        "Committed records that a transaction keeps from who reads only what is decided.",
        led,
        lambda row: row.high_watermark - row.last_stable_offset,
        node,
    )
    yield _per_partition("kafka_log_log_size", "Bytes of the log.", rows, lambda row: row.size, node)
    yield _per_partition("kafka_log_log_logendoffset", "Log end.", rows, lambda row: row.log_end_offset, node)
    yield _per_partition(
        "ottla_partition_leader_epoch",
        "Leader epoch of this replica.",
        rows,
        lambda row: row.leader_epoch,
        node,
    )
    lags = [
        ([row.topic, row.partition, follower], row.log_end_offset - end)
        for row in led
        for follower, end in row.followers.items()
        if end >= 0
    ]
    yield _gauge(
        "ottla_replica_lag",
        "Records that a follower has yet to fetch, as its leader knows it.",
        ["topic", "partition", "replica"],
        lags,
    )


def _under_min(row: ReplicaRow) -> bool:
    return row.in_sync < min(row.min_insync, row.replicas)


def _at_min(row: ReplicaRow) -> bool:
    return row.in_sync == min(row.min_insync, row.replicas)

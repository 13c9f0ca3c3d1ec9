"""metrics.md: what a node that has something to tell of everything exports."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from prometheus_client.metrics_core import Metric

from docs.pages.text import item, prose
from ottla.broker import QuorumStatus, TransactionSummary
from ottla.controller import BrokerImage, Listener, MetadataImage, PartitionImage, TopicImage
from ottla.gateway import GroupRow, MetadataChanges, NodeViews, ReplicaRow
from ottla.gateway.metrics import make_registry
from ottla.log import CleanerStatus
from ottla.wire import Stats


def metrics() -> Iterator[str]:
    yield "# Metrics\n"
    yield from prose(
        "What `/metrics` on a node's HTTP listener tells, in Prometheus' text format or OpenMetrics as the scraper "
        "asks. Names of kafka_exporter (`kafka_topic_...`, `kafka_brokers`) are about the cluster, and each sample "
        "comes from one node only: the active controller, or the leader of the partition. Names of Kafka's JMX beans "
        "as Strimzi exports them (`kafka_server_...`) are about one node. `ottla_` is what nobody else has."
    )
    for metric in sorted(make_registry(_example()).collect(), key=lambda each: each.name):
        yield from item(_metric(metric))


def _metric(metric: Metric) -> str:
    name = metric.name + ("_total" if metric.type == "counter" else "")
    labels = ", ".join(sorted({label for sample in metric.samples for label in sample.labels}))
    return f"**`{name}`** ({metric.type}{f' by {labels}' if labels else ''}): {metric.documentation}"


def _example() -> NodeViews:
    """A node that has something to tell of everything, so that every metric has a sample with its labels."""
    broker = BrokerImage(1, 1, "life", (Listener("PLAINTEXT", "node-1", 9092),), fenced=False)
    topic = TopicImage(UUID(int=1), "topic", {0: PartitionImage((1, 2), (1, 2), 1, 0, 0)})
    image = MetadataImage("cluster", 1, {1: broker}, {topic.name: topic}, {topic.id: topic.name})
    replica = ReplicaRow(topic.name, 0, True, 0, 1, 0, 1, 100, 1, 2, 2, {2: 1}, last_stable_offset=1)
    changes = MetadataChanges(1, image)
    return NodeViews(
        node_id=1,
        reasons_not_ready=dict,
        image=lambda: image,
        quorum=lambda: QuorumStatus(1, 1, 1, 1, (1,)),
        is_active_controller=lambda: True,
        raft_log_end=lambda: 2,
        standings=lambda: {2: "watching"},
        replicas=lambda: [replica],
        groups=lambda: [GroupRow("group", "Stable", 1, {(topic.name, 0): 1})],
        transactions=lambda: TransactionSummary({"Ongoing": 1}, 0.5, 0),
        traffic=lambda: Stats(requests={0: 1}),
        changes=lambda: changes,
        cleaner=lambda: CleanerStatus(0, 0.0),
    )

"""`ottla topic describe`: the lines of kafka-topics.sh, or rpk's table of offsets."""

from __future__ import annotations

import argparse
import base64
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ottla.cli.common import columns, ids, print_json

if TYPE_CHECKING:
    from ottla.client import Admin, PartitionMetadata, PartitionReassignment, TopicMetadata

Filter = Callable[["PartitionMetadata", int], bool]
"""Whether a partition is to be shown, given its topic's min.insync.replicas."""

FILTERS: Mapping[str, tuple[str, Filter]] = {
    "under_replicated_partitions": ("only those with replicas out of sync", lambda p, _: len(p.isr) < len(p.replicas)),
    "unavailable_partitions": ("only those without a leader", lambda p, _: p.leader < 0),
    "under_min_isr_partitions": ("only those that take no acks=all", lambda p, least: len(p.isr) < least),
    "at_min_isr_partitions": ("only those with no replica to spare", lambda p, least: len(p.isr) == least),
}


Moves = Mapping[tuple[str, int], "PartitionReassignment"]
"""The reassignments that are under way, by topic and partition."""


class Described(NamedTuple):
    """A topic, the partitions of it that are shown, and what was set for it."""

    topic: TopicMetadata
    partitions: list[PartitionMetadata]
    configs: dict[str, str | None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help="default: all")
    what = parser.add_mutually_exclusive_group()
    for name, (text, _) in FILTERS.items():
        what.add_argument("--" + name.replace("_", "-"), dest="only", action="store_const", const=name, help=text)
    what.add_argument(
        "--topics-with-overrides", dest="only", action="store_const", const="overrides", help="only topics with configs"
    )
    parser.add_argument("--exclude-internal", action="store_true", help="no topics of the cluster's own")
    parser.add_argument("-o", "--offsets", action="store_true", help="where each partition begins and ends")


async def run(admin: Admin, args: argparse.Namespace) -> int:
    topics = await admin.describe_topics(args.topics or None)
    if args.exclude_internal:
        topics = {name: topic for name, topic in topics.items() if not topic.is_internal}
    described = await _select(admin, topics, args.only)
    moves = await _moves(admin, described)
    if args.offsets:
        await _print_offsets(admin, described, as_json=args.format == "json")
    elif args.format == "json":
        print_json([_as_json(each, moves) for each in described])
    else:
        for each in described:
            _print(each, moves, header=args.only in (None, "overrides"))
    return 0


async def _select(admin: Admin, topics: Mapping[str, TopicMetadata], only: str | None) -> list[Described]:
    configs, least = await _configs(admin, topics)
    found = []
    for name, topic in topics.items():
        partitions = list(topic.partitions.values())
        if only is not None and only in FILTERS:
            _, keep = FILTERS[only]
            partitions = [partition for partition in partitions if keep(partition, least.get(name, 1))]
        if (partitions or only is None) and (only != "overrides" or configs[name]):
            found.append(Described(topic, partitions, configs[name]))
    return found


async def _configs(admin: Admin, names: Iterable[str]) -> tuple[dict[str, dict[str, str | None]], dict[str, int]]:
    """What was set for each topic itself, and its min.insync.replicas."""
    from ottla.client import ConfigResource, UnsupportedVersionError

    resources = [ConfigResource("topic", name) for name in names]
    try:
        described = await admin.describe_configs(resources) if resources else {}
    except UnsupportedVersionError:
        # The partitions can be shown all the same.
        described = {}
    own: dict[str, dict[str, str | None]] = {resource.name: {} for resource in resources}
    least = {}
    for resource, entries in described.items():
        for name, entry in entries.items():
            if entry.source == "DYNAMIC_TOPIC_CONFIG":
                own[resource.name][name] = entry.value
            if name == "min.insync.replicas" and entry.value is not None:
                least[resource.name] = int(entry.value)
    return own, least


async def _moves(admin: Admin, described: Iterable[Described]) -> Moves:
    from ottla.client import TopicPartition, UnsupportedVersionError

    wanted = [TopicPartition(each.topic.name, p.partition) for each in described for p in each.partitions]
    try:
        found = await admin.list_partition_reassignments(wanted) if wanted else {}
    except UnsupportedVersionError:
        return {}
    return {(tp.topic, tp.partition): move for tp, move in found.items()}


def _print(each: Described, moves: Moves, *, header: bool) -> None:
    topic = each.topic
    if header:
        configs = ",".join(f"{name}={value}" for name, value in each.configs.items())
        print(
            f"Topic: {topic.name}\tTopicId: {topic_id(topic)}\tPartitionCount: {len(topic.partitions)}\t"
            f"ReplicationFactor: {replication(topic)}\tConfigs: {configs}"
        )
    for p in each.partitions:
        leader = p.leader if p.leader >= 0 else "none"
        line = (
            f"\tTopic: {topic.name}\tPartition: {p.partition}\tLeader: {leader}\tEpoch: {p.leader_epoch}\t"
            f"Replicas: {ids(p.replicas)}\tIsr: {ids(p.isr)}"
        )
        if p.elr is not None:
            line += f"\tElr: {ids(p.elr)}\tLastKnownElr: {ids(p.last_known_elr or ())}"
        move = moves.get((topic.name, p.partition))
        if move is not None:
            line += f"\tAdding Replicas: {ids(move.adding_replicas)}\tRemoving Replicas: {ids(move.removing_replicas)}"
        print(line)


async def _print_offsets(admin: Admin, described: Iterable[Described], *, as_json: bool) -> None:
    from ottla.client import OffsetSpec, TopicPartition

    shown = [(TopicPartition(each.topic.name, p.partition), p) for each in described for p in each.partitions]
    led = [tp for tp, p in shown if p.leader >= 0]
    starts, _ = await admin.try_list_offsets(dict.fromkeys(led, OffsetSpec.EARLIEST))
    ends, _ = await admin.try_list_offsets(dict.fromkeys(led, OffsetSpec.LATEST))
    rows = []
    for tp, p in shown:
        start, end = (found[tp].offset if tp in found else None for found in (starts, ends))
        rows.append((tp.topic, tp.partition, p.leader, p.leader_epoch, p.replicas, start, end))
    names = ("topic", "partition", "leader", "epoch", "replicas", "log_start_offset", "high_watermark")
    if as_json:
        print_json([dict(zip(names, row, strict=True)) for row in rows])
        return
    text = [(*row[:4], ids(row[4]), *("-" if offset is None else offset for offset in row[5:])) for row in rows]
    print(columns([name.upper().replace("_", "-") for name in names], text))


def replication(topic: TopicMetadata) -> int:
    return max((len(p.replicas) for p in topic.partitions.values()), default=0)


def topic_id(topic: TopicMetadata) -> str:
    """Kafka's form of a topic id: base64 without padding."""
    return base64.urlsafe_b64encode(topic.topic_id.bytes).rstrip(b"=").decode() if topic.topic_id else "none"


def _as_json(each: Described, moves: Moves) -> dict[str, Any]:
    topic = each.topic
    return {
        "name": topic.name,
        "topic_id": topic_id(topic),
        "internal": topic.is_internal,
        "configs": each.configs,
        "partitions": [_partition_as_json(topic.name, p, moves) for p in each.partitions],
    }


def _partition_as_json(topic: str, p: PartitionMetadata, moves: Moves) -> dict[str, Any]:
    move = moves.get((topic, p.partition))
    return {
        "partition": p.partition,
        "leader": p.leader,
        "leader_epoch": p.leader_epoch,
        "replicas": p.replicas,
        "isr": p.isr,
        "offline_replicas": p.offline_replicas,
        "elr": p.elr,
        "last_known_elr": p.last_known_elr,
        "adding_replicas": () if move is None else move.adding_replicas,
        "removing_replicas": () if move is None else move.removing_replicas,
    }

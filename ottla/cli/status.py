"""`ottla status`: the cluster at a glance, asked of any broker over the Kafka protocol."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from ottla.cli.common import TIMEOUT_MS, add_bootstrap, add_format, ids, print_json, run_client
from ottla.cli.main import CommandError

if TYPE_CHECKING:
    from rich.console import Group

    from ottla.client import (
        Admin,
        ClusterDescription,
        OffsetAndTimestamp,
        QuorumDescription,
        TopicMetadata,
        TopicPartition,
    )

LATEST = -1


class Snapshot(NamedTuple):
    """What was seen in one look. `quorum` is None where brokers cannot tell."""

    cluster: ClusterDescription
    quorum: QuorumDescription | None
    topics: dict[str, TopicMetadata]
    high_watermarks: dict[TopicPartition, OffsetAndTimestamp]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--watch", action="store_true", help="refresh until interrupted")
    parser.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help="of --watch (default: 1)")
    add_bootstrap(parser)
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    if args.interval <= 0:
        raise CommandError("--interval is not above 0", status=2)
    return run_client(lambda: _status(args))


async def _status(args: argparse.Namespace) -> int:
    from ottla.client import Admin

    async with Admin(bootstrap_servers=args.bootstrap, request_timeout_ms=TIMEOUT_MS) as admin:
        if not args.watch:
            show(await look(admin), args.format)
            return 0
        if args.format == "json":
            while True:
                show(await look(admin), "json")
                await asyncio.sleep(args.interval)
        await _watch(admin, args.interval)
    return 0


async def _watch(admin: Admin, interval: float) -> None:
    from rich.live import Live
    from rich.text import Text

    from ottla.client import KafkaError

    with Live(auto_refresh=False, screen=sys.stdout.isatty()) as live:
        while True:
            try:
                live.update(render(await look(admin)), refresh=True)
            except KafkaError as error:
                # What one came to watch is brokers that go away: say so, and go on looking.
                live.update(Text(f"no answer: {error}", style="red"), refresh=True)
            await asyncio.sleep(interval)


async def look(admin: Admin) -> Snapshot:
    """Ask the cluster. High watermarks are left out for partitions whose leader does not answer."""
    from ottla.client import KafkaError, TopicPartition

    cluster = await admin.describe_cluster()
    quorum: QuorumDescription | None = None
    try:
        quorum = await admin.describe_metadata_quorum()
    except KafkaError:
        # Not every cluster has this API or a quorum that can be asked right now; the rest is still worth showing.
        quorum = None
    topics = await admin.describe_topics()
    led = [TopicPartition(t.name, p.partition) for t in topics.values() for p in t.partitions.values() if p.leader >= 0]
    found, _unanswered = await admin.try_list_offsets(dict.fromkeys(led, LATEST))
    return Snapshot(cluster, quorum, topics, found)


def show(snapshot: Snapshot, form: str) -> None:
    """Print a snapshot once."""
    if form == "json":
        print_json(as_json(snapshot))
        return
    from rich.console import Console

    console = Console(soft_wrap=not sys.stdout.isatty())
    if not sys.stdout.isatty():
        console = Console(width=200)
    console.print(render(snapshot))


def controller(snapshot: Snapshot) -> tuple[int, int]:
    """(active controller, term); -1 for what is not known."""
    quorum = snapshot.quorum
    return (snapshot.cluster.controller_id, -1) if quorum is None else (quorum.leader_id, quorum.leader_epoch)


def render(snapshot: Snapshot) -> Group:
    """Tables for a terminal. A partition short of replicas is yellow, one without a leader red."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from ottla.client import TopicPartition

    active, term = controller(snapshot)
    head = Text(f"cluster {snapshot.cluster.cluster_id}   controller {active if active >= 0 else 'none'}")
    head.append(f"   term {term}" if term >= 0 else "")
    brokers = Table("BROKER", "ADDRESS", "RACK", "CONTROLLER", "LEADERS", box=None, pad_edge=False)
    partitions = [p for topic in snapshot.topics.values() for p in topic.partitions.values()]
    for broker in sorted(snapshot.cluster.brokers):
        leads = sum(p.leader == broker.node_id for p in partitions)
        mark = "*" if broker.node_id == active else ""
        brokers.add_row(str(broker.node_id), f"{broker.host}:{broker.port}", broker.rack or "-", mark, str(leads))
    names = ("TOPIC", "PARTITION", "LEADER", "EPOCH", "REPLICAS", "ISR", "HIGH-WATERMARK")
    table = Table(*names, box=None, pad_edge=False)
    for p in partitions:
        end = snapshot.high_watermarks.get(TopicPartition(p.topic, p.partition))
        style = "red" if p.leader < 0 else "yellow" if len(p.isr) < len(p.replicas) else None
        leader = str(p.leader) if p.leader >= 0 else "none"
        place = (p.topic, str(p.partition), leader, str(p.leader_epoch), ids(p.replicas), ids(p.isr))
        table.add_row(*place, str(end.offset) if end is not None else "-", style=style)
    return Group(head, "", brokers, "", table)


def as_json(snapshot: Snapshot) -> dict[str, Any]:
    """The same for programs; -1 and null are what is not known."""
    from ottla.client import TopicPartition

    active, term = controller(snapshot)
    quorum = snapshot.quorum
    return {
        "cluster_id": snapshot.cluster.cluster_id,
        "controller": {
            "id": active,
            "term": term,
            "voters": [] if quorum is None else [v.replica_id for v in quorum.voters],
        },
        "brokers": [
            {"id": b.node_id, "host": b.host, "port": b.port, "rack": b.rack} for b in sorted(snapshot.cluster.brokers)
        ],
        "topics": [
            {
                "name": topic.name,
                "partitions": [
                    {
                        "partition": p.partition,
                        "leader": p.leader,
                        "leader_epoch": p.leader_epoch,
                        "replicas": p.replicas,
                        "isr": p.isr,
                        "high_watermark": getattr(
                            snapshot.high_watermarks.get(TopicPartition(topic.name, p.partition)), "offset", None
                        ),
                    }
                    for p in topic.partitions.values()
                ],
            }
            for topic in snapshot.topics.values()
        ],
    }

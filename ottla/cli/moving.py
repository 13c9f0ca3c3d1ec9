"""What the commands that move replicas share: where everything is, and plans carried out batch by batch."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from ottla.cli.common import positive
from ottla.cli.main import CommandError
from ottla.cli.throttling import clear_throttle, set_throttle

if TYPE_CHECKING:
    from ottla.client import Admin, BrokerMetadata, TopicPartition
    from ottla.controller import Key, Site

POLL_S = 0.5
CORDONED = "cordoned.log.dirs"

Assignment = Mapping["TopicPartition", Sequence[int]]


@dataclass(frozen=True, slots=True)
class Placement:
    """The cluster as it is: brokers that are up, those of them that are cordoned, and the replicas of all partitions
    (when what is under way is done)."""

    brokers: tuple[BrokerMetadata, ...]
    cordoned: frozenset[int]
    partitions: dict[TopicPartition, tuple[int, ...]]

    def sites(self) -> list[Site]:
        from ottla.controller import Site

        return [Site(broker.node_id, broker.rack, broker.node_id not in self.cordoned) for broker in self.brokers]

    def keys(self) -> dict[Key, tuple[int, ...]]:
        return {(tp.topic, tp.partition): replicas for tp, replicas in self.partitions.items()}


async def placement(admin: Admin, topics: Sequence[str] | None = None) -> Placement:
    """Ask the cluster; `topics` None means all."""
    from ottla.client import ConfigResource, TopicPartition

    cluster = await admin.describe_cluster()
    described = await admin.describe_topics(topics)
    under_way = await admin.list_partition_reassignments()
    resources = [ConfigResource("broker", str(broker.node_id)) for broker in cluster.brokers]
    configs = await admin.describe_configs(resources)
    cordoned = {
        int(resource.name) for resource, entries in configs.items() if CORDONED in entries and entries[CORDONED].value
    }
    partitions = {}
    for topic in described.values():
        for index, state in topic.partitions.items():
            tp = TopicPartition(topic.name, index)
            partitions[tp] = under_way[tp].target_replicas if tp in under_way else state.replicas
    return Placement(cluster.brokers, frozenset(cordoned), partitions)


def add_moving_options(parser: argparse.ArgumentParser) -> None:
    """`--throttle` and `--batch`."""
    parser.add_argument("--throttle", type=positive, metavar="BYTES", help="copy at most so much a second, per broker")
    parser.add_argument("--batch", type=positive, default=20, metavar="N", help="partitions at a time (default: 20)")


async def carry_out(admin: Admin, before: Assignment, plan: Assignment, *, batch: int, throttle: int | None) -> None:
    """Reassign `plan`, a batch at a time, and wait until each is done; prints a line for each. Raises CommandError for
    partitions that cannot be reassigned, when the others are done."""
    refused: list[str] = []
    left = iter(sorted(plan.items()))
    done = 0
    while some := dict(islice(left, batch)):
        if throttle is not None:
            await set_throttle(admin, {tp: (before[tp], replicas) for tp, replicas in some.items()}, throttle)
        outcomes = await admin.try_alter_partition_reassignments(some)
        refused += (f"{tp}: {error}" for tp, error in outcomes.items() if error is not None)
        while await admin.list_partition_reassignments(some):  # noqa: ASYNC110 - a cluster has no event to offer
            await asyncio.sleep(POLL_S)
        if throttle is not None:
            await clear_throttle(admin, (tp.topic for tp in some))
        done += len(some)
        print(f"{done} of {len(plan)} partitions", flush=True)
    if refused:
        raise CommandError("could not be reassigned: " + "; ".join(refused))


def print_plan(before: Assignment, plan: Assignment) -> None:
    """One line for each partition that changes."""
    from ottla.cli.common import columns, ids

    rows = [(str(tp), ids(before[tp]), ids(replicas)) for tp, replicas in sorted(plan.items())]
    print(columns(("PARTITION", "REPLICAS", "WANTED"), rows))

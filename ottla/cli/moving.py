"""What the commands that move replicas share: where everything is, and plans carried out batch by batch."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from ottla.cli.common import positive
from ottla.cli.main import CommandError
from ottla.cli.throttling import clear_throttle, set_throttle

if TYPE_CHECKING:
    from ottla.client import Admin, BrokerMetadata, PartitionReassignment, TopicPartition
    from ottla.controller import Key, Site

POLL_S = 0.5
ANSWER_S = 5.0
CORDONED = "cordoned.log.dirs"

Assignment = Mapping["TopicPartition", Sequence[int]]


@dataclass(frozen=True, slots=True)
class Placement:
    """The cluster as it is: brokers that are up, those of them that are cordoned, or silent and not fenced yet, and the
    replicas of all partitions: `partitions` when what is `under_way` is done, `present` until then."""

    brokers: tuple[BrokerMetadata, ...]
    cordoned: frozenset[int]
    silent: frozenset[int]
    partitions: dict[TopicPartition, tuple[int, ...]]
    present: dict[TopicPartition, tuple[int, ...]]
    under_way: dict[TopicPartition, PartitionReassignment]

    def held_by(self, broker: int) -> list[TopicPartition]:
        """The partitions that it has replicas of, also if those are to go or to come."""
        return [tp for tp, replicas in self.present.items() if broker in replicas]

    def sites(self) -> list[Site]:
        from ottla.controller import Site

        closed = self.cordoned | self.silent
        return [Site(broker.node_id, broker.rack, broker.node_id not in closed) for broker in self.brokers]

    def keys(self) -> dict[Key, tuple[int, ...]]:
        return {(tp.topic, tp.partition): replicas for tp, replicas in self.partitions.items()}


async def placement(admin: Admin, topics: Sequence[str] | None = None) -> Placement:
    """Ask the cluster; `topics` None means all."""
    from ottla.client import TopicPartition

    cluster = await admin.describe_cluster()
    described = await admin.describe_topics(topics)
    under_way = await admin.list_partition_reassignments()
    answers = await asyncio.gather(*(_is_cordoned(admin, broker.node_id) for broker in cluster.brokers))
    cordoned = {broker.node_id: answer for broker, answer in zip(cluster.brokers, answers, strict=True)}
    present = {
        TopicPartition(topic.name, index): state.replicas
        for topic in described.values()
        for index, state in topic.partitions.items()
    }
    under_way = {tp: reassignment for tp, reassignment in under_way.items() if tp in present}
    wanted = {tp: under_way[tp].target_replicas if tp in under_way else replicas for tp, replicas in present.items()}
    return Placement(
        cluster.brokers,
        frozenset(broker for broker, answer in cordoned.items() if answer),
        frozenset(broker for broker, answer in cordoned.items() if answer is None),
        wanted,
        present,
        under_way,
    )


async def _is_cordoned(admin: Admin, broker: int) -> bool | None:
    """Only a broker itself says it; None if it does not answer."""
    from ottla.client import ConfigResource, KafkaConnectionError, KafkaTimeoutError

    resource = ConfigResource("broker", str(broker))
    try:
        async with asyncio.timeout(ANSWER_S):
            entry = (await admin.describe_configs([resource]))[resource].get(CORDONED)
    except (KafkaConnectionError, KafkaTimeoutError, TimeoutError):
        return None
    return entry is not None and bool(entry.value)


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
        await _until_done(admin, some)
        if throttle is not None:
            await clear_throttle(admin, (tp.topic for tp in some))
        done += len(some)
        print(f"{done} of {len(plan)} partitions", flush=True)
    if refused:
        raise CommandError("could not be reassigned: " + "; ".join(refused))


async def wait_for(admin: Admin, now: Placement, moves: Iterable[TopicPartition], throttle: int | None) -> None:
    """Wait for what is under way already, begun by an interrupted command or by somebody else. It gets the `throttle`,
    if that is given, and has none at the end."""
    moving = {tp: now.under_way[tp] for tp in moves}
    if not moving:
        return
    print(f"{len(moving)} partitions are on their way already.", flush=True)
    if throttle is not None:
        sources = {
            tp: [each for each in now.present[tp] if each not in move.adding_replicas] for tp, move in moving.items()
        }
        await set_throttle(admin, {tp: (sources[tp], move.target_replicas) for tp, move in moving.items()}, throttle)
    await _until_done(admin, moving)
    await clear_throttle(admin, (tp.topic for tp in moving))


async def _until_done(admin: Admin, moves: Iterable[TopicPartition]) -> None:
    wanted = list(moves)
    try:
        while await admin.list_partition_reassignments(wanted):  # noqa: ASYNC110 - a cluster has no event to offer
            await asyncio.sleep(POLL_S)
    except asyncio.CancelledError:
        print(
            "What has begun goes on, with its throttle. The same command waits for it and goes on from there, with "
            "another --throttle if you give one; `ottla partition list-reassignments` shows it.",
            file=sys.stderr,
        )
        raise


def print_plan(before: Assignment, plan: Assignment) -> None:
    """One line for each partition that changes, and one for all of them."""
    from ottla.cli.common import columns, ids

    if not plan:
        return
    rows = [(str(tp), ids(before[tp]), ids(replicas)) for tp, replicas in sorted(plan.items())]
    print(columns(("PARTITION", "REPLICAS", "WANTED"), rows))
    copied = sum(len(set(replicas) - set(before[tp])) for tp, replicas in plan.items())
    print(f"{len(plan)} partitions change, {copied} replicas are copied.")

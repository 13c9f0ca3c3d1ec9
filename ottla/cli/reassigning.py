"""The four things that `ottla partition reassign` does, in the words of kafka-reassign-partitions.sh."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ottla.cli.assignment_file import read_assignment, read_topics, write_assignment
from ottla.cli.common import ids
from ottla.cli.main import CommandError
from ottla.cli.moving import placement
from ottla.cli.throttling import clear_throttle, set_throttle

if TYPE_CHECKING:
    from ottla.client import Admin, KafkaError, TopicMetadata, TopicPartition

ADDITIONAL = (
    "Cannot execute because there is an existing partition assignment. Use --additional to override this and create a "
    "new partition assignment in addition to the existing one. The --additional option can also be used to change the "
    "throttle by resubmitting the current reassignment."
)


async def generate(admin: Admin, args: argparse.Namespace) -> int:
    """Print what there is, and what it could be on these brokers: as little is moved as that takes."""
    from ottla.client import TopicPartition
    from ottla.controller import Site, plan_balance, plan_evacuation

    brokers = _brokers(args.broker_list)
    now = await placement(admin, args.topics or read_topics(args.topics_file))
    racks = {broker.node_id: broker.rack for broker in now.brokers}
    sites = [Site(broker, racks.get(broker)) for broker in brokers]
    keys = now.keys()
    others = {replica for replicas in keys.values() for replica in replicas if replica not in brokers}
    largest = max(map(len, keys.values()), default=0)
    if largest > len(brokers):
        raise CommandError(f"Replication factor: {largest} larger than available brokers: {len(brokers)}")
    moved = keys | plan_evacuation(sites, keys, others, keys)
    proposed = moved | plan_balance(sites, moved)
    print("Current partition replica assignment")
    print(write_assignment(now.partitions))
    print("\nProposed partition reassignment configuration")
    print(write_assignment({TopicPartition(*key): replicas for key, replicas in proposed.items()}))
    return 0


def _brokers(text: str) -> list[int]:
    try:
        found = [int(each) for each in text.split(",")]
    except ValueError:
        raise CommandError(f"--broker-list {text!r} is no list of broker ids", status=2) from None
    if len(set(found)) != len(found):
        raise CommandError("Broker list contains duplicate entries", status=2)
    return found


async def execute(admin: Admin, args: argparse.Namespace) -> int:
    """Begin it, with the throttle in place before."""
    wanted = read_assignment(args.file)
    described = await _described(admin, wanted)
    missing = [tp for tp in wanted if tp not in described]
    if missing:
        raise CommandError(f"there is no partition {_names(missing)}")
    if not args.additional and await admin.list_partition_reassignments():
        raise CommandError(ADDITIONAL)
    print("Current partition replica assignment\n")
    print(write_assignment(described))
    print("\nSave this to use as the --reassignment-json-file option during rollback")
    if args.throttle is not None:
        await set_throttle(admin, {tp: (described[tp], replicas) for tp, replicas in wanted.items()}, args.throttle)
        print(f"The replication throttle was set to {args.throttle} B/s: --verify takes it away at the end.")
    allow = not args.disallow_replication_factor_change
    outcomes = await admin.try_alter_partition_reassignments(wanted, allow_replication_factor_change=allow)
    _raise(outcomes, "Error reassigning partition(s)")
    print(f"Successfully started partition reassignment{'s' * (len(wanted) != 1)} for {_names(wanted)}")
    return 0


async def verify(admin: Admin, args: argparse.Namespace) -> int:
    """Say of each partition how far it is. When nothing of it is under way any more, throttles go."""
    wanted = read_assignment(args.file)
    under_way = await admin.list_partition_reassignments(wanted)
    described = await _described(admin, wanted)
    print("Status of partition reassignment:")
    status = 0
    for tp, replicas in sorted(wanted.items()):
        if tp in under_way:
            other = "" if under_way[tp].target_replicas == replicas else ", to other replicas"
            print(f"Reassignment of partition {tp} is still in progress{other}.")
        elif described.get(tp) == replicas:
            print(f"Reassignment of partition {tp} is completed.")
        else:
            found = described.get(tp)
            what = "the partition does not exist" if found is None else f"but the replica set is {ids(found)}"
            print(f"There is no active reassignment of partition {tp}, {what} rather than {ids(replicas)}.")
            status = 1
    if not under_way and not args.preserve_throttles:
        await _take_throttles(admin, described)
    return status


async def cancel(admin: Admin, args: argparse.Namespace) -> int:
    """End what is under way of the partitions in the file: they go back to the replicas that they had."""
    wanted = read_assignment(args.file)
    under_way = await admin.list_partition_reassignments(wanted)
    if not under_way:
        print("None of the specified partition reassignments are active.")
    else:
        outcomes = await admin.try_alter_partition_reassignments(dict.fromkeys(under_way))
        _raise(outcomes, "Error cancelling partition reassignment(s)")
        print(f"Successfully cancelled partition reassignments for: {_names(under_way)}")
    if not args.preserve_throttles:
        await _take_throttles(admin, await _described(admin, wanted))
    return 0


async def _take_throttles(admin: Admin, described: Iterable[TopicPartition]) -> None:
    topics = sorted({tp.topic for tp in described})
    if topics:
        await clear_throttle(admin, topics)
        print(
            f"\nClearing broker-level throttles, and topic-level throttles on topic{'s' * (len(topics) != 1)} ", end=""
        )
        print(",".join(topics))


async def _described(admin: Admin, wanted: Iterable[TopicPartition]) -> dict[TopicPartition, tuple[int, ...]]:
    """The replicas that the wanted partitions have now, without those of partitions that there are none of."""
    topics: dict[str, TopicMetadata] = await admin.describe_topics()
    return {
        tp: topics[tp.topic].partitions[tp.partition].replicas
        for tp in wanted
        if tp.topic in topics and tp.partition in topics[tp.topic].partitions
    }


def _raise(outcomes: Mapping[TopicPartition, KafkaError | None], what: str) -> None:
    failed = [f"{tp}: {error}" for tp, error in sorted(outcomes.items()) if error is not None]
    if failed:
        raise CommandError(f"{what}: {'; '.join(failed)}")


def _names(partitions: Iterable[TopicPartition]) -> str:
    return ",".join(map(str, sorted(partitions)))

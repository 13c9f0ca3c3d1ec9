"""`ottla txn list|describe|describe-producers|abort|find-hanging`: the verbs and columns of kafka-transactions.sh."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ottla.cli.common import add_bootstrap, add_format, columns, positive, print_json, run_client
from ottla.cli.main import CommandError

if TYPE_CHECKING:
    from ottla.client import Admin, OpenTransaction, ProducerState, TopicPartition

TIMEOUT_MS = 15000
NOTHING = "None"
_MINUTE_MS = 60000

_PRODUCER = (
    "ProducerId",
    "ProducerEpoch",
    "LatestCoordinatorEpoch",
    "LastSequence",
    "LastTimestamp",
    "CurrentTransactionStartOffset",
)
_DESCRIBED = (
    "CoordinatorId",
    "TransactionalId",
    "ProducerId",
    "ProducerEpoch",
    "TransactionState",
    "TransactionTimeoutMs",
    "CurrentTransactionStartTimeMs",
    "TransactionDurationMs",
    "TopicPartitions",
)
_HANGING = (
    "Topic",
    "Partition",
    "ProducerId",
    "ProducerEpoch",
    "CoordinatorEpoch",
    "StartOffset",
    "LastTimestamp",
    "Duration(min)",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    listing = verbs.add_parser("list", help="list transactional ids")
    listing.add_argument("--state", action="append", default=[], metavar="STATE", help="only these, may be repeated")
    listing.add_argument("--duration-filter", type=positive, metavar="MS", help="only those that run for longer")
    listing.add_argument("--transactional-id-pattern", metavar="REGEX", help="only ids that match as a whole")

    describe = verbs.add_parser("describe", help="show the transactions of transactional ids")
    describe.add_argument("ids", nargs="+", metavar="TRANSACTIONAL-ID")

    producers = verbs.add_parser("describe-producers", help="show what a partition knows of its producers")
    _add_partition(producers, required=True)
    producers.add_argument("--broker-id", type=int, metavar="ID", help="that of this replica (default: the leader)")

    abort = verbs.add_parser("abort", help="abort a transaction that hangs, in one partition")
    _add_partition(abort, required=True)
    abort.add_argument("--start-offset", type=int, metavar="OFFSET", help="where the transaction begins")
    abort.add_argument("--producer-id", type=int, metavar="ID", help="or, instead of that, whose it is,")
    abort.add_argument("--producer-epoch", type=int, metavar="EPOCH", help="of which epoch,")
    abort.add_argument("--coordinator-epoch", type=int, metavar="EPOCH", help="and of which coordinator")

    hanging = verbs.add_parser("find-hanging", help="find transactions that nobody is going to end")
    _add_partition(hanging, required=False)
    hanging.add_argument("--broker-id", type=int, metavar="ID", help="only in partitions of this broker")
    hanging.add_argument(
        "--max-transaction-timeout",
        type=positive,
        default=15,
        metavar="MINUTES",
        help="the longest timeout of any producer (default: 15)",
    )

    for verb in (listing, describe, producers, abort, hanging):
        add_bootstrap(verb)
        add_format(verb)


def _add_partition(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument("--topic", required=required, metavar="TOPIC")
    parser.add_argument("--partition", type=int, required=required, metavar="N")


def run(args: argparse.Namespace) -> int:
    verbs = {
        "list": _list,
        "describe": _describe,
        "describe-producers": _describe_producers,
        "abort": _abort,
        "find-hanging": _find_hanging,
    }
    _check(args)

    async def work() -> int:
        from ottla.client import Admin

        async with Admin(bootstrap_servers=args.bootstrap, request_timeout_ms=TIMEOUT_MS) as admin:
            return await verbs[args.verb](admin, args)

    return run_client(work)


def _check(args: argparse.Namespace) -> None:
    if args.verb == "find-hanging":
        if args.partition is not None and args.topic is None:
            raise CommandError("--partition needs --topic", status=2)
        if args.topic is None and args.broker_id is None:
            raise CommandError("either --topic or --broker-id says where to look", status=2)
    if args.verb == "abort":
        named = args.producer_id is not None
        if named == (args.start_offset is not None):
            raise CommandError("either --start-offset or --producer-id says which transaction", status=2)
        if named != (args.producer_epoch is not None) or named != (args.coordinator_epoch is not None):
            text = "--producer-id, --producer-epoch and --coordinator-epoch go together"
            raise CommandError(text, status=2)


async def _list(admin: Admin, args: argparse.Namespace) -> int:
    found = await admin.list_transactions(
        states=args.state,
        duration_ms=args.duration_filter or -1,
        transactional_id_pattern=args.transactional_id_pattern,
    )
    rows = [(each.transactional_id, each.coordinator, each.producer_id, each.state) for each in found]
    _print(args, ("TransactionalId", "Coordinator", "ProducerId", "TransactionState"), rows)
    return 0


async def _describe(admin: Admin, args: argparse.Namespace) -> int:
    now = time.time_ns() // 1_000_000
    rows = [
        (
            each.coordinator,
            each.transactional_id,
            each.producer_id,
            each.producer_epoch,
            each.state,
            each.timeout_ms,
            each.start_time_ms,
            None if each.start_time_ms is None else now - each.start_time_ms,
            ",".join(map(str, each.partitions)),
        )
        for each in (await admin.describe_transactions(args.ids)).values()
    ]
    _print(args, _DESCRIBED, rows)
    return 0


async def _describe_producers(admin: Admin, args: argparse.Namespace) -> int:
    producers = await _producers(admin, args, args.broker_id)
    rows = [
        (
            each.producer_id,
            each.producer_epoch,
            -1 if each.coordinator_epoch is None else each.coordinator_epoch,
            each.last_sequence,
            each.last_timestamp,
            each.transaction_start_offset,
        )
        for each in producers
    ]
    _print(args, _PRODUCER, rows)
    return 0


async def _producers(admin: Admin, args: argparse.Namespace, broker_id: int | None = None) -> list[ProducerState]:
    where = _partition(args)
    return (await admin.describe_producers([where], broker_id=broker_id))[where]


def _partition(args: argparse.Namespace) -> TopicPartition:
    from ottla.client import TopicPartition

    return TopicPartition(args.topic, args.partition)


async def _abort(admin: Admin, args: argparse.Namespace) -> int:
    where = _partition(args)
    producer_id, epoch, coordinator = args.producer_id, args.producer_epoch, args.coordinator_epoch
    if args.start_offset is not None:
        open_here = [p for p in await _producers(admin, args) if p.transaction_start_offset == args.start_offset]
        if not open_here:
            raise CommandError(f"no transaction that is open in {where} begins at offset {args.start_offset}")
        found = open_here[0]
        producer_id, epoch = found.producer_id, found.producer_epoch
        # No marker of this producer is in the log yet: any epoch is as good as the first one.
        coordinator = 0 if found.coordinator_epoch is None else found.coordinator_epoch
    await admin.abort_transaction(
        where, producer_id=producer_id, producer_epoch=epoch, coordinator_epoch=max(coordinator, 0)
    )
    if args.format == "json":
        print_json({"topic": where.topic, "partition": where.partition, "producer_id": producer_id})
    else:
        print(f"Aborted the transaction of producer {producer_id}, epoch {epoch}, in {where}.")
    return 0


async def _find_hanging(admin: Admin, args: argparse.Namespace) -> int:
    found = await admin.find_hanging_transactions(
        await _places(admin, args),
        broker_id=args.broker_id,
        max_transaction_timeout_ms=args.max_transaction_timeout * _MINUTE_MS,
    )
    now = time.time_ns() // 1_000_000
    _print(args, _HANGING, [_hanging_row(each, now) for each in found])
    return 0


async def _places(admin: Admin, args: argparse.Namespace) -> list[TopicPartition] | None:
    if args.topic is None:
        return None
    if args.partition is not None:
        return [_partition(args)]
    from ottla.client import TopicPartition

    described = (await admin.describe_topics([args.topic]))[args.topic]
    return [
        TopicPartition(args.topic, index)
        for index, state in sorted(described.partitions.items())
        if args.broker_id is None or args.broker_id in state.replicas
    ]


def _hanging_row(each: OpenTransaction, now_ms: int) -> tuple[Any, ...]:
    producer = each.producer
    return (
        each.partition.topic,
        each.partition.partition,
        producer.producer_id,
        producer.producer_epoch,
        -1 if producer.coordinator_epoch is None else producer.coordinator_epoch,
        producer.transaction_start_offset,
        producer.last_timestamp,
        (now_ms - producer.last_timestamp) // _MINUTE_MS,
    )


def _print(args: argparse.Namespace, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    if args.format == "json":
        keys = [re.sub("(?<!^)(?=[A-Z])", "_", name.replace("(min)", "Min")).lower() for name in names]
        print_json([dict(zip(keys, row, strict=True)) for row in rows])
    else:
        print(columns(names, [[NOTHING if cell is None else cell for cell in row] for row in rows]))

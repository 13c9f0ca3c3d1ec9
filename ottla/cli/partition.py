"""`ottla partition reassign|list-reassignments|elect`: kafka-reassign-partitions.sh and kafka-leader-election.sh."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ottla.cli.assignment_file import read_partitions
from ottla.cli.common import add_bootstrap, add_format, ids, positive, print_json, run_client
from ottla.cli.main import CommandError

if TYPE_CHECKING:
    from ottla.client import Admin, TopicPartition

TIMEOUT_MS = 30000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    reassign = verbs.add_parser("reassign", help="give partitions other replicas")
    what = reassign.add_mutually_exclusive_group(required=True)
    what.add_argument("--generate", action="store_true", help="print what the file could say")
    what.add_argument("--execute", action="store_true", help="begin what the file says")
    what.add_argument("--verify", action="store_true", help="say how far it is; when done, take throttles away")
    what.add_argument("--cancel", action="store_true", help="end what is under way of it")
    reassign.add_argument("-f", "--reassignment-json-file", dest="file", type=Path, metavar="FILE")
    reassign.add_argument("--topics-to-move-json-file", dest="topics_file", type=Path, metavar="FILE")
    reassign.add_argument("--topics", nargs="+", metavar="TOPIC", help="--generate: these, instead of a file with them")
    reassign.add_argument("--broker-list", metavar="ID,...", help="--generate: the brokers to use")
    reassign.add_argument(
        "--throttle", type=positive, metavar="BYTES", help="copy at most so much a second, per broker"
    )
    reassign.add_argument("--preserve-throttles", action="store_true", help="leave throttles in place")
    reassign.add_argument("--additional", action="store_true", help="even if others are under way")
    reassign.add_argument("--disallow-replication-factor-change", action="store_true")

    listing = verbs.add_parser("list-reassignments", help="list what is under way")
    add_format(listing)

    elect = verbs.add_parser("elect", help="elect leaders")
    elect.add_argument("--election-type", choices=("preferred", "unclean"), default="preferred")
    which = elect.add_mutually_exclusive_group(required=True)
    which.add_argument("--all-topic-partitions", "--all", dest="all", action="store_true")
    which.add_argument("--path-to-json-file", dest="file", type=Path, metavar="FILE")
    which.add_argument("--topic", metavar="TOPIC")
    elect.add_argument("--partition", type=int, metavar="N", help="with --topic")

    for verb in (reassign, listing, elect):
        add_bootstrap(verb)


def run(args: argparse.Namespace) -> int:
    async def ask() -> int:
        from ottla.client import Admin

        async with Admin(bootstrap_servers=args.bootstrap, request_timeout_ms=TIMEOUT_MS) as admin:
            return await work(admin, args)

    # Wrong arguments are told before anything is asked of the cluster.
    if args.verb == "elect" and (args.topic is None) != (args.partition is None):
        raise CommandError("--topic and --partition go together", status=2)
    if args.verb == "reassign":
        _check_reassign(args)
    return run_client(ask)


def _check_reassign(args: argparse.Namespace) -> None:
    if args.generate:
        if args.broker_list is None or (args.topics is None) == (args.topics_file is None):
            raise CommandError("--generate takes --broker-list, and --topics or --topics-to-move-json-file", status=2)
    elif args.file is None:
        raise CommandError("--reassignment-json-file is needed", status=2)


async def work(admin: Admin, args: argparse.Namespace) -> int:
    """Carry out what the arguments say. Raises CommandError, KafkaError."""
    from ottla.cli import reassigning

    if args.verb == "list-reassignments":
        return await _list(admin, args)
    if args.verb == "elect":
        return await _elect(admin, args)
    if args.generate:
        return await reassigning.generate(admin, args)
    if args.execute:
        return await reassigning.execute(admin, args)
    return await (reassigning.verify if args.verify else reassigning.cancel)(admin, args)


async def _list(admin: Admin, args: argparse.Namespace) -> int:
    found = await admin.list_partition_reassignments()
    if args.format == "json":
        names = ("replicas", "adding_replicas", "removing_replicas")
        print_json(
            [
                {"topic": tp.topic, "partition": tp.partition} | {name: getattr(state, name) for name in names}
                for tp, state in sorted(found.items())
            ]
        )
        return 0
    print("Current partition reassignments:" if found else "No partition reassignments found.")
    for tp, state in sorted(found.items()):
        adding = f" adding: {ids(state.adding_replicas)}." if state.adding_replicas else ""
        removing = f" removing: {ids(state.removing_replicas)}." if state.removing_replicas else ""
        print(f"{tp}: replicas: {ids(state.replicas)}.{adding}{removing}")
    return 0


async def _elect(admin: Admin, args: argparse.Namespace) -> int:
    from kio.schema.errors import ErrorCode

    from ottla.client import BrokerResponseError, TopicPartition

    wanted: list[TopicPartition] | None = None
    if args.file is not None:
        wanted = read_partitions(args.file)
    elif args.topic is not None:
        wanted = [TopicPartition(args.topic, args.partition)]
    outcomes = await admin.elect_leaders(args.election_type, wanted)
    kind = args.election_type.upper()
    elected = [tp for tp, error in outcomes.items() if error is None]
    failed = {tp: error for tp, error in outcomes.items() if error is not None}
    already = [
        tp
        for tp, error in failed.items()
        if isinstance(error, BrokerResponseError) and error.code is ErrorCode.election_not_needed
    ]
    if elected:
        print(f"Successfully completed leader election ({kind}) for partitions {_names(elected)}")
    if already:
        print(f"Valid replica already elected for partitions {_names(already)}")
    problems = {tp: error for tp, error in failed.items() if tp not in already}
    for tp, error in problems.items():
        print(f"Error completing leader election ({kind}) for partition: {tp}: {error}")
    if not outcomes:
        print(f"No partition needs a leader election ({kind}).")
    return 1 if problems else 0


def _names(partitions: Iterable[TopicPartition]) -> str:
    return ", ".join(map(str, sorted(partitions)))

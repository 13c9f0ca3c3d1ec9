"""`ottla topic create|list|describe|alter|delete-records|delete`: rpk's grammar and flags, Kafka's names and lines."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ottla.cli import topic_change, topic_describe
from ottla.cli.common import (
    TIMEOUT_MS,
    add_bootstrap,
    add_format,
    columns,
    key_values,
    positive,
    print_json,
    run_client,
)

if TYPE_CHECKING:
    from ottla.client import Admin

CHANGE_TIMEOUT_MS = 30000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    create = verbs.add_parser("create", help="create topics")
    create.add_argument("topics", nargs="+", metavar="TOPIC")
    create.add_argument("-p", "--partitions", type=positive, help="number of partitions (default: the broker's)")
    create.add_argument("-r", "--replicas", "--replication-factor", dest="replicas", type=positive)
    create.add_argument(
        "--replica-assignment",
        type=topic_change.assignment,
        metavar="ID:ID,ID:ID",
        help="brokers of each partition, in place of numbers of partitions and replicas",
    )
    create.add_argument("-c", "--config", action="append", default=[], metavar="KEY=VALUE", help="may be repeated")
    create.add_argument("--if-not-exists", action="store_true", help="leave a topic that exists as it is")
    create.add_argument("--validate-only", action="store_true", help="only say whether it could be done")

    listing = verbs.add_parser("list", help="list topics")
    listing.add_argument("--exclude-internal", action="store_true", help="no topics of the cluster's own")

    describe = verbs.add_parser("describe", help="show leaders, replicas and in-sync replicas, or offsets")
    topic_describe.add_arguments(describe)

    alter = verbs.add_parser("alter", help="add partitions, change configs")
    topic_change.add_alter(alter)

    delete_records = verbs.add_parser("delete-records", help="forget what lies below an offset")
    topic_change.add_delete_records(delete_records)

    delete = verbs.add_parser("delete", help="delete topics")
    delete.add_argument("topics", nargs="+", metavar="TOPIC")
    delete.add_argument("--if-exists", action="store_true", help="a topic that is not there is no error")

    for verb in (create, listing, describe, alter, delete_records, delete):
        add_bootstrap(verb)
        add_format(verb)


def run(args: argparse.Namespace) -> int:
    verbs = {
        "create": _create,
        "list": _list,
        "describe": topic_describe.run,
        "alter": topic_change.alter,
        "delete-records": topic_change.delete_records,
        "delete": _delete,
    }

    async def work() -> int:
        from ottla.client import Admin

        timeout = TIMEOUT_MS if args.verb in ("list", "describe") else CHANGE_TIMEOUT_MS
        async with Admin(bootstrap_servers=args.bootstrap, request_timeout_ms=timeout) as admin:
            return await verbs[args.verb](admin, args)

    # Wrong arguments are told before anything is asked of the cluster.
    if args.verb == "create":
        key_values(args.config)
    if args.verb in ("alter", "delete-records"):
        topic_change.check(args)
    return run_client(work)


async def _create(admin: Admin, args: argparse.Namespace) -> int:
    from ottla.client import NewTopic, TopicAlreadyExistsError

    for name in args.topics:
        topic = NewTopic(
            name,
            args.partitions or -1,
            args.replicas or -1,
            replica_assignments=dict(enumerate(args.replica_assignment or ())),
            topic_configs=key_values(args.config),
        )
        status = "Created"
        try:
            await admin.create_topics([topic], validate_only=args.validate_only)
        except TopicAlreadyExistsError:
            if not args.if_not_exists:
                raise
            status = "Exists"
        if args.validate_only and status == "Created":
            status = "Valid"
        if args.format == "json":
            print_json({"topic": name, "status": status.lower()})
        else:
            print(f"{status} topic {name}.")
    return 0


async def _list(admin: Admin, args: argparse.Namespace) -> int:
    topics = await admin.describe_topics()
    rows = [
        (t.name, len(t.partitions), topic_describe.replication(t))
        for t in topics.values()
        if not (args.exclude_internal and t.is_internal)
    ]
    if args.format == "json":
        print_json([dict(zip(("name", "partitions", "replicas"), row, strict=True)) for row in rows])
    else:
        print(columns(("NAME", "PARTITIONS", "REPLICAS"), rows))
    return 0


async def _delete(admin: Admin, args: argparse.Namespace) -> int:
    from ottla.client import UnknownTopicOrPartitionError

    for name in args.topics:
        status = "Deleted"
        try:
            await admin.delete_topics([name])
        except UnknownTopicOrPartitionError:
            if not args.if_exists:
                raise
            status = "Absent"
        if args.format == "json":
            print_json({"topic": name, "status": status.lower()})
        else:
            print(f"{status} topic {name}.")
    return 0

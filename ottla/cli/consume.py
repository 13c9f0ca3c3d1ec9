"""`ottla consume TOPIC`: print records. Options for groups have the names of Kafka's own tool and settings."""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING, Any

from ottla.cli.common import TIMEOUT_MS, add_bootstrap, add_format, positive, print_json, run_client, text_of
from ottla.cli.main import CommandError

if TYPE_CHECKING:
    from ottla.client import ConsumerRecord, TopicPartition


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topic", nargs="?", metavar="TOPIC")
    parser.add_argument("--include", metavar="REGEX", help="all topics whose whole name matches; with --group")
    parser.add_argument("--from-beginning", action="store_true", help="from the first record (default: new ones)")
    parser.add_argument("-o", "--offset", type=int, help="from this offset on, in every partition that is read")
    parser.add_argument("-n", "--num", "--max-messages", dest="num", type=positive, help="stop after so many records")
    parser.add_argument("-g", "--group", help="as a member of this consumer group, and commit what was printed")
    parser.add_argument("--group-protocol", choices=("classic", "consumer"), help="of the group (default: classic)")
    parser.add_argument("--group-instance-id", metavar="ID", help="as a static member of the group (KIP-345)")
    parser.add_argument("-p", "--partition", type=int, help="read this one only")
    parser.add_argument("--exit-at-end", action="store_true", help="stop when everything that is there was read")
    parser.add_argument("-k", "--key-separator", metavar="SEP", help="print the key too, and SEP before the value")
    add_bootstrap(parser)
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    if args.offset is not None and (args.offset < 0 or args.from_beginning):
        raise CommandError("--offset takes a number from 0 on, and not together with --from-beginning", status=2)
    if args.group is not None and (args.offset is not None or args.partition is not None):
        raise CommandError("--group decides what is read: not together with --offset or --partition", status=2)
    if (args.topic is None) == (args.include is None):
        raise CommandError("either TOPIC or --include says what is read", status=2)
    for name in ("include", "group_protocol", "group_instance_id"):
        if args.group is None and getattr(args, name) is not None:
            raise CommandError(f"--{name.replace('_', '-')} needs --group", status=2)
    return run_client(lambda: _consume(args))


async def _consume(args: argparse.Namespace) -> int:
    from ottla.client import Consumer, TopicPartition, UnknownTopicOrPartitionError

    consumer = Consumer(
        bootstrap_servers=args.bootstrap,
        auto_offset_reset="earliest" if args.from_beginning else "latest",
        group_id=args.group,
        group_protocol=args.group_protocol or "classic",
        group_instance_id=args.group_instance_id,
        allow_auto_create_topics=False,
        request_timeout_ms=TIMEOUT_MS,
    )
    if args.include is not None:
        consumer.subscribe(pattern=_whole(args.include))
    elif args.group is not None:
        consumer.subscribe([args.topic])
    async with consumer:
        ends: dict[TopicPartition, int] | None = None
        if args.group is not None:
            there = await _partitions(consumer, args)
            if args.exit_at_end:
                ends = await consumer.end_offsets(there)
            await _print_records(consumer, ends, args)
            return 0
        partitions = await consumer.partitions_of(args.topic)
        chosen = [TopicPartition(args.topic, p) for p in sorted(partitions) if args.partition in (None, p)]
        if not chosen:
            raise CommandError(f"topic {args.topic!r} has no partition {args.partition}")
        consumer.assign(chosen)
        if args.offset is not None:
            for tp in chosen:
                consumer.seek(tp, args.offset)
        try:
            if args.exit_at_end:
                ends = await consumer.end_offsets(chosen)
            await _print_records(consumer, ends, args)
        except UnknownTopicOrPartitionError as error:
            raise CommandError(f"topic {args.topic!r} is gone") from error
    return 0


def _whole(regex: str) -> str:
    return rf"(?:{regex})\Z"


async def _partitions(consumer: Any, args: argparse.Namespace) -> list[TopicPartition]:
    """All that there are at present of what is asked for. Raises UnknownTopicOrPartitionError."""
    from ottla.client import TopicPartition

    names = [args.topic] if args.include is None else sorted(await consumer.topics())
    return [
        TopicPartition(name, index)
        for name in names
        if args.include is None or re.match(_whole(args.include), name)
        for index in sorted(await consumer.partitions_of(name))
    ]


async def _print_records(consumer: Any, ends: dict[Any, int] | None, args: argparse.Namespace) -> None:
    left = args.num
    while left is None or left > 0:
        if ends is not None and await _at(consumer, ends):
            return
        batches = await consumer.getmany(timeout_ms=500, max_records=min(left or 500, 500))
        for records in batches.values():
            for record in records:
                _print(record, args)
                left = left if left is None else left - 1
        if batches:
            sys.stdout.flush()


async def _at(consumer: Any, ends: dict[Any, int]) -> bool:
    """Whether everything that is read here was read up to there. Before anything is assigned it was not."""
    mine = [tp for tp in ends if tp in consumer.assignment()]
    return bool(mine) and all([await consumer.position(tp) >= ends[tp] for tp in mine])


def _print(record: ConsumerRecord, args: argparse.Namespace) -> None:
    if args.format == "json":
        print_json(
            {
                "topic": record.topic,
                "key": text_of(record.key),
                "value": text_of(record.value),
                "headers": [{"key": name, "value": text_of(value)} for name, value in record.headers],
                "timestamp": record.timestamp,
                "partition": record.partition,
                "offset": record.offset,
            }
        )
        return
    line = b"" if record.value is None else record.value
    if args.key_separator is not None:
        line = (record.key or b"") + args.key_separator.encode() + line
    sys.stdout.buffer.write(line + b"\n")

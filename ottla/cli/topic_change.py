"""`ottla topic alter` and `ottla topic delete-records`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ottla.cli.common import columns, key_values, positive, print_json
from ottla.cli.main import CommandError

if TYPE_CHECKING:
    from ottla.client import Admin, TopicPartition

END = -1


def add_alter(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topic", metavar="TOPIC")
    parser.add_argument("-p", "--partitions", type=positive, metavar="N", help="so many partitions in all")
    parser.add_argument(
        "--replica-assignment",
        type=assignment,
        metavar="ID:ID,ID:ID",
        help="brokers of the new partitions, those of one with colons, partitions with commas",
    )
    parser.add_argument("-c", "--config", action="append", default=[], metavar="KEY=VALUE", help="may be repeated")
    parser.add_argument("--delete-config", action="append", default=[], metavar="KEY", help="may be repeated")
    parser.add_argument("--validate-only", action="store_true", help="only say whether it could be done")


def add_delete_records(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topic", nargs="?", metavar="TOPIC")
    parser.add_argument("--offset", type=_offset, metavar="N|end", help="what lies below is forgotten")
    parser.add_argument(
        "-p", "--partition", action="append", type=_number, metavar="P", help="default: all of the topic"
    )
    parser.add_argument(
        "--offset-json-file", metavar="FILE", help='Kafka\'s form: {"partitions":[{"topic":,"partition":,"offset":}]}'
    )


def check(args: argparse.Namespace) -> None:
    """Raises CommandError for arguments that make no sense together."""
    if args.verb == "alter":
        key_values(args.config)
        if args.replica_assignment and args.partitions is None:
            raise CommandError("--replica-assignment needs --partitions", status=2)
        if not (args.partitions or args.config or args.delete_config):
            raise CommandError("nothing to alter: give --partitions, --config or --delete-config", status=2)
    elif args.offset_json_file is None:
        if args.topic is None or args.offset is None:
            raise CommandError("give a topic and --offset, or --offset-json-file", status=2)
    elif args.topic is not None or args.offset is not None or args.partition:
        raise CommandError("--offset-json-file says all of it: give no topic, --offset or --partition", status=2)


async def alter(admin: Admin, args: argparse.Namespace) -> int:
    from ottla.client import ConfigResource, NewPartitions

    changes: dict[str, str | None] = {**key_values(args.config), **dict.fromkeys(args.delete_config)}
    if changes:
        resource = ConfigResource("topic", args.topic)
        await admin.incremental_alter_configs({resource: changes}, validate_only=args.validate_only)
    if args.partitions:
        wanted = NewPartitions(args.partitions, args.replica_assignment)
        await admin.create_partitions({args.topic: wanted}, validate_only=args.validate_only)
    if args.format == "json":
        print_json({"topic": args.topic, "status": "valid" if args.validate_only else "altered"})
    elif args.validate_only:
        print(f"Topic {args.topic} could be altered like that.")
    else:
        print(f"Altered topic {args.topic}.")
    return 0


async def delete_records(admin: Admin, args: argparse.Namespace) -> int:
    from ottla.client import TopicPartition

    if args.offset_json_file is not None:
        wanted: Mapping[TopicPartition, int] = _from_file(args.offset_json_file)
    else:
        found = (await admin.describe_topics([args.topic]))[args.topic]
        indexes = args.partition or sorted(found.partitions)
        unknown = [index for index in indexes if index not in found.partitions]
        if unknown:
            raise CommandError(f"topic {args.topic} has no partition {unknown[0]}")
        wanted = {TopicPartition(args.topic, index): args.offset for index in indexes}
    low = sorted((await admin.delete_records(wanted)).items())
    if args.format == "json":
        print_json([{"topic": tp.topic, "partition": tp.partition, "low_watermark": offset} for tp, offset in low])
    else:
        print(columns(("TOPIC", "PARTITION", "LOW-WATERMARK"), [(*tp, offset) for tp, offset in low]))
    return 0


def _from_file(path: str) -> dict[TopicPartition, int]:
    from ottla.client import TopicPartition

    try:
        with open(path, encoding="utf-8") as file:
            rows: Any = json.load(file)["partitions"]
        return {TopicPartition(str(row["topic"]), int(row["partition"])): int(row["offset"]) for row in rows}
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CommandError(f"{path} does not list partitions with topic, partition and offset: {error!r}") from error


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on")
    return int(text)


def _offset(text: str) -> int:
    return END if text in ("end", str(END)) else _number(text)


def assignment(text: str) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(_number(broker) for broker in part.split(":")) for part in text.split(","))

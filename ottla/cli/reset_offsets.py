"""`ottla group reset-offsets`: where to, in the words of Kafka's own tool."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ottla.cli.common import columns, print_json
from ottla.cli.main import CommandError

if TYPE_CHECKING:
    from ottla.client import Admin, TopicPartition

_LATEST, _EARLIEST = -1, -2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("group", metavar="GROUP")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--topic",
        action="append",
        default=[],
        metavar="TOPIC[:PARTITION,...]",
        help="may be repeated; default: all that the group has committed something of",
    )
    where.add_argument("--all-topics", action="store_true", help="the default, spelled out")
    to = parser.add_mutually_exclusive_group(required=True)
    to.add_argument("--to-earliest", action="store_true", help="the first record")
    to.add_argument("--to-latest", action="store_true", help="behind the last record")
    to.add_argument("--to-current", action="store_true", help="where it is; for partitions without a commit, the end")
    to.add_argument("--to-offset", type=int, metavar="N")
    to.add_argument("--to-datetime", metavar="YYYY-MM-DDTHH:MM:SS[.mmm][+HH:MM]", help="UTC if there is no zone")
    to.add_argument("--by-duration", metavar="PnDTnHnMnS", help="so long ago, for example PT1H")
    to.add_argument("--shift-by", type=int, metavar="N", help="from where it is; back, if below 0")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--dry-run", action="store_true", help="only say what would be set")
    how.add_argument("--execute", action="store_true", help="the default, spelled out")


def check(args: argparse.Namespace) -> None:
    """Raises CommandError for arguments that make no sense, before anything is asked of the cluster."""
    for text in args.topic:
        _parse(text)
    _time(args, 0)


def _parse(text: str) -> tuple[str, list[int] | None]:
    topic, colon, numbers = text.partition(":")
    try:
        chosen = [int(number) for number in numbers.split(",")] if colon else None
    except ValueError:
        chosen = [-1]
    if not topic or (chosen is not None and min(chosen) < 0):
        raise CommandError(f"--topic {text!r} is not TOPIC[:PARTITION,...]", status=2)
    return topic, chosen


def _time(args: argparse.Namespace, now_ms: int) -> int | None:
    """What to ask the leaders for: a time in ms, or one of the ends; None if it is not about time."""
    from ottla.client import parse_duration

    if args.to_earliest:
        return _EARLIEST
    if args.to_latest:
        return _LATEST
    try:
        if args.to_datetime is not None:
            moment = datetime.fromisoformat(args.to_datetime)
            return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
        if args.by_duration is not None:
            return max(now_ms - round(parse_duration(args.by_duration).total_seconds() * 1000), 0)
    except ValueError as error:
        raise CommandError(str(error), status=2) from error
    return None


async def run(admin: Admin, args: argparse.Namespace) -> int:
    from ottla.client import GroupIdNotFoundError, OffsetAndMetadata
    from ottla.client.options import wall_clock_ms

    current = {tp: place.offset for tp, place in (await admin.list_consumer_group_offsets(args.group)).items()}
    chosen = await _chosen(admin, args, current)
    if not chosen:
        raise CommandError(f"group {args.group!r} has committed nothing; name topics with --topic")
    members = 0
    try:
        members = len((await admin.describe_consumer_groups([args.group]))[args.group].members)
    except GroupIdNotFoundError:
        # With its first offsets it comes into being.
        members = 0
    if members:
        raise CommandError(f"group {args.group!r} has {members} members; offsets can be set when all have left")
    new = await _new_offsets(admin, args, chosen, current, wall_clock_ms())
    if not args.dry_run:
        await admin.alter_consumer_group_offsets(args.group, {tp: OffsetAndMetadata(at) for tp, at in new.items()})
    rows = [(args.group, tp.topic, tp.partition, current.get(tp), new[tp]) for tp in chosen]
    names = ("group", "topic", "partition", "old-offset", "new-offset")
    if args.format == "json":
        keys = [name.replace("-", "_") for name in names]
        print_json({"dry_run": args.dry_run, "offsets": [dict(zip(keys, row, strict=True)) for row in rows]})
    else:
        print(columns([name.upper() for name in names], [["-" if c is None else c for c in row] for row in rows]))
    return 0


async def _chosen(
    admin: Admin, args: argparse.Namespace, current: Mapping[TopicPartition, int]
) -> list[TopicPartition]:
    from ottla.client import TopicPartition

    if not args.topic:
        return sorted(current)
    chosen = set()
    for text in args.topic:
        topic, numbers = _parse(text)
        there = (await admin.describe_topics([topic]))[topic].partitions
        missing = [number for number in numbers or () if number not in there]
        if missing:
            raise CommandError(f"topic {topic!r} has no partition {missing[0]}")
        chosen |= {TopicPartition(topic, number) for number in (there if numbers is None else numbers)}
    return sorted(chosen)


async def _new_offsets(
    admin: Admin,
    args: argparse.Namespace,
    chosen: list[TopicPartition],
    current: Mapping[TopicPartition, int],
    now_ms: int,
) -> dict[TopicPartition, int]:
    first = await admin.list_offsets(dict.fromkeys(chosen, _EARLIEST))
    last = await admin.list_offsets(dict.fromkeys(chosen, _LATEST))
    time = _time(args, now_ms)
    found = {} if time is None else await admin.list_offsets(dict.fromkeys(chosen, time))
    new = {}
    for tp in chosen:
        end = last[tp].offset
        if time is not None:
            # Nothing is that late: behind everything that there is.
            wanted = found[tp].offset if found[tp].offset >= 0 else end
        elif args.to_offset is not None:
            wanted = args.to_offset
        elif args.to_current:
            wanted = current.get(tp, end)
        elif tp not in current:
            raise CommandError(f"group {args.group!r} has committed nothing of {tp}: there is nothing to shift")
        else:
            wanted = current[tp] + args.shift_by
        # As Kafka's tool: what would be outside of the log goes to its nearer end.
        new[tp] = min(max(wanted, first[tp].offset), end)
    return new

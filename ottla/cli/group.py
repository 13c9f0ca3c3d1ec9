"""`ottla group list|describe|reset-offsets|delete`: rpk's grammar, and the columns and words of Kafka's own tool."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ottla.cli import reset_offsets
from ottla.cli.common import add_bootstrap, add_format, columns, print_json, run_client

if TYPE_CHECKING:
    from ottla.client import Admin, GroupDescription, GroupMemberDescription, OffsetAndMetadata, TopicPartition

TIMEOUT_MS = 15000
NOTHING = "-"
_LATEST = -1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    listing = verbs.add_parser("list", help="list groups")
    listing.add_argument("--state", action="append", default=[], metavar="STATE", help="only these, may be repeated")
    listing.add_argument("--type", action="append", default=[], metavar="TYPE", help="classic or consumer")

    describe = verbs.add_parser("describe", help="show where groups are, and how far that is from the end")
    describe.add_argument("groups", nargs="*", metavar="GROUP", help="default: all")
    what = describe.add_mutually_exclusive_group()
    what.add_argument("--offsets", dest="what", action="store_const", const="offsets", help="by partition (default)")
    what.add_argument("--members", dest="what", action="store_const", const="members", help="by member")
    what.add_argument("--state", dest="what", action="store_const", const="state", help="one line for each group")
    describe.set_defaults(what="offsets")

    reset = verbs.add_parser("reset-offsets", help="set where a group without members goes on")
    reset_offsets.add_arguments(reset)

    delete = verbs.add_parser("delete", help="delete groups without members, and their offsets")
    delete.add_argument("groups", nargs="+", metavar="GROUP")
    delete.add_argument("--dry-run", action="store_true", help="only say what would be deleted")

    for verb in (listing, describe, reset, delete):
        add_bootstrap(verb)
        add_format(verb)


def run(args: argparse.Namespace) -> int:
    verbs = {"list": _list, "describe": _describe, "reset-offsets": reset_offsets.run, "delete": _delete}
    if args.verb == "reset-offsets":
        reset_offsets.check(args)

    async def work() -> int:
        from ottla.client import Admin

        async with Admin(bootstrap_servers=args.bootstrap, request_timeout_ms=TIMEOUT_MS) as admin:
            return await verbs[args.verb](admin, args)

    return run_client(work)


async def _list(admin: Admin, args: argparse.Namespace) -> int:
    groups = await admin.list_groups(states=args.state, types=args.type)
    rows = [(g.group_id, g.type, g.protocol_type, g.state, g.coordinator) for g in groups]
    names = ("group", "type", "protocol", "state", "coordinator")
    if args.format == "json":
        print_json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        print(columns([name.upper() for name in names], [[cell or NOTHING for cell in row] for row in rows]))
    return 0


async def _describe(admin: Admin, args: argparse.Namespace) -> int:
    names = args.groups or [group.group_id for group in await admin.list_groups()]
    described = await admin.describe_consumer_groups(names)
    show = {"offsets": _show_offsets, "members": _show_members, "state": _show_state}[args.what]
    await show(admin, list(described.values()), args)
    return 0


async def _show_state(admin: Admin, groups: list[GroupDescription], args: argparse.Namespace) -> None:
    names = ("group", "coordinator", "assignment-strategy", "state", "members")
    rows = [(g.group_id, g.coordinator, g.assignor or NOTHING, g.state, len(g.members)) for g in groups]
    _print(args, names, rows)


async def _show_members(admin: Admin, groups: list[GroupDescription], args: argparse.Namespace) -> None:
    names = ("group", "consumer-id", "instance-id", "host", "client-id", "partitions", "assignment")
    rows = [
        (
            group.group_id,
            member.member_id,
            member.instance_id or NOTHING,
            member.host,
            member.client_id,
            len(member.assignment),
            _assignment(member.assignment) or NOTHING,
        )
        for group in groups
        for member in group.members
    ]
    _print(args, names, rows)


def _assignment(partitions: Iterable[TopicPartition]) -> str:
    """Kafka's form: `topic(0,1), other(2)`."""
    topics: dict[str, list[int]] = {}
    for topic, index in sorted(partitions):
        topics.setdefault(topic, []).append(index)
    return ", ".join(f"{topic}({','.join(map(str, indexes))})" for topic, indexes in topics.items())


async def _show_offsets(admin: Admin, groups: list[GroupDescription], args: argparse.Namespace) -> None:
    names = (
        "group",
        "topic",
        "partition",
        "current-offset",
        "log-end-offset",
        "lag",
        "consumer-id",
        "host",
        "client-id",
    )
    rows = []
    for group in groups:
        places = await admin.list_consumer_group_offsets(group.group_id)
        owners = {tp: member for member in group.members for tp in member.assignment}
        wanted = sorted({*places, *owners})
        ends, errors = await admin.try_list_offsets(dict.fromkeys(wanted, _LATEST))
        # A topic that is gone, or a partition without a leader, has no end; its commit can be shown all the same.
        known = {tp: end.offset for tp, end in ends.items() if tp not in errors}
        rows += [(group.group_id, *_offset_row(tp, places.get(tp), known.get(tp), owners.get(tp))) for tp in wanted]
    _print(args, names, rows)


def _offset_row(
    tp: TopicPartition, place: OffsetAndMetadata | None, end: int | None, owner: GroupMemberDescription | None
) -> tuple[Any, ...]:
    lag = None if place is None or end is None else max(end - place.offset, 0)
    current = None if place is None else place.offset
    who = (None, None, None) if owner is None else (owner.member_id, owner.host, owner.client_id)
    return (tp.topic, tp.partition, current, end, lag, *who)


def _print(args: argparse.Namespace, names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    if args.format == "json":
        keys = [name.replace("-", "_") for name in names]
        print_json([dict(zip(keys, row, strict=True)) for row in rows])
        return
    table = [[NOTHING if cell is None else cell for cell in row] for row in rows]
    print(columns([name.upper() for name in names], table))


async def _delete(admin: Admin, args: argparse.Namespace) -> int:
    """All that can be; status 1 if that is not all."""
    status = 0
    for name in args.groups:
        error = await _delete_one(admin, name, dry_run=args.dry_run)
        if error is not None:
            print(
                f"ottla: group {name!r} {'would not be' if args.dry_run else 'is not'} deleted: {error}",
                file=sys.stderr,
            )
            status = 1
        elif args.format == "json":
            print_json({"group": name, "status": "would be deleted" if args.dry_run else "deleted"})
        else:
            print(f"{'Would delete' if args.dry_run else 'Deleted'} group {name}.")
    return status


async def _delete_one(admin: Admin, name: str, *, dry_run: bool) -> str | None:
    """Why it cannot be."""
    from ottla.client import GroupIdNotFoundError, KafkaError, NonEmptyGroupError

    try:
        if not dry_run:
            await admin.delete_consumer_groups([name])
            return None
        members = (await admin.describe_consumer_groups([name]))[name].members
    except NonEmptyGroupError as error:
        return f"it has members: {error}"
    except GroupIdNotFoundError as error:
        return f"there is no such group: {error}"
    except KafkaError as error:
        return str(error)
    return f"it has {len(members)} members" if members else None

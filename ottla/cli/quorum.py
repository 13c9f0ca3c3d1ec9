"""`ottla quorum describe|add|remove`: the metadata quorum, with the columns of kafka-metadata-quorum.sh."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING
from uuid import UUID

from ottla.cli.common import add_bootstrap, add_format, columns, print_json, run_client
from ottla.cli.main import CommandError
from ottla.log import decode_uuid, encode_uuid

if TYPE_CHECKING:
    from ottla.client import Admin, QuorumDescription, QuorumReplica

TIMEOUT_MS = 15000
_REPLICATION = (
    "NodeId",
    "DirectoryId",
    "LogEndOffset",
    "Lag",
    "LastFetchTimestamp",
    "LastCaughtUpTimestamp",
    "Status",
)
_ADDRESS = re.compile(r"^(?P<id>\d+)@(?P<host>\[[^]]+\]|[^:]+):(?P<port>\d{1,5})$")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    describe = verbs.add_parser("describe", help="show who leads, votes and observes")
    what = describe.add_mutually_exclusive_group()
    what.add_argument("--status", action="store_true", help="a summary (the default)")
    what.add_argument("--replication", action="store_true", help="how far each replica of the metadata log is")
    describe.add_argument("--human-readable", action="store_true", help="with --replication: times as so long ago")
    add_format(describe)

    add = verbs.add_parser("add", help="let a controller vote that replicates the metadata log")
    add.add_argument("voter", metavar="ID@HOST:PORT", help="where its controller listener is")

    remove = verbs.add_parser("remove", help="take its vote from a controller")
    remove.add_argument("voter", type=int, metavar="ID")

    for verb in (add, remove):
        verb.add_argument("--directory-id", type=_directory, metavar="UUID", help="only if the node has this directory")
    for verb in (describe, add, remove):
        add_bootstrap(verb)


def run(args: argparse.Namespace) -> int:
    async def ask() -> int:
        from ottla.client import Admin

        async with Admin(bootstrap_servers=args.bootstrap, request_timeout_ms=TIMEOUT_MS) as admin:
            return await work(admin, args)

    return run_client(ask)


async def work(admin: Admin, args: argparse.Namespace) -> int:
    """Carry out what the arguments say. Raises CommandError, KafkaError."""
    if args.verb == "describe" and args.human_readable and not args.replication:
        raise CommandError("--human-readable goes with --replication", 2)
    if args.verb == "add":
        voter, host, port = _address(args.voter)
        await admin.add_raft_voter(voter, host, port, voter_directory_id=args.directory_id)
        print(f"Added voter {voter}.")
    elif args.verb == "remove":
        await admin.remove_raft_voter(args.voter, voter_directory_id=args.directory_id)
        print(f"Removed voter {args.voter}.")
    elif args.replication:
        from ottla.client.options import wall_clock_ms

        quorum = await admin.describe_metadata_quorum()
        _print_replication(quorum, args.format, wall_clock_ms() if args.human_readable else None)
    else:
        quorum, cluster = await admin.describe_metadata_quorum(), await admin.describe_cluster()
        _print_status(quorum, cluster.cluster_id, args.format)
    return 0


def _address(text: str) -> tuple[int, str, int]:
    found = _ADDRESS.match(text)
    if found is None:
        raise CommandError(f"{text!r} is not ID@HOST:PORT", 2)
    return int(found["id"]), found["host"].strip("[]"), int(found["port"])


def _directory(text: str) -> UUID:
    try:
        return decode_uuid(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not the directory.id of a meta.properties") from None


def _print_status(quorum: QuorumDescription, cluster_id: str, form: str) -> None:
    rows: list[tuple[str, object]] = [
        ("ClusterId", cluster_id),
        ("LeaderId", quorum.leader_id),
        ("LeaderEpoch", quorum.leader_epoch),
        ("HighWatermark", quorum.high_watermark),
        *zip(("MaxFollowerLag", "MaxFollowerLagTimeMs"), _lag(quorum), strict=True),
        ("CurrentVoters", _members(quorum.voters)),
        ("CurrentObservers", _members(quorum.observers)),
    ]
    if form == "json":
        print_json(dict(rows))
        return
    for name, value in rows:
        print(f"{name}:".ljust(24) + (json.dumps(value) if isinstance(value, list) else str(value)))


def _members(replicas: Iterable[QuorumReplica]) -> list[dict[str, object]]:
    rows = sorted((each.replica_id, each.directory_id) for each in replicas)
    return [{"id": id_, "directoryId": encode_uuid(directory) if directory else None} for id_, directory in rows]


def _lag(quorum: QuorumDescription) -> tuple[int, int]:
    """By how much the voter that is behind most is behind the leader, in entries and in ms; -1 for what is unknown.

    Among those that are equally far the one counts that was last caught up longest ago."""
    leader = next((each for each in quorum.voters if each.replica_id == quorum.leader_id), None)
    followers = [each for each in quorum.voters if each is not leader]
    if leader is None or min(each.log_end_offset for each in quorum.voters) < 0:
        return -1, -1
    if not followers:
        return 0, 0
    last = min(followers, key=lambda each: (each.log_end_offset, each.last_caught_up_timestamp))
    known = min(leader.last_caught_up_timestamp, last.last_caught_up_timestamp) >= 0
    lag_ms = leader.last_caught_up_timestamp - last.last_caught_up_timestamp if known else -1
    return leader.log_end_offset - last.log_end_offset, lag_ms


def _print_replication(quorum: QuorumDescription, form: str, now_ms: int | None) -> None:
    """With `now_ms` times are printed as so long ago."""
    end = max((each.log_end_offset for each in quorum.voters), default=-1)
    rows = [
        _replica(each, "Leader" if each.replica_id == quorum.leader_id else "Follower", end, now_ms)
        for each in quorum.voters
    ]
    rows += [_replica(each, "Observer", end, now_ms) for each in quorum.observers]
    rows.sort(key=lambda row: (("Leader", "Follower", "Observer").index(str(row[-1])), row[0]))
    if form == "json":
        print_json([dict(zip(_REPLICATION, row, strict=True)) for row in rows])
    else:
        print(columns(_REPLICATION, rows))


def _replica(each: QuorumReplica, status: str, end: int, now_ms: int | None) -> tuple[object, ...]:
    lag = end - each.log_end_offset if each.log_end_offset >= 0 else -1
    directory = encode_uuid(each.directory_id or UUID(int=0))
    times = (_time(when, now_ms) for when in (each.last_fetch_timestamp, each.last_caught_up_timestamp))
    return (each.replica_id, directory, each.log_end_offset, lag, *times, status)


def _time(when_ms: int, now_ms: int | None) -> object:
    """The clock here may be behind that of the controller."""
    return when_ms if when_ms < 0 or now_ms is None else f"{max(now_ms - when_ms, 0)} ms ago"

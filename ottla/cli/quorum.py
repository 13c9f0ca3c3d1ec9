"""`ottla quorum describe|add|remove`: the metadata quorum, with the columns of kafka-metadata-quorum.sh."""

from __future__ import annotations

import argparse
import re
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
    if args.verb == "add":
        voter, host, port = _address(args.voter)
        await admin.add_raft_voter(voter, host, port, voter_directory_id=args.directory_id)
        print(f"Added voter {voter}.")
    elif args.verb == "remove":
        await admin.remove_raft_voter(args.voter, voter_directory_id=args.directory_id)
        print(f"Removed voter {args.voter}.")
    elif args.replication:
        _print_replication(await admin.describe_quorum(), args.format)
    else:
        quorum, cluster = await admin.describe_quorum(), await admin.describe_cluster()
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
    ends = [each.log_end_offset for each in quorum.voters]
    known = min(ends, default=-1) >= 0
    rows: list[tuple[str, object]] = [
        ("ClusterId", cluster_id),
        ("LeaderId", quorum.leader_id),
        ("LeaderEpoch", quorum.leader_epoch),
        ("HighWatermark", quorum.high_watermark),
        ("MaxFollowerLag", max(ends) - min(ends) if known else -1),
        ("CurrentVoters", sorted(each.replica_id for each in quorum.voters)),
        ("CurrentObservers", sorted(each.replica_id for each in quorum.observers)),
    ]
    if form == "json":
        print_json(dict(rows))
        return
    for name, value in rows:
        print(f"{name}:".ljust(18) + str(value).replace(" ", ""))


def _print_replication(quorum: QuorumDescription, form: str) -> None:
    end = max((each.log_end_offset for each in quorum.voters), default=-1)
    rows = [
        _replica(each, "Leader" if each.replica_id == quorum.leader_id else "Follower", end) for each in quorum.voters
    ]
    rows += [_replica(each, "Observer", end) for each in quorum.observers]
    rows.sort(key=lambda row: (("Leader", "Follower", "Observer").index(str(row[-1])), row[0]))
    if form == "json":
        print_json([dict(zip(_REPLICATION, row, strict=True)) for row in rows])
    else:
        print(columns(_REPLICATION, rows))


def _replica(each: QuorumReplica, status: str, end: int) -> tuple[object, ...]:
    lag = end - each.log_end_offset if each.log_end_offset >= 0 else -1
    directory = encode_uuid(each.directory_id or UUID(int=0))
    return (
        each.replica_id,
        directory,
        each.log_end_offset,
        lag,
        each.last_fetch_timestamp,
        each.last_caught_up_timestamp,
        status,
    )

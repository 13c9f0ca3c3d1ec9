"""`ottla log-dirs`: what lies in the data directories of the brokers, and how much room is left there."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ottla.cli.common import TIMEOUT_MS, add_bootstrap, add_format, columns, print_json, run_client

if TYPE_CHECKING:
    from ottla.client import LogDirDescription

UNKNOWN = "-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--broker", action="append", type=int, metavar="ID", help="only these, may be repeated")
    parser.add_argument("--topic", action="append", metavar="TOPIC", help="only these, may be repeated")
    parser.add_argument("--replicas", action="store_true", help="every replica, in place of sums")
    add_bootstrap(parser)
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    async def work() -> int:
        from ottla.client import Admin

        async with Admin(bootstrap_servers=args.bootstrap, request_timeout_ms=TIMEOUT_MS) as admin:
            found = await admin.describe_log_dirs(args.broker)
        rows = [
            (broker, path, each, _replicas(each, args.topic))
            for broker, directories in found.items()
            for path, each in directories.items()
        ]
        if args.format == "json":
            print_json([_as_json(*row) for row in rows])
        elif args.replicas:
            header = ("BROKER", "DIR", "TOPIC", "PARTITION", "SIZE", "OFFSET-LAG")
            print(columns(header, [(broker, path, *replica) for broker, path, _, all_ in rows for replica in all_]))
        else:
            header = ("BROKER", "DIR", "REPLICAS", "SIZE", "TOTAL", "USABLE")
            print(columns(header, [_sum(*row) for row in rows]))
        return 0

    return run_client(work)


Replica = tuple[str, int, int, int]
"""Topic, partition, size, lag."""


def _replicas(directory: LogDirDescription, topics: list[str] | None) -> list[Replica]:
    return sorted(
        (tp.topic, tp.partition, info.size, info.offset_lag)
        for tp, info in directory.replica_infos.items()
        if topics is None or tp.topic in topics
    )


def _sum(broker: int, path: str, directory: LogDirDescription, replicas: list[Replica]) -> tuple[object, ...]:
    room = (UNKNOWN if size < 0 else size for size in (directory.total_bytes, directory.usable_bytes))
    return (broker, path, len(replicas), sum(size for *_, size, _ in replicas), *room)


def _as_json(broker: int, path: str, directory: LogDirDescription, replicas: list[Replica]) -> dict[str, Any]:
    names = ("topic", "partition", "size", "offset_lag")
    return {
        "broker": broker,
        "log_dir": path,
        "total_bytes": directory.total_bytes,
        "usable_bytes": directory.usable_bytes,
        "replicas": [dict(zip(names, replica, strict=True)) for replica in replicas],
    }

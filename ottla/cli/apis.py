"""`ottla apis`: what is served of Kafka's protocol, by this code or by a running broker, and what is missing."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ottla.cli.common import TIMEOUT_MS, add_format, columns, print_json, run_client
from ottla.cli.main import CommandError

if TYPE_CHECKING:
    from ottla.broker import Coverage

API_VERSIONS = 18
NOTHING = "-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gaps", action="store_true", help="only what is missing, all or in part")
    parser.add_argument("--all", action="store_true", help="also what passes only between Kafka's own servers")
    parser.add_argument(
        "--bootstrap",
        "--bootstrap-server",
        metavar="HOST:PORT",
        help="a broker to ask what it serves, Kafka's own included (default: what this code serves)",
    )
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    from ottla.broker import coverage

    rows = coverage(None if args.bootstrap is None else _ask(args.bootstrap))
    shown = [row for row in rows if (args.all or row.for_clients) and (row.missing or not args.gaps)]
    if args.format == "json":
        print_json([_as_json(row) for row in shown])
    else:
        # Why something is missing is known of this code only.
        own = args.bootstrap is None
        header = ("KEY", "API", "KAFKA", "SERVED", "MISSING", *(("WHY",) if own else ()))
        print(columns(header, [_row(row)[: len(header)] for row in shown]))
    return 0


def _ask(address: str) -> dict[int, tuple[int, int]]:
    """What a broker announces."""
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        raise CommandError(f"--bootstrap {address!r} is not HOST:PORT", status=2)

    async def ask() -> dict[int, tuple[int, int]]:
        from ottla.client import KafkaConnectionError
        from ottla.wire import KafkaConnection

        try:
            connection = await KafkaConnection.open(host.strip("[]"), int(port), timeout=TIMEOUT_MS / 1000)
        except OSError as error:
            raise CommandError(f"cannot connect to {address}: {error.strerror or error}") from error
        try:
            answer = await connection.call(API_VERSIONS, 0, {}, timeout=TIMEOUT_MS / 1000)
        except KafkaConnectionError as error:
            raise CommandError(f"{address}: {error}") from error
        finally:
            connection.abort()
        return {int(row.api_key): (int(row.min_version), int(row.max_version)) for row in answer.api_keys}

    return run_client(ask)


def _versions(versions: tuple[int, int] | None) -> str:
    if versions is None:
        return NOTHING
    low, high = versions
    return f"v{low}" if low == high else f"v{low}-v{high}"


def _row(row: Coverage) -> tuple[object, ...]:
    missing = "all" if row.served is None else ",".join(f"v{version}" for version in row.missing) or NOTHING
    return row.key, row.name, _versions(row.kafka), _versions(row.served), missing, row.reason or ""


def _as_json(row: Coverage) -> dict[str, Any]:
    return {
        "key": row.key,
        "name": row.name,
        "kafka": row.kafka,
        "served": row.served,
        "missing": row.missing,
        "for_clients": row.for_clients,
        "reason": row.reason,
    }

"""`ottla quota describe|set|delete`: client quotas (KIP-546), as kafka-configs has them under --entity-type users."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ottla.cli.common import TIMEOUT_MS, add_bootstrap, add_format, columns, key_values, print_json, run_client
from ottla.cli.main import CommandError

if TYPE_CHECKING:
    from ottla.client import ClientQuota

DEFAULT = "<default>"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    describe = verbs.add_parser("describe", help="show quotas, of everybody or of some")
    change = verbs.add_parser("set", help="set producer_byte_rate, consumer_byte_rate or request_percentage")
    change.add_argument("pairs", nargs="+", metavar="QUOTA=VALUE")
    delete = verbs.add_parser("delete", help="remove quotas")
    delete.add_argument("keys", nargs="+", metavar="QUOTA")
    for verb in (describe, change, delete):
        verb.add_argument("--user", metavar="NAME", help=f"{DEFAULT} for those without a quota of their own")
        verb.add_argument("--client-id", metavar="ID", help=f"{DEFAULT} for those without a quota of their own")
        add_bootstrap(verb)
        add_format(verb)
    for verb in (change, delete):
        verb.add_argument("--validate-only", action="store_true", help="only say whether it could be done")


def run(args: argparse.Namespace) -> int:
    entity = {
        kind: None if name == DEFAULT else name
        for kind, name in (("user", args.user), ("client-id", args.client_id))
        if name is not None
    }
    wanted: dict[str, float | None] = {}
    if args.verb != "describe":
        if not entity:
            raise CommandError("say whose quota: --user, --client-id, or both", status=2)
        wanted = _numbers(args.pairs) if args.verb == "set" else dict.fromkeys(args.keys)

    async def work() -> int:
        from ottla.client import Admin

        async with Admin(bootstrap_servers=args.bootstrap, request_timeout_ms=TIMEOUT_MS) as admin:
            if wanted:
                await admin.alter_client_quotas([(entity, wanted)], validate_only=args.validate_only)
                if args.validate_only:
                    return _valid(args.format)
            return _show(args.format, await admin.describe_client_quotas(entity))

    return run_client(work)


def _valid(form: str) -> int:
    if form == "json":
        print_json({"status": "valid"})
    else:
        print("The quotas could be changed like that.")
    return 0


def _numbers(pairs: Sequence[str]) -> dict[str, float | None]:
    numbers: dict[str, float | None] = {}
    for key, value in key_values(pairs).items():
        try:
            numbers[key] = float(value)
        except ValueError:
            raise CommandError(f"{key}={value}: not a number", status=2) from None
    return numbers


def _show(form: str, found: Sequence[ClientQuota]) -> int:
    if form == "json":
        print_json([{"entity": dict(quota.entity), "values": dict(quota.values)} for quota in found])
        return 0
    rows = [
        (_name(quota.entity, "user"), _name(quota.entity, "client-id"), key, f"{value:g}")
        for quota in found
        for key, value in sorted(quota.values.items())
    ]
    print(columns(("USER", "CLIENT-ID", "QUOTA", "VALUE"), rows))
    return 0


def _name(entity: Mapping[str, str | None], kind: str) -> str:
    return entity[kind] or DEFAULT if kind in entity else "-"

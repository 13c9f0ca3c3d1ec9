"""`ottla features describe|upgrade|downgrade|disable`: the finalised features, as kafka-features.sh has them."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ottla.cli.common import TIMEOUT_MS, add_bootstrap, add_format, columns, print_json, run_client
from ottla.cli.main import CommandError

if TYPE_CHECKING:
    from ottla.client import Admin, FeatureMetadata, UpgradeType

_COLUMNS = ("Feature", "SupportedMinVersion", "SupportedMaxVersion", "FinalizedVersionLevel", "Epoch")
_HELP = {
    "upgrade": "raise the levels of features",
    "downgrade": "lower the levels of features",
    "disable": "take features out of use: the same as a downgrade to level 0",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    describe = verbs.add_parser("describe", help="show which features there are, and on which level")
    add_format(describe)
    add_bootstrap(describe)
    for name, text in _HELP.items():
        verb = verbs.add_parser(name, help=text)
        what = "NAME" if name == "disable" else "NAME=LEVEL"
        verb.add_argument("--feature", action="append", required=True, metavar=what, help="may be given several times")
        verb.add_argument("--dry-run", action="store_true", help="only see whether it can be done")
        if name != "upgrade":
            verb.add_argument("--unsafe", action="store_true", help="even if metadata could be lost")
        add_bootstrap(verb)


def run(args: argparse.Namespace) -> int:
    wanted = {} if args.verb == "describe" else _levels(args.feature, disable=args.verb == "disable")

    async def ask() -> int:
        from ottla.client import Admin

        async with Admin(bootstrap_servers=args.bootstrap, request_timeout_ms=TIMEOUT_MS) as admin:
            if args.verb == "describe":
                _show(await admin.describe_features(), args.format)
                return 0
            return await _update(admin, args, wanted)

    return run_client(ask)


def _levels(features: Iterable[str], *, disable: bool) -> dict[str, int]:
    """Raises CommandError for what is no feature with its level."""
    levels: dict[str, int] = {}
    for text in features:
        name, equals, number = (text, "=", "0") if disable else text.partition("=")
        name = name.strip()
        if not name or not equals or not number.strip().lstrip("-").isdecimal():
            raise CommandError(f"{text!r} is not NAME=LEVEL", status=2)
        if name in levels:
            raise CommandError(f"feature {name} is given more than once", status=2)
        levels[name] = int(number)
    return levels


async def _update(admin: Admin, args: argparse.Namespace, wanted: dict[str, int]) -> int:
    """All features are changed or none: an error is one of each."""
    from ottla.client import BrokerResponseError, FeatureUpdate

    kind: UpgradeType = "upgrade"
    if args.verb != "upgrade":
        kind = "unsafe_downgrade" if args.unsafe else "safe_downgrade"
    updates = {name: FeatureUpdate(level, kind) for name, level in wanted.items()}
    done = f"{args.verb}d"
    try:
        await admin.update_features(updates, validate_only=args.dry_run)
    except BrokerResponseError as error:
        cannot = "Can not" if args.dry_run else "Could not"
        for name, level in sorted(wanted.items()):
            to = "" if args.verb == "disable" else f" to {level}"
            print(f"{cannot} {args.verb} {name}{to}. {error.message or error}")
        raise CommandError(f"{len(wanted)} out of {len(wanted)} operation(s) failed.") from error
    for name, level in sorted(wanted.items()):
        to = "" if args.verb == "disable" else f" to {level}"
        print(f"{name} {'can be' if args.dry_run else 'was'} {done}{to}.")
    return 0


def _show(found: FeatureMetadata, form: str) -> None:
    epoch = "-" if found.finalized_features_epoch is None else found.finalized_features_epoch
    rows: list[tuple[object, ...]] = []
    for name, (low, high) in sorted(found.supported_features.items()):
        finalized = found.finalized_features.get(name)
        rows.append((name, low, high, finalized.max_version_level if finalized else 0, epoch))
    if form == "json":
        print_json([dict(zip(_COLUMNS, row, strict=True)) for row in rows])
    else:
        print(columns(_COLUMNS, rows))

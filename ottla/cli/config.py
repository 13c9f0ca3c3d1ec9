"""`ottla config describe|set|delete`: configs of topics, brokers and groups; rpk's columns, Kafka's words."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ottla.cli.common import add_bootstrap, add_format, columns, key_values, print_json, run_client
from ottla.cli.main import CommandError

if TYPE_CHECKING:
    from ottla.client import Admin, AlterConfigOp, ConfigEntry, ConfigResource

TIMEOUT_MS = 15000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    describe = verbs.add_parser("describe", help="show what is set, or everything")
    describe.add_argument("keys", nargs="*", metavar="KEY", help="only these")
    describe.add_argument("--all", action="store_true", help="also what has its default")
    describe.add_argument("--synonyms", action="store_true", help="every place that gives a value, the first one holds")
    describe.add_argument("--documentation", action="store_true", help="what the keys mean")

    change = verbs.add_parser("set", help="change values")
    change.add_argument("pairs", nargs="+", metavar="KEY=VALUE")
    how = change.add_mutually_exclusive_group()
    how.add_argument("--append", action="store_true", help="add to a list, in place of setting it")
    how.add_argument("--subtract", action="store_true", help="take away from a list")

    delete = verbs.add_parser("delete", help="go back to the defaults")
    delete.add_argument("keys", nargs="+", metavar="KEY")

    for verb in (change, delete):
        verb.add_argument("--validate-only", action="store_true", help="only say whether it could be done")
    for verb in (describe, change, delete):
        _add_target(verb)
        add_bootstrap(verb)
        add_format(verb)


def _add_target(parser: argparse.ArgumentParser) -> None:
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--topic", metavar="TOPIC")
    target.add_argument("--broker", metavar="ID")
    target.add_argument("--default", action="store_true", help="what holds for all brokers")
    target.add_argument("--group", metavar="GROUP")


def run(args: argparse.Namespace) -> int:
    verbs = {"describe": _describe, "set": _set, "delete": _delete}
    if args.verb == "set":
        key_values(args.pairs)
    if args.broker is not None and not args.broker.isdigit():
        raise CommandError(f"--broker {args.broker!r} is not the id of a broker", status=2)

    async def work() -> int:
        from ottla.client import Admin

        async with Admin(bootstrap_servers=args.bootstrap, request_timeout_ms=TIMEOUT_MS) as admin:
            return await verbs[args.verb](admin, args)

    return run_client(work)


def _target(args: argparse.Namespace) -> ConfigResource:
    from ottla.client import ConfigResource

    if args.topic is not None:
        return ConfigResource("topic", args.topic)
    if args.group is not None:
        return ConfigResource("group", args.group)
    return ConfigResource("broker", args.broker or "")


def _named(resource: ConfigResource) -> str:
    return f"{resource.kind} {resource.name}" if resource.name else "all brokers"


async def _describe(admin: Admin, args: argparse.Namespace) -> int:
    target = _target(args)
    described = await admin.describe_configs(
        [target], include_synonyms=args.synonyms, include_documentation=args.documentation
    )
    entries = described[target]
    unknown = [key for key in args.keys if key not in entries]
    # Of all brokers only what is set can be asked for: the rest has a value of its own on each of them.
    if unknown and target.name:
        raise CommandError(f"{_named(target)} has no config {unknown[0]}")
    shown = [
        entry
        for name, entry in sorted(entries.items())
        if (name in args.keys if args.keys else args.all or not entry.is_default)
    ]
    if args.format == "json":
        print_json([_as_json(entry, args) for entry in shown])
        return 0
    header = ("KEY", "VALUE", "SOURCE", *(("SYNONYMS",) if args.synonyms else ()))
    print(columns(header, [_row(entry, synonyms=args.synonyms) for entry in shown]))
    if args.documentation:
        for entry in shown:
            print(f"\n{entry.name} ({entry.type.lower()}{', read-only' if entry.read_only else ''})")
            print(f"  {entry.documentation or 'No documentation.'}")
    return 0


def _row(entry: ConfigEntry, *, synonyms: bool) -> tuple[str, ...]:
    value = "(hidden)" if entry.is_sensitive else "-" if entry.value is None else entry.value
    places = ", ".join(f"{source}:{name}={text}" for name, text, source in entry.synonyms)
    return (entry.name, value, entry.source, *((places,) if synonyms else ()))


def _as_json(entry: ConfigEntry, args: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": entry.name,
        "value": entry.value,
        "source": entry.source,
        "type": entry.type,
        "read_only": entry.read_only,
        "sensitive": entry.is_sensitive,
    }
    if args.synonyms:
        found["synonyms"] = [synonym._asdict() for synonym in entry.synonyms]
    if args.documentation:
        found["documentation"] = entry.documentation
    return found


async def _set(admin: Admin, args: argparse.Namespace) -> int:
    from ottla.client import AlterConfigOp

    pairs = key_values(args.pairs)
    if args.append:
        return await _change(admin, args, {key: AlterConfigOp("append", value) for key, value in pairs.items()})
    if args.subtract:
        return await _change(admin, args, {key: AlterConfigOp("subtract", value) for key, value in pairs.items()})
    return await _change(admin, args, dict(pairs))


async def _delete(admin: Admin, args: argparse.Namespace) -> int:
    return await _change(admin, args, dict.fromkeys(args.keys))


async def _change(admin: Admin, args: argparse.Namespace, changes: dict[str, str | AlterConfigOp | None]) -> int:
    target = _target(args)
    await admin.incremental_alter_configs({target: changes}, validate_only=args.validate_only)
    if args.format == "json":
        status = "valid" if args.validate_only else "updated"
        print_json({"kind": target.kind, "name": target.name, "status": status})
    elif args.validate_only:
        print(f"The config of {_named(target)} could be updated like that.")
    else:
        print(f"Completed updating config for {_named(target)}.")
    return 0

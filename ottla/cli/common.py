"""What the subcommands that talk to a cluster share."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from ottla.cli.main import CommandError

DEFAULT_BOOTSTRAP = "127.0.0.1:9092"
TIMEOUT_MS = 5000

T = TypeVar("T")


def add_bootstrap(parser: argparse.ArgumentParser) -> None:
    """`--bootstrap`, by default from OTTLA_BOOTSTRAP."""
    default = os.environ.get("OTTLA_BOOTSTRAP") or DEFAULT_BOOTSTRAP
    parser.add_argument(
        "--bootstrap",
        "--bootstrap-server",
        metavar="HOST:PORT,...",
        default=default,
        help=f"brokers to begin with (default: $OTTLA_BOOTSTRAP or {DEFAULT_BOOTSTRAP}; now {default})",
    )


def add_format(parser: argparse.ArgumentParser) -> None:
    """`--format`."""
    parser.add_argument("--format", choices=("text", "json"), default="text", help="how to print (default: text)")


def positive(text: str) -> int:
    """An argument that is a whole number above 0."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def key_values(pairs: Iterable[str]) -> dict[str, str]:
    """`KEY=VALUE` arguments. Raises CommandError for one that is none."""
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise CommandError(f"{pair!r} is not KEY=VALUE", status=2)
        found[key] = value
    return found


def run_client(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run async work; what the client library raises becomes one line for the user."""
    from ottla.client import KafkaError

    async def guarded() -> T:
        try:
            return await work()
        except KafkaError as error:
            raise CommandError(str(error)) from error
        except ValueError as error:
            raise CommandError(str(error), status=2) from error

    quiet()
    return asyncio.run(guarded())


def quiet() -> None:
    """Logs go to stderr, from warnings up: standard output belongs to the command."""
    import logging

    import structlog

    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        # Looked up with every line: whoever calls a command as a function may have put another file there since.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


def print_json(value: Any) -> None:
    """One JSON document on one line."""
    print(json.dumps(value, separators=(",", ":"), ensure_ascii=False), flush=True)


def columns(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows below a header, in columns as wide as they have to be."""
    table = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in table)


def ids(numbers: Iterable[int]) -> str:
    """Broker ids as Kafka's tools print them."""
    return ",".join(map(str, numbers))


def text_of(data: bytes | None) -> str | None:
    """Record bytes for people: UTF-8, with whatever is not shown as escapes."""
    return None if data is None else data.decode("utf-8", "backslashreplace")

"""Finding the subcommand. Only the module that is asked for is imported: `ottla --help` is instant."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple, Protocol, cast


class Command(Protocol):
    """What a subcommand's module offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Describe the arguments."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it; the result is the exit status. Raises CommandError for anything that the user should read."""


class Row(NamedTuple):
    """One subcommand: the module that has it, and its line in the help."""

    module: str
    help: str


COMMANDS: dict[str, Row] = {
    "status": Row("ottla.cli.status", "show brokers, controller, topics, leaders and in-sync replicas"),
    "topic": Row("ottla.cli.topic", "create, list, describe and delete topics"),
    "produce": Row("ottla.cli.produce", "send lines from standard input to a topic"),
    "consume": Row("ottla.cli.consume", "print the records of a topic"),
}


class CommandError(Exception):
    """One line for the user. `status` is the exit status: 1, or 2 for wrong usage."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def build_parser(name: str | None = None) -> argparse.ArgumentParser:
    """The parser of the whole command; only subcommand `name` gets its arguments."""
    parser = argparse.ArgumentParser(prog="ottla", description="An event-streaming cluster that speaks Kafka.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command, row in COMMANDS.items():
        sub = commands.add_parser(command, help=row.help, description=row.help[0].upper() + row.help[1:] + ".")
        if command == name:
            cast(Command, importlib.import_module(row.module)).add_arguments(sub)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1 for failure (one line on stderr), 2 for wrong usage."""
    words = list(sys.argv[1:] if argv is None else argv)
    name = next((word for word in words if not word.startswith("-")), None)
    try:
        args = build_parser(name).parse_args(words)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 2
    module = cast(Command, importlib.import_module(COMMANDS[args.command].module))
    try:
        return module.run(args)
    except CommandError as error:
        print(f"ottla: {error}", file=sys.stderr)
        return error.status
    except BrokenPipeError:
        # The reader went away (`ottla consume t | head`). Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130

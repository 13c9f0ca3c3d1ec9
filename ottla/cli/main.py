"""Finding the subcommand. Only the module that is asked for is imported: `ottla --help` is instant."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple, Protocol, cast

from ottla import __version__


class Command(Protocol):
    """What a subcommand's module offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Describe the arguments."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it; the result is the exit status. Raises CommandError for anything that the user should read."""


class Row(NamedTuple):
    """One subcommand: the module that has it (or "module:name" of an object in one), and its line in the help."""

    module: str
    help: str


COMMANDS: dict[str, Row] = {
    "node": Row("ottla.cli.node", "run one node in the foreground"),
    "up": Row("ottla.cli.up", "run a local cluster of several nodes"),
    "demo": Row("ottla.cli.demo", "kill brokers and controllers under load, and count what was lost"),
    "simulate": Row("ottla.cli.simulate", "run whole clusters under faults in virtual time, and look for what is lost"),
    "kill": Row("ottla.cli.companions:kill", "kill -9 a node of a local cluster"),
    "stop": Row("ottla.cli.companions:stop", "stop a node of a local cluster cleanly"),
    "start": Row("ottla.cli.companions:start", "start a stopped or killed node of a local cluster"),
    "pause": Row("ottla.cli.companions:pause", "freeze a node of a local cluster (SIGSTOP)"),
    "resume": Row("ottla.cli.companions:resume", "let a paused node of a local cluster go on"),
    "down": Row("ottla.cli.companions:down", "stop a local cluster"),
    "status": Row("ottla.cli.status", "show brokers, controller, topics, leaders and in-sync replicas"),
    "topic": Row("ottla.cli.topic", "create, list, describe, alter and delete topics, and delete records"),
    "config": Row("ottla.cli.config", "show and change the configs of topics, brokers and groups"),
    "quota": Row("ottla.cli.quota", "show and change what users and client ids may use"),
    "log-dirs": Row("ottla.cli.log_dirs", "show what lies in the data directories of the brokers"),
    "partition": Row("ottla.cli.partition", "reassign replicas of partitions, and elect leaders"),
    "broker": Row("ottla.cli.broker", "list brokers, empty one, and remove it"),
    "quorum": Row("ottla.cli.quorum", "show the metadata quorum, and add and remove voters"),
    "features": Row("ottla.cli.features", "show and change the levels of the cluster's features"),
    "rebalance": Row("ottla.cli.rebalance", "spread replicas and preferred leaders evenly over the brokers"),
    "group": Row("ottla.cli.group", "list, describe and delete consumer groups, and reset their offsets"),
    "txn": Row("ottla.cli.txn", "list, describe and abort transactions, and find those that hang"),
    "apis": Row("ottla.cli.apis", "show what is served of Kafka's protocol, version by version, and what is missing"),
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
    parser.add_argument("--version", action="version", version=f"ottla {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command, row in COMMANDS.items():
        sub = commands.add_parser(command, help=row.help, description=row.help[0].upper() + row.help[1:] + ".")
        if command == name:
            load(row).add_arguments(sub)
    return parser


def load(row: Row) -> Command:
    """Import what carries out a subcommand."""
    module, _, name = row.module.partition(":")
    loaded = importlib.import_module(module)
    return cast(Command, getattr(loaded, name) if name else loaded)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1 for failure (one line on stderr), 2 for wrong usage."""
    # Where hypothesis is installed, kio imports it to register strategies: half a second and 20 MB for nothing here.
    sys.modules.setdefault("hypothesis", None)  # type: ignore[arg-type]
    words = list(sys.argv[1:] if argv is None else argv)
    name = next((word for word in words if not word.startswith("-")), None)
    try:
        args = build_parser(name).parse_args(words)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 2
    module = load(COMMANDS[args.command])
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

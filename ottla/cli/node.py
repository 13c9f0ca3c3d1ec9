"""``ottla node``: one node in the foreground."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``ottla node``."""
    parser.add_argument("--config", type=Path, help="a TOML file with Kafka's names; KAFKA_* variables win over it")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    parser.add_argument("--ready-fd", type=int, help="a file descriptor that gets one line when the node is ready")


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; exit status 2 for a wrong configuration, 1 if the node cannot start."""
    from ottla.node import node_main

    return node_main(args.config, log_level=args.log_level, ready_descriptor=args.ready_fd)

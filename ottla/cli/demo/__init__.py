"""``ottla demo``: three nodes under load, a leader and the active controller killed, and an account of what it cost."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``ottla demo``."""
    parser.add_argument("--base-port", type=int, default=0, help="Kafka port of node 1 (default: a free range)")
    parser.add_argument("--keep", action="store_true", help="leave the cluster's directory behind")


def run(args: argparse.Namespace) -> int:
    """Run the demo; exit status 1 when anything was lost, duplicated or out of order, or did not come back."""
    import asyncio

    from ottla.cli.demo.script import run_demo

    return asyncio.run(run_demo(base_port=args.base_port, keep=args.keep))

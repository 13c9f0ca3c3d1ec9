"""`ottla rebalance`: replicas and preferred leaders spread evenly, so that a new broker is filled."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ottla.cli.common import add_bootstrap, run_client
from ottla.cli.moving import add_moving_options, carry_out, placement, print_plan, wait_for

if TYPE_CHECKING:
    from ottla.client import Admin

TIMEOUT_MS = 30000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help="only these topics, by themselves (default: all)")
    parser.add_argument("--dry-run", action="store_true", help="only say what would move")
    add_moving_options(parser)
    add_bootstrap(parser)


def run(args: argparse.Namespace) -> int:
    async def ask() -> int:
        from ottla.client import Admin

        async with Admin(bootstrap_servers=args.bootstrap, request_timeout_ms=TIMEOUT_MS) as admin:
            return await work(admin, args)

    return run_client(ask)


async def work(admin: Admin, args: argparse.Namespace) -> int:
    """Carry out what the arguments say. Raises CommandError, KafkaError."""
    from ottla.client import TopicPartition
    from ottla.controller import plan_balance

    now = await placement(admin, args.topics or None)
    if now.under_way and not args.dry_run:
        await wait_for(admin, now, now.under_way, args.throttle)
        now = await placement(admin, args.topics or None)
    plan = {TopicPartition(*key): replicas for key, replicas in plan_balance(now.sites(), now.keys()).items()}
    if not plan:
        print("Nothing to move.")
        return 0
    print_plan(now.partitions, plan)
    if args.dry_run:
        return 0
    await carry_out(admin, now.partitions, plan, batch=args.batch, throttle=args.throttle)
    outcomes = await admin.elect_leaders("preferred", plan)
    elected = sum(error is None for error in outcomes.values())
    print(f"{elected} preferred leaders elected.")
    return 0

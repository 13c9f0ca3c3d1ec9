"""`ottla broker list|drain|uncordon|remove`: brokers that come into the cluster and go out of it."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING

from ottla.cli.common import add_bootstrap, add_format, columns, print_json, run_client
from ottla.cli.main import CommandError
from ottla.cli.moving import CORDONED, POLL_S, add_moving_options, carry_out, placement, print_plan, wait_for

if TYPE_CHECKING:
    from ottla.client import Admin

TIMEOUT_MS = 30000
PATIENCE = 20
"""So many times is looked for what is done to show in the metadata of whichever broker is asked."""
ALL = "*"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    listing = verbs.add_parser("list", help="list brokers with what they hold")
    add_format(listing)

    drain = verbs.add_parser("drain", help="cordon a broker, and move all its replicas to others")
    drain.add_argument("id", type=int, metavar="ID")
    drain.add_argument("--dry-run", action="store_true", help="only say what would move")
    add_moving_options(drain)

    uncordon = verbs.add_parser("uncordon", help="let a broker be given replicas again")
    uncordon.add_argument("id", type=int, metavar="ID")

    remove = verbs.add_parser("remove", help="forget a broker that is stopped and holds nothing")
    remove.add_argument("id", type=int, metavar="ID")
    remove.add_argument("--force", action="store_true", help="even if it runs, or is in lists of replicas")

    for verb in (listing, drain, uncordon, remove):
        add_bootstrap(verb)


def run(args: argparse.Namespace) -> int:
    async def ask() -> int:
        from ottla.client import Admin

        async with Admin(bootstrap_servers=args.bootstrap, request_timeout_ms=TIMEOUT_MS) as admin:
            return await work(admin, args)

    return run_client(ask)


async def work(admin: Admin, args: argparse.Namespace) -> int:
    """Carry out what the arguments say. Raises CommandError, KafkaError."""
    verbs = {"list": _list, "drain": _drain, "uncordon": _uncordon, "remove": _remove}
    return await verbs[args.verb](admin, args)


async def _list(admin: Admin, args: argparse.Namespace) -> int:
    now = await placement(admin)
    states = dict.fromkeys((broker.node_id for broker in now.brokers), "up")
    states |= dict.fromkeys(now.cordoned, "cordoned") | dict.fromkeys(now.silent, "silent")
    known = (await admin.describe_cluster(include_fenced_brokers=True)).brokers
    rows = []
    for broker in sorted(known, key=lambda broker: broker.node_id):
        replicas = [now.partitions[tp] for tp in now.held_by(broker.node_id)]
        state = states.get(broker.node_id, "fenced")
        leads = sum(each[0] == broker.node_id for each in replicas)
        rows.append((broker.node_id, f"{broker.host}:{broker.port}", broker.rack or "-", state, len(replicas), leads))
    header = ("ID", "ADDRESS", "RACK", "STATE", "REPLICAS", "PREFERRED-LEADER")
    if args.format == "json":
        names = ("id", "address", "rack", "state", "replicas", "preferred_leader")
        print_json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        print(columns(header, rows))
    return 0


async def _drain(admin: Admin, args: argparse.Namespace) -> int:
    from ottla.client import TopicPartition
    from ottla.controller import plan_evacuation

    now = await placement(admin)
    running = args.id in {broker.node_id for broker in now.brokers}
    held = [tp for tp, replicas in now.partitions.items() if args.id in replicas]
    going = [tp for tp in now.held_by(args.id) if tp not in held]
    if not running:
        known = (await admin.describe_cluster(include_fenced_brokers=True)).brokers
        if not held and not going and args.id not in {broker.node_id for broker in known}:
            raise CommandError(f"there is no broker {args.id}, and it holds nothing")
        print(f"Broker {args.id} does not run: what it holds is rebuilt from others.")
    keys = [(tp.topic, tp.partition) for tp in held]
    plan = {TopicPartition(*k): r for k, r in plan_evacuation(now.sites(), now.keys(), {args.id}, keys).items()}
    stuck = [str(tp) for tp in held if tp not in plan]
    if stuck:
        raise CommandError(f"no other broker is left for {len(stuck)} partitions: {', '.join(sorted(stuck)[:10])}")
    print_plan(now.partitions, plan)
    if args.dry_run:
        if going:
            print(f"{len(going)} partitions are on their way already.")
        return 0
    if running:
        await _cordon(admin, args.id, ALL)
    await wait_for(admin, now, going, args.throttle)
    await carry_out(admin, now.partitions, plan, batch=args.batch, throttle=args.throttle)
    await _check_empty(admin, args.id)
    steps = [f"ottla quorum remove {args.id}"] * await _votes(admin, args.id)
    steps += ["stop it"] * running + [f"ottla broker remove {args.id}"]
    print(f"Broker {args.id} holds no replicas. To take it out of the cluster: {', then '.join(steps)}")
    return 0


async def _check_empty(admin: Admin, broker: int) -> None:
    """Raises CommandError if the broker holds something."""
    for _ in range(PATIENCE):
        held = (await placement(admin)).held_by(broker)
        if not held:
            return
        await asyncio.sleep(POLL_S)
    raise CommandError(
        f"broker {broker} is a replica of {len(held)} partitions that came to it meanwhile: drain it again"
    )


async def _votes(admin: Admin, broker: int) -> bool:
    """Whether the same node is a voter of the metadata quorum, which unregistering the broker does not change."""
    return any(voter.replica_id == broker for voter in (await admin.describe_metadata_quorum()).voters)


async def _uncordon(admin: Admin, args: argparse.Namespace) -> int:
    await _cordon(admin, args.id, None)
    print(f"Broker {args.id} may be given replicas.")
    return 0


async def _cordon(admin: Admin, broker: int, value: str | None) -> None:
    from ottla.client import ConfigResource

    await admin.incremental_alter_configs({ConfigResource("broker", str(broker)): {CORDONED: value}})


async def _remove(admin: Admin, args: argparse.Namespace) -> int:
    now = await placement(admin)
    if not args.force:
        held = len(now.held_by(args.id))
        if held:
            raise CommandError(
                f"broker {args.id} is a replica of {held} partitions: ottla broker drain {args.id} first"
            )
        if args.id in {broker.node_id for broker in now.brokers}:
            raise CommandError(f"broker {args.id} runs, and would register again: stop it first")
    await admin.unregister_broker(args.id)
    print(f"Broker {args.id} is not registered any more.")
    if await _votes(admin, args.id):
        print(f"Its node still counts as a voter of the metadata quorum: ottla quorum remove {args.id}")
    held = len((await placement(admin)).held_by(args.id))
    if held:
        # By force, or by a broker that did not know it yet when it was asked.
        print(f"It still is a replica of {held} partitions: ottla broker drain {args.id}")
    return 0

"""``ottla simulate``: whole clusters under faults in virtual time, each from one seed, and what they did wrong."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from ottla.cli.common import add_format, positive

if TYPE_CHECKING:
    from ottla.simulation.plan import Plan

_WORKLOADS = ("groups", "transactions", "tables", "retention", "topics", "growth", "unclean")
_EPILOG = """\
examples:
  ottla simulate                                   a hundred seeds, five virtual minutes each
  ottla simulate --seeds 1000 --faults kill,pause  only these faults
  ottla simulate --faults members,kill             members that come and go, of a group of faults, and one more kind
  ottla simulate --seed 17 --trace                 one seed again, with everything that happened in it
  ottla simulate --schedule plan.json              what a failure printed as its plan

exit status: 0 no anomaly, 1 at least one, 2 wrong usage, 130 interrupted without having found one"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``ottla simulate``."""
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    what = parser.add_argument_group("what to run")
    what.add_argument("--seeds", type=positive, metavar="N", help="how many seeds (default: 100)")
    what.add_argument("--first-seed", type=int, default=0, metavar="N", help="the first of them (default: 0)")
    what.add_argument("--minutes", type=_minutes, metavar="M", help="virtual minutes of faults per seed (default: 5)")
    what.add_argument("--nodes", type=positive, metavar="N", help="size of the cluster (default: 3)")
    what.add_argument(
        "--faults", metavar="KIND,...", help="only these kinds, or groups of kinds (default: some for each seed)"
    )
    what.add_argument("--rate", type=_rate, metavar="OPS", help="operations of clients per second (default: drawn)")
    what.add_argument(
        "--workload",
        choices=("clients", *_WORKLOADS),
        help="who works: producers and consumers (default), or besides them consumers in groups, clients that write "
        "and copy in transactions, clients of topics that are compacted, lose their beginning, come and go, or "
        "may lose their end, or groups that read a topic which grows",
    )
    one = parser.add_argument_group("one run again")
    one.add_argument("--seed", metavar="SEED", help="run only this seed")
    one.add_argument("--schedule", metavar="FILE", help="run the plan in this file, which says everything itself")
    one.add_argument("--trace", action="store_true", help="print everything that happened, of --seed or --schedule")
    one.add_argument("--trace-file", metavar="FILE", help="write that to a file")
    one.add_argument("--history", metavar="FILE", help="write what the clients did to a file, as JSON lines")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--jobs", type=positive, metavar="N", default=os.cpu_count() or 1, help="processes (default: one per core)"
    )
    how.add_argument(
        "--limit",
        type=positive,
        metavar="S",
        help="real seconds after which a run counts as hung (default: by --minutes)",
    )
    how.add_argument(
        "--shrink",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="look for a smaller schedule that fails too, for the first few failures",
    )
    how.add_argument("--list-faults", action="store_true", help="print the kinds of faults, and do nothing else")
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    """Run what was asked for. Raises CommandError for wrong usage."""
    from ottla.cli.simulate import tell
    from ottla.cli.simulate.runner import Runner

    if args.list_faults:
        print(tell.fault_table())
        return 0
    plans, whole = _plans(args)
    limit = args.limit or 60.0 + plans[0].seconds
    return Runner(plans, args, limit=limit, single=whole).run()


def _plans(args: argparse.Namespace) -> tuple[list[Plan], bool]:
    """What to run, and whether it is one run that was asked for by name."""
    from ottla.cli.main import CommandError
    from ottla.simulation.plan import Plan, known_kinds

    single = args.seed is not None or args.schedule is not None
    if args.seed is not None and args.schedule is not None:
        raise CommandError("--schedule has the seed in it: give that or --seed", status=2)
    if not single and (args.trace or args.trace_file or args.history):
        raise CommandError("--trace, --trace-file and --history are of one run: add --seed or --schedule", status=2)
    if single and args.seeds is not None:
        raise CommandError("--seeds and --seed or --schedule do not go together", status=2)
    try:
        kinds = None if args.faults is None else tuple(known_kinds(args.faults.split(",")))
        if args.schedule is not None:
            return [_from_file(args)], True
    except ValueError as error:
        raise CommandError(str(error), status=2) from error
    seeds = [_seed(args.seed)] if single else range(args.first_seed, args.first_seed + (args.seeds or 100))
    nodes, seconds = args.nodes or 3, 60 * (args.minutes or 5.0)
    workload = args.workload if args.workload in _WORKLOADS else None
    return [Plan(seed, nodes, seconds, kinds, None, args.rate, None, workload) for seed in seeds], single


def _from_file(args: argparse.Namespace) -> Plan:
    from ottla.simulation.plan import Plan

    if any(given is not None for given in (args.minutes, args.nodes, args.faults, args.rate, args.workload)):
        raise ValueError("--schedule says nodes, minutes, faults, rate and workload itself: change them in the file")
    try:
        with open(args.schedule, encoding="utf-8") as file:
            return Plan.from_json(file.read())
    except OSError as error:
        raise ValueError(f"{args.schedule}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{args.schedule}: {error}") from error


def _seed(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _minutes(text: str) -> float:
    return _above_zero(text, 10_000)


def _rate(text: str) -> float:
    return _above_zero(text, 100_000)


def _above_zero(text: str, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and up to {most:g}")
    return number

"""Many runs in processes of their own, each within a limit of real time."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator
from multiprocessing.connection import Connection, wait

from ottla.simulation.plan import Plan, Report

HUNG = "hung"
DIED = "the process of the simulation died"
_SPAWN = multiprocessing.get_context("spawn")
# A worker is replaced after so many runs: what a library keeps of every loop that it has seen does not add up.
_RUNS_OF_A_WORKER = 100
_STACK_WAIT_S = 0.5
# Until a new process has imported everything.
_START_LIMIT_S = 120.0


def run_all(plans: Iterable[Plan], *, jobs: int, limit: float, keep: int = 400) -> Generator[Report, None, None]:
    """Reports as they come, which is not in the order of the plans. Closing the iterator ends all workers.

    A run that takes more than `limit` real seconds is reported as hung, with the stack of where it was. `keep` is how
    many of the last events come with a report of a failure; with 0 all of them come, and with reports of clean runs.
    """
    waiting = iter(plans)
    workers: list[_Worker] = []
    try:
        for _ in range(jobs):
            _next(waiting, workers, keep)
        while workers:
            ready = wait([each.pipe for each in workers], max(0.0, min(each.deadline for each in workers) - _now()))
            for worker in list(workers):
                if worker.pipe in ready:
                    report = worker.answer()
                elif _now() >= worker.deadline:
                    report = worker.hung(limit)
                else:
                    continue
                if report is None:
                    worker.deadline = _now() + limit  # it is up, and begins now
                    continue
                workers.remove(worker)
                _next(waiting, workers, keep, worker)
                yield report
    finally:
        for worker in workers:
            worker.end()


def _next(waiting: Iterator[Plan], workers: list[_Worker], keep: int, worker: _Worker | None = None) -> None:
    plan = next(waiting, None)
    if worker is not None and (plan is None or worker.spent):
        worker.end()
        worker = None
    if plan is not None:
        worker = worker or _Worker(keep)
        worker.give(plan)
        workers.append(worker)


def _now() -> float:
    return time.monotonic()


class _Worker:
    """A process that runs one plan after the other. `deadline` is by the monotonic clock."""

    def __init__(self, keep: int) -> None:
        handle, self._stacks = tempfile.mkstemp(prefix="ottla-simulate-")
        os.close(handle)
        self.pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_work, args=(theirs, self._stacks, keep), daemon=True)
        self._process.start()
        theirs.close()
        self.deadline = _now() + _START_LIMIT_S
        self._runs = 0
        self._plan: Plan | None = None
        self._dead = False

    @property
    def spent(self) -> bool:
        return self._dead or self._runs >= _RUNS_OF_A_WORKER

    def give(self, plan: Plan) -> None:
        self._plan = plan
        self.deadline = _now() + _START_LIMIT_S
        self._runs += 1
        self.pipe.send(plan)

    def answer(self) -> Report | None:
        """The report, or None when it says that it begins."""
        try:
            said = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join(1.0)
            return self._failed(f"{DIED}, exit status {self._process.exitcode}", "")
        if said is None:
            return None
        assert isinstance(said, Report)
        return said

    def hung(self, limit: float) -> Report:
        assert self._process.pid is not None
        if hasattr(signal, "SIGUSR1"):
            os.kill(self._process.pid, signal.SIGUSR1)
            self._process.join(_STACK_WAIT_S)
        with open(self._stacks, encoding="utf-8", errors="replace") as file:
            stack = file.read()
        return self._failed(f"{HUNG}: no end after {limit:g} s of real time", stack)

    def _failed(self, anomaly: str, trouble: str) -> Report:
        assert self._plan is not None
        self._dead = True
        return Report(plan=self._plan, anomaly=anomaly, trouble=trouble)

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self.pipe.close()
        os.unlink(self._stacks)


def _work(pipe: Connection, stacks: str, keep: int) -> None:
    from ottla.simulation.storm import attempt

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started us ends us
    with open(stacks, "w", encoding="utf-8") as file:
        if hasattr(signal, "SIGUSR1"):
            faulthandler.register(signal.SIGUSR1, file)
        while True:
            try:
                plan = pipe.recv()
            except EOFError:
                return
            pipe.send(None)
            report = attempt(plan)
            pipe.send(report.with_last(keep) if keep else report)

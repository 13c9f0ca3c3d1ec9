"""The faults are not too kind: each of these mistakes in our own code is caught within a few seeds."""

from collections.abc import Callable
from typing import Any

import pytest

from ottla.broker.replication import leading
from ottla.broker.replication.leader import LeaderState
from ottla.log import ModelledDisk
from ottla.log.producers import NEW, ProducerState
from ottla.simulation import Anomaly
from ottla.simulation.storm import storm

Patch = Callable[[pytest.MonkeyPatch], None]


def acknowledge_before_replication(patch: pytest.MonkeyPatch) -> None:
    def advance(self: LeaderState, _eligible: Any, _now: float) -> bool:
        moved = self.durable_end > self.high_watermark
        self.high_watermark = self.durable_end
        return moved

    patch.setattr(LeaderState, "advance", advance)


def skip_the_epoch_check(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(leading, "diverges", lambda *_: False)


def keep_no_window_of_producers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ProducerState, "check", lambda _self, _header: NEW)


def sync_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ModelledDisk, "sync_node", lambda *_: None)


MUTANTS: dict[str, tuple[Patch, list[str]]] = {
    "acknowledge before replication": (acknowledge_before_replication, ["kill", "isolate"]),
    "skip the epoch check": (skip_the_epoch_check, ["isolate", "pause"]),
    "keep no window of producers": (keep_no_window_of_producers, ["kill", "isolate"]),
    "sync nothing": (sync_nothing, ["power off"]),
}
SEEDS = 20


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    patch, kinds = MUTANTS[name]
    patch(monkeypatch)
    for seed in range(SEEDS):
        try:
            storm(seed, seconds=10, kinds=kinds, rate=20)
        except Anomaly:
            monkeypatch.undo()
            assert storm(seed, seconds=10, kinds=kinds, rate=20).acknowledged, "without the mutation it is clean"
            return
    pytest.fail(f"{name} survived {SEEDS} seeds")

"""``ottla demo``: the first thing that a newcomer sees."""

from __future__ import annotations

import re

import pytest

from ottla.cli.demo import script
from ottla.cluster import Verdict
from tests.cluster.command import ottla


async def test_the_demo_loses_nothing_and_says_what_happened() -> None:
    shown = await ottla("demo")
    assert shown.status == 0, shown.out + shown.err
    story = re.sub(r"^ *\d+\.\d+ s  ", "", shown.out, flags=re.MULTILINE)
    for wanted in (
        r"killed: node \d \(kill -9\), leader, leader of demo-\d",
        r"detected: node \d is gone",
        r"fenced: broker \d",
        r"elected: node \d leads demo-\d, epoch 1",
        r"writes acknowledged again on demo-\d",
        r"started: node \d",
        r"restored: every ISR is full again",
        r"killed: node \d \(kill -9\), active controller",
        r"elected: node \d is the active controller, term \d+",
    ):
        assert re.search(wanted, story), f"{wanted} is not in:\n{shown.out}"
    for column in ("acknowledged", "read", "lost", "duplicated", "out of order", "ms without writes"):
        assert column in shown.out


class _NoCluster:
    """Stands for the supervisor: what matters here is only what the account says."""

    def __init__(self, layout: object) -> None:
        self.layout = layout

    async def start(self) -> float:
        return 0.0

    async def stop(self, *, within: float) -> None:
        del within


@pytest.mark.parametrize(
    ("wrong", "status"),
    [({}, 0), ({"lost": 1}, 1), ({"duplicated": 1}, 1), ({"out_of_order": 1}, 1), ({"misplaced": 1}, 1)],
)
async def test_the_exit_status_tells_if_anything_went_wrong(
    monkeypatch: pytest.MonkeyPatch, wrong: dict[str, int], status: int
) -> None:
    counts = {"acknowledged": 9, "read": 9, "lost": 0, "duplicated": 0, "out_of_order": 0, "misplaced": 0, **wrong}

    class Played:
        def __init__(self, *_: object) -> None: ...

        async def run(self) -> tuple[Verdict, list[script.Outage]]:
            return Verdict(**counts), []

    monkeypatch.setattr(script, "Supervisor", _NoCluster)
    monkeypatch.setattr(script, "Demo", Played)
    assert await script.run_demo(base_port=0, keep=False) == status

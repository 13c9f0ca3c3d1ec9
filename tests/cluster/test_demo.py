"""``ottla demo``: the first thing that a newcomer sees."""

from __future__ import annotations

import re

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

"""Producers that die in the middle of a transaction, that stand still, and that share their id with another one.

And row 9 for them: messages of transactions that come late, twice, or never.
"""

import pytest

from ottla.simulation.plan import Plan
from ottla.simulation.storm import attempt


def plan(seed: int, *kinds: str, seconds: float = 15.0) -> Plan:
    return Plan(seed, 3, seconds, kinds, None, 2.0, {}, "transactions")


@pytest.mark.parametrize("kinds", [(), ("kill",), ("hold transaction", "late")], ids=["calm", "kill", "held"])
@pytest.mark.parametrize("seed", range(2))
def test_everything_is_there_once_and_as_a_whole_and_nothing_hangs(seed: int, kinds: tuple[str, ...]):
    report = attempt(plan(seed, *kinds))
    assert report.anomaly is None, report.anomaly
    assert report.work_besides["committed"] and report.work_besides["aborted"]
    assert report.work_besides["copies copied"]
    ends = [entry.error or "" for entry in report.history if entry.f == "txn" and entry.type == "fail"]
    assert any("crashed" in end for end in ends)
    assert any("ProducerFenced" in end or "InvalidProducerEpoch" in end for end in ends), "some did not know of others"

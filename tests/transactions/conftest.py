from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ottla.controller import AllocateProducerIds, AllocateProducerIdsResponse
from ottla.log import OsDisk
from tests.broker.world import World


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Node 1 leads all partitions of the topic t and can have producer ids from 1000 on."""
    monkeypatch.chdir(tmp_path)
    made = World(OsDisk())
    made.add_topic("t", 3)
    blocks = iter(range(1000, 10_000, 10))
    made.controller.answers[AllocateProducerIds] = lambda _: AllocateProducerIdsResponse(first=next(blocks), count=10)
    yield made
    await made.close()

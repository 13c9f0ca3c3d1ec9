from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ottla.log import OsDisk
from tests.broker.world import World


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """A broker that leads what the test gives it. Log directories are relative to the test's own."""
    monkeypatch.chdir(tmp_path)
    made = World(OsDisk())
    yield made
    await made.close()

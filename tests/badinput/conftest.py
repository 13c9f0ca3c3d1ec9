from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from tests.badinput.node import Running, running


@pytest.fixture
async def node(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Running]:
    """A started node. Whatever is logged past structlog (by asyncio, say) is an unhandled exception."""
    with structlog.testing.capture_logs() as lines, caplog.at_level(logging.WARNING):
        async with running(tmp_path / "data", lines) as started:
            yield started
        assert [record.getMessage() for record in caplog.records] == []

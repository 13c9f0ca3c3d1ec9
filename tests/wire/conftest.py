"""A loop whose time is moved by hand, and a server on it."""

from collections.abc import Iterator

import pytest

from tests.wire.harness import ManualLoop, World, manual_loop


@pytest.fixture
def loop() -> Iterator[ManualLoop]:
    with manual_loop() as loop:
        yield loop


@pytest.fixture
def world(loop: ManualLoop) -> World:
    return World(loop)

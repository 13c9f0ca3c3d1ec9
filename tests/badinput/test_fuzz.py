"""Valid requests of every API and version, damaged, against the real node."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.broker import TABLE
from ottla.records import verify_batch
from ottla.wire.registry import API_VERSIONS
from tests.badinput.node import Running, running
from tests.wire.fuzz import Fuzzed, fuzz_one, requests

UNREGISTER_BROKER = 64
# A whole request to forget this very broker is no damage, and is carried out.
APIS = sorted({row.key for row in TABLE} - {UNREGISTER_BROKER} | {API_VERSIONS})
PRODUCE = 0
CHANGE_TOPICS = (19, 20, 37)
# Requests of one example, sent before it looks whether the node is well.
BURST = 25
# Names that the generator uses, so that some requests reach real partitions.
TOPICS = ("orders", "a", "topic-1")


class Fuzzing:
    """One node for all examples, in a loop of its own: the damage of one may only show in the next."""

    def __init__(self, runner: asyncio.Runner, node: Running, alien: list[logging.LogRecord]) -> None:
        self._runner = runner
        self._node = node
        self._alien = alien

    def attack(self, key: int, seed: int) -> None:
        self._runner.run(self._attack(key, random.Random(f"{key} {seed}")))

    async def _attack(self, key: int, rng: random.Random) -> None:
        node = self._node
        table = [(api, version) for api, version in requests(node.broker.registry) if api.key == key]
        before = [node.log_bytes(topic) for topic in TOPICS]
        sent: list[Fuzzed] = []
        async with node.unharmed(lines=None):
            peer = await node.raw()
            for _ in range(BURST):
                sent.append(fuzz_one(*rng.choice(table), rng))
                await peer.send(sent[-1].data)
                if rng.random() < 0.3:
                    peer.close()
                    peer = await node.raw()
            peer.close()
        assert not self._alien, ([record.getMessage() for record in self._alien], sent)
        if key == PRODUCE:
            for topic in TOPICS:
                sound(node, topic)
        elif key not in CHANGE_TOPICS:
            assert [node.log_bytes(topic) for topic in TOPICS] == before


def sound(node: Running, topic: str) -> None:
    """Whatever was taken is whole, and at the offset where it has to be."""
    for directory in node.directory.glob(f"{topic}-?"):
        data = b"".join(path.read_bytes() for path in sorted(directory.glob("*.log")))
        pos = offset = 0
        while pos < len(data):
            header = verify_batch(data, pos)
            assert header.base_offset == offset
            offset, pos = header.next_offset, pos + header.size


@pytest.fixture(scope="module")
def fuzzing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzing]:
    alien: list[logging.LogRecord] = []
    handler: Any = logging.Handler(logging.WARNING)
    handler.emit = alien.append
    logging.getLogger().addHandler(handler)
    with structlog.testing.capture_logs() as lines, asyncio.Runner() as runner:
        context = running(tmp_path_factory.mktemp("fuzz"), lines)
        node = runner.run(context.__aenter__())
        for topic in TOPICS:
            runner.run(node.create(topic, 3))
        yield Fuzzing(runner, node, alien)
        runner.run(context.__aexit__(None, None, None))
    logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize("key", APIS)
@settings(max_examples=max(5, settings().max_examples // 8))
@given(seed=st.integers(0, 2**32))
def test_damaged_requests_harm_nobody(fuzzing: Fuzzing, key: int, seed: int) -> None:
    fuzzing.attack(key, seed)

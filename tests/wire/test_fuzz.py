"""Damaged requests of every API and version: the right answer or a closed connection, and nobody else harmed."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.wire import (
    Api,
    FetchPartitionResponse,
    ProducePartitionResponse,
    Registry,
    Request,
    encode_fetch_response,
    encode_produce_response,
    parse_fetch_request,
    parse_produce_request,
)
from tests.wire.fuzz import fuzz, fuzz_one, requests, valid_frame
from tests.wire.harness import World, framed, manual_loop

KIO_APIS = {2: 8, 3: 13, 19: 7, 20: 6, 22: 4, 23: 4, 27: 2, 32: 4, 36: 2, 44: 1, 60: 1, 61: 0, 75: 0}


def full_registry() -> Registry:
    """All kinds of parsers; the handlers look at everything and answer in the version asked for."""

    def produce(request: Request) -> Any:
        topics = [
            (name, [ProducePartitionResponse(index) for index, records in parts if len(records or b"") >= 0])
            for name, parts in request.body.topics
        ]
        return encode_produce_response(request.api_version, topics, topic_ids=request.body.topic_ids)

    def fetch(request: Request) -> Any:
        topics = [
            (topic, [FetchPartitionResponse(p.partition, records=b"r") for p in parts])
            for topic, parts in request.body.topics
        ]
        return encode_fetch_response(request.api_version, topics)

    def anything(request: Request) -> Any:
        repr(request.body)
        return {}

    registry = Registry()
    registry.add(Api(0, "Produce", 3, 13, produce, parser=parse_produce_request))
    registry.add(Api(1, "Fetch", 4, 18, fetch, parser=parse_fetch_request))
    for key, highest in KIO_APIS.items():
        lowest = 1 if key in (2, 20, 27, 32) else 2 if key in (19, 23) else 0
        registry.add(Api(key, f"Api{key}", lowest, highest, anything))
    return registry


REGISTRY = full_registry()


@pytest.mark.parametrize(("api", "version"), requests(REGISTRY), ids=lambda value: getattr(value, "name", value))
def test_whole_requests_are_answered(api: Api, version: int) -> None:
    with manual_loop() as loop:
        world = World(loop)
        world.server.registry = REGISTRY
        transport = world.connect()
        rng = random.Random(f"{api.name} {version}")
        for i in range(20):
            transport.feed(framed(valid_frame(api, version, rng, i)))
        assert transport.order == list(range(20))
        assert not world.errors


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(requests(REGISTRY)), st.integers(0, 2**32), st.sampled_from((1, 7, 2**30)))
def test_damaged_requests_harm_nobody(row: tuple[Api, int], seed: int, chunk: int) -> None:
    api, version = row
    rng = random.Random(seed)
    with manual_loop() as loop:
        world = World(loop)
        world.server.registry = REGISTRY
        other = world.connect()
        transport = world.connect()
        for _ in range(5):
            fuzzed = fuzz_one(api, version, rng)
            transport.feed(fuzzed.data, chunk)
            if fuzzed.damage == "none" and not transport.closed and not transport.protocol._reader.partial:
                assert transport.writes
            assert not world.errors, fuzzed
        loop.turn()
        assert len(transport.answers) <= 6
        other.feed(framed(valid_frame(api, version, rng)))
        assert len(other.answers) == 1
        assert world.server.connections == 2 - transport.closed
        transport.protocol.abort()
        loop.turn()
        assert world.server.buffered == 0


def test_the_generator_covers_the_table() -> None:
    table = requests(REGISTRY)
    stream = fuzz(REGISTRY, random.Random(1))
    seen = {(fuzzed.api, fuzzed.version) for fuzzed, _ in zip(stream, table, strict=False)}
    assert seen == {(api.name, version) for api, version in table}

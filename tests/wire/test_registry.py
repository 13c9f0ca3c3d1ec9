"""ApiVersions in every version, and what the registry refuses."""

import struct
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from ottla.wire import Api, Feature, Registry, decode, encode, request_type, response_type
from tests.wire.harness import ECHO, LATER, SERIAL, ManualLoop, World, framed, request

API_VERSIONS = 18


def api_versions(version: int, name: str = "librdkafka", software: str = "2.12.1", correlation_id: int = 5) -> bytes:
    header = struct.pack(">hhih", API_VERSIONS, version, correlation_id, -1)
    values = {"client_software_name": name, "client_software_version": software}
    return framed(header + (b"\0" if version >= 3 else b"") + encode(request_type(API_VERSIONS, version), values))


@pytest.mark.parametrize("version", range(5))
def test_every_version_tells_the_table(world: World, version: int) -> None:
    transport = world.connect()
    transport.feed(api_versions(version))
    ((correlation_id, body),) = transport.answers  # the response header is v0 in every version
    assert correlation_id == 5
    response = decode(response_type(API_VERSIONS, version), body)
    assert response.error_code is ErrorCode.none
    assert [(key.api_key, key.min_version, key.max_version) for key in response.api_keys] == [
        (ECHO, 3, 8),
        (LATER, 0, 2),
        (SERIAL, 0, 2),
        (API_VERSIONS, 0, 4),
    ]
    assert transport.protocol.connection.client_software == ("librdkafka/2.12.1" if version >= 3 else "")


@pytest.mark.parametrize("version", [5, 6, 32767, -1])
def test_a_version_of_the_future_gets_the_first_body_and_a_hint(world: World, version: int) -> None:
    """KIP-511: the client reads v0, finds 35 and the range, and asks again."""
    transport = world.connect()
    transport.feed(framed(struct.pack(">hhih", API_VERSIONS, version, 9, -1) + b"whatever that version has"))
    ((correlation_id, body),) = transport.answers
    assert correlation_id == 9
    assert body == struct.pack(">hi hhh", 35, 1, API_VERSIONS, 0, 4)
    transport.feed(api_versions(3))
    assert len(transport.answers) == 2


@pytest.mark.parametrize(
    ("name", "software"),
    [("", "1"), ("a", ""), ("-a", "1"), ("a-", "1"), ("a b", "1"), ("a", "1 "), ("ä", "1"), ("a\n", "1"), ("a", ".1")],
)
def test_software_names_that_kafka_refuses(world: World, name: str, software: str) -> None:
    transport = world.connect()
    transport.feed(api_versions(3, name, software))
    response = decode(response_type(API_VERSIONS, 3), transport.answers[0][1])
    assert response.error_code is ErrorCode.invalid_request
    assert response.api_keys == ()
    assert transport.protocol.connection.client_software == ""
    assert not transport.closed


@pytest.mark.parametrize(("name", "software"), [("a", "1"), ("apache-kafka-java", "4.1.0"), ("a.b", "1.0-SNAPSHOT")])
def test_software_names_that_kafka_takes(world: World, name: str, software: str) -> None:
    transport = world.connect()
    transport.feed(api_versions(4, name, software))
    assert transport.protocol.connection.client_software == f"{name}/{software}"


@pytest.mark.parametrize("version", range(5))
def test_features_from_version_3_on(loop: ManualLoop, version: int) -> None:
    world = World(loop)
    features = [Feature("group.version", 0, 1, 1), Feature("metadata.version", 7, 25, 20), Feature("x", 1, 2)]
    world.server.registry = registry = Registry(lambda: (features, 42))
    assert [api.name for api in registry] == ["ApiVersions"]
    transport = world.connect()
    transport.feed(api_versions(version))
    response = decode(response_type(API_VERSIONS, version), transport.answers[0][1])
    if version < 3:
        assert not hasattr(response, "supported_features")
        return
    names = [feature.name for feature in response.supported_features]
    assert names == (["metadata.version", "x"] if version == 3 else ["group.version", "metadata.version", "x"])
    assert response.finalized_features_epoch == 42
    assert [(f.name, f.max_version_level) for f in response.finalized_features] == [
        ("group.version", 1),
        ("metadata.version", 20),
    ]


def nothing(_request: Any) -> Any:
    raise AssertionError


@pytest.mark.parametrize(
    "api",
    [
        Api(API_VERSIONS, "Twice", 0, 4, nothing),
        Api(3, "Backwards", 4, 2, nothing),
        Api(3, "TooNew", 0, 99, nothing),
        Api(4242, "Unknown", 0, 0, nothing),
    ],
)
def test_rows_that_make_no_sense(api: Api) -> None:
    with pytest.raises(ValueError, match=api.name):
        Registry().add(api)


def test_lookup() -> None:
    registry = Registry()
    api = Api(3, "Metadata", 1, 12, nothing)
    registry.add(api)
    assert registry.lookup(3) is api
    assert registry.lookup(1) is None
    assert registry.route(3, 0) is None
    assert registry.route(3, 13) is None
    assert registry.route(3, 12) is registry.route(3, 12)


def test_a_request_of_too_many_elements_is_not_turned_into_objects(loop: ManualLoop) -> None:
    world = World(loop)
    world.registry.add(Api(3, "Metadata", 0, 12, nothing))
    transport = world.connect()
    transport.feed(request(3, 1, struct.pack(">i", 1_000_000) + bytes(2_000_000), version=1))
    assert transport.closed
    assert not world.errors

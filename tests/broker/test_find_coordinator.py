"""FindCoordinator where there is no coordinator."""

from __future__ import annotations

import pytest
from kio.schema.errors import ErrorCode

from tests.broker.world import World


@pytest.mark.parametrize("version", range(7))
async def test_nobody_coordinates_anything(world: World, version: int) -> None:
    asked = {"coordinator_keys": ["a", "b"]} if version >= 4 else {"key": "a"}
    response = await world.call(10, version, {**asked, "key_type": 0})
    rows = response.coordinators if version >= 4 else [response]
    assert [row.error_code for row in rows] == [ErrorCode.coordinator_not_available] * len(rows)
    assert [(row.node_id, row.host, row.port) for row in rows] == [(-1, "", -1)] * len(rows)
    if version >= 4:
        assert [row.key for row in rows] == ["a", "b"]
    elif version >= 1:
        assert response.error_message == "Consumer groups are not served by this broker."


async def test_a_key_type_that_does_not_exist(world: World) -> None:
    response = await world.call(10, 4, {"key_type": 9, "coordinator_keys": ["a"]})
    assert response.coordinators[0].error_code is ErrorCode.invalid_request

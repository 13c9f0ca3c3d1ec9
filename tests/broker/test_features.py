"""Features on one broker: UpdateFeatures, what ApiVersions tells, and what is not served on a low level."""

from __future__ import annotations

from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from ottla.controller import ControllerUnavailable, FeatureUpdate, UpdateFeatures, UpdateFeaturesResponse
from tests.broker.world import World

UPDATE, VERSIONS, HEARTBEAT, DESCRIBE = 57, 18, 68, 69
TXN, GROUP = "transaction.version", "group.version"
NONE = ErrorCode.none


async def told(world: World, version: int = 4) -> tuple[dict[str, tuple[int, int]], dict[str, int], int]:
    answer = await world.call(VERSIONS, version, {"client_software_name": "x", "client_software_version": "1"})
    assert all(row.min_version_level == row.max_version_level for row in answer.finalized_features)
    return (
        {row.name: (row.min_version, row.max_version) for row in answer.supported_features},
        {row.name: row.max_version_level for row in answer.finalized_features},
        answer.finalized_features_epoch,
    )


async def test_versions_tell_the_levels_of_the_image(world: World) -> None:
    supported, finalised, epoch = await told(world)
    assert supported == {GROUP: (0, 1), "kraft.version": (1, 1), TXN: (0, 2)}
    assert (finalised, epoch) == ({GROUP: 1, "kraft.version": 1, TXN: 2}, 0)
    world.set_levels(transaction_version=1)
    _, finalised, epoch = await told(world)
    assert (finalised, epoch) == ({GROUP: 1, "kraft.version": 1, TXN: 1}, 30)
    world.set_levels(31, transaction_version=0, group_version=0)
    _, finalised, epoch = await told(world)
    assert (finalised, epoch) == ({"kraft.version": 1}, 31)


async def test_older_clients_are_not_told_of_a_level_0(world: World) -> None:
    """KAFKA-17011."""
    supported, finalised, _ = await told(world, 3)
    assert supported == {"kraft.version": (1, 1)}
    assert finalised == {GROUP: 1, "kraft.version": 1, TXN: 2}


@pytest.mark.parametrize(
    ("version", "row", "kind"),
    [
        (0, {"allow_downgrade": False}, 1),
        (0, {"allow_downgrade": True}, 2),
        (1, {"upgrade_type": 3}, 3),
        (2, {"upgrade_type": 2}, 2),
        (2, {}, 1),
    ],
)
async def test_what_is_asked_of_the_controller(world: World, version: int, row: dict[str, Any], kind: int) -> None:
    world.controller.answers[UpdateFeatures] = lambda request: UpdateFeaturesResponse(offset=42)
    validate = version > 0
    values = {"feature_updates": [{"feature": TXN, "max_version_level": 1, **row}], "validate_only": validate}
    answer = await world.call(UPDATE, version, values)
    assert world.controller.calls == [
        UpdateFeatures(updates=(FeatureUpdate(feature=TXN, level=1, upgrade_type=kind),), validate_only=validate)
    ]
    assert answer.error_code is NONE
    if version < 2:
        assert [(each.feature, each.error_code) for each in answer.results] == [(TXN, NONE)]
    assert world.view.waited_for == [42]


@pytest.mark.parametrize("version", [0, 1, 2])
async def test_a_refusal_is_that_of_the_request(world: World, version: int) -> None:
    refused = UpdateFeaturesResponse(error=ErrorCode.invalid_update_version.value, message="no")
    world.controller.answers[UpdateFeatures] = lambda request: refused
    answer = await world.call(UPDATE, version, {"feature_updates": [{"feature": TXN, "max_version_level": 9}]})
    assert (answer.error_code, answer.error_message) == (ErrorCode.invalid_update_version, "no")
    assert not getattr(answer, "results", ())


async def test_no_controller(world: World) -> None:
    def nobody(request: Any) -> Any:
        raise ControllerUnavailable("nobody leads")

    world.controller.answers[UpdateFeatures] = nobody
    answer = await world.call(UPDATE, 2, {"feature_updates": [{"feature": TXN, "max_version_level": 1}]})
    assert answer.error_code is ErrorCode.request_timed_out


async def test_without_group_version_there_are_no_groups_of_the_new_protocol(world: World) -> None:
    await world.coordinate()
    beat = {
        "group_id": "g",
        "member_id": "m",
        "member_epoch": 0,
        "rebalance_timeout": 1000,
        "subscribed_topic_names": ["t"],
        "topic_partitions": [],
    }
    assert (await world.call(HEARTBEAT, 1, beat)).error_code is NONE
    world.set_levels(group_version=0)
    assert (await world.call(HEARTBEAT, 1, beat)).error_code is ErrorCode.unsupported_version
    (row,) = (await world.call(DESCRIBE, 1, {"group_ids": ["g"]})).groups
    assert (row.group_id, row.error_code) == ("g", ErrorCode.unsupported_version)
    world.set_levels(group_version=1)
    (row,) = (await world.call(DESCRIBE, 1, {"group_ids": ["g"]})).groups
    assert (row.error_code, len(row.members)) == (NONE, 1)

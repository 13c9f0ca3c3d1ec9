"""UpdateFeatures (KIP-584, KIP-778, KIP-1022)."""

from __future__ import annotations

import random

import pytest
from kio.schema.errors import ErrorCode

from ottla.controller import (
    FEATURES,
    BrokenInvariant,
    FeatureUpdate,
    MetadataImage,
    Policy,
    UpdateFeatures,
    decode_records,
    decode_snapshot,
    diff,
    encode_snapshot,
)
from ottla.controller.metadata import apply, decide

UP, DOWN, UNSAFE = 1, 2, 3
TXN, GROUP, KRAFT = "transaction.version", "group.version", "kraft.version"


def update(image: MetadataImage, *updates: tuple[str, int, int], validate_only: bool = False):
    """The next image, the error, its text, and how many records that took."""
    request = UpdateFeatures(
        updates=tuple(FeatureUpdate(feature=name, level=level, upgrade_type=kind) for name, level, kind in updates),
        validate_only=validate_only,
    )
    decision = decide(image, Policy(), request, random.Random(1))
    after, _ = apply(image, decision.records, image.offset + 10)
    return after, ErrorCode(decision.response.error), decision.response.message, len(decision.records)


def levels(image: MetadataImage) -> dict[str, int]:
    return {name: image.feature(name) for name in FEATURES}


def test_a_cluster_begins_with_the_highest_levels():
    image = MetadataImage("c")
    assert levels(image) == {GROUP: 1, KRAFT: 1, TXN: 2}
    assert image.features_epoch == 0


def test_levels_go_down_and_up_and_the_epoch_is_where_they_changed():
    image, error, _, _ = update(MetadataImage("c", offset=5), (TXN, 1, DOWN), (GROUP, 0, UNSAFE))
    assert error is ErrorCode.none
    assert levels(image) == {GROUP: 0, KRAFT: 1, TXN: 1}
    assert (image.offset, image.features_epoch) == (15, 15)
    image, error, _, _ = update(image, (TXN, 0, DOWN))
    assert (image.feature(TXN), image.features_epoch) == (0, 25)
    image, error, _, _ = update(image, (TXN, 2, UP), (GROUP, 1, UP))
    assert error is ErrorCode.none
    assert levels(image) == levels(MetadataImage("c"))
    assert image.features_epoch == 35


@pytest.mark.parametrize("kind", [UP, DOWN, UNSAFE])
def test_the_level_that_there_is_changes_nothing(kind: int):
    image, error, _, records = update(MetadataImage("c"), (TXN, 2, kind), (KRAFT, 1, kind))
    assert (error, records, image.features_epoch) == (ErrorCode.none, 0, 0)


def test_validate_only_says_what_would_be():
    before = MetadataImage("c")
    image, error, message, records = update(before, (TXN, 1, DOWN), validate_only=True)
    assert (error, message, records) == (ErrorCode.none, None, 0)
    assert levels(image) == levels(before)
    assert update(before, (TXN, 3, UP), validate_only=True)[1] is ErrorCode.invalid_update_version


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ((TXN, 3, UP), "only supports versions 0-2"),
        ((TXN, -1, DOWN), "A feature version cannot be less than 0."),
        ((TXN, 1, UP), "Can't downgrade the version of this feature without setting the upgrade type"),
        ((TXN, 1, 0), "does not support the given upgrade type"),
        ((TXN, 1, 4), "does not support the given upgrade type"),
        ((KRAFT, 0, UNSAFE), "only supports versions 1-1"),
        (("metadata.version", 25, UP), "does not know this feature"),
    ],
)
def test_what_cannot_be(wanted: tuple[str, int, int], reason: str):
    image, error, message, records = update(MetadataImage("c"), (GROUP, 0, DOWN), wanted)
    assert (error, records) == (ErrorCode.invalid_update_version, 0)
    assert message is not None
    assert message.startswith("The update failed for all features since the following feature had an error: ")
    assert f"Invalid update version {wanted[1]} for feature {wanted[0]}." in message
    assert reason in message
    assert image.feature(GROUP) == 1, "all features are changed or none"


@pytest.mark.parametrize("kind", [DOWN, UNSAFE])
def test_a_downgrade_does_not_go_up(kind: int):
    image, _, _, _ = update(MetadataImage("c"), (TXN, 0, DOWN))
    _, error, message, _ = update(image, (TXN, 1, kind))
    assert error is ErrorCode.invalid_update_version
    assert message is not None and "Can't downgrade to a newer version." in message


def test_a_feature_that_is_named_twice():
    _, error, _, records = update(MetadataImage("c"), (TXN, 1, DOWN), (TXN, 0, DOWN))
    assert (error, records) == (ErrorCode.invalid_request, 0)


def test_a_snapshot_has_the_levels_and_their_epoch():
    image, _, _, _ = update(MetadataImage("c"), (TXN, 0, DOWN), (GROUP, 0, DOWN))
    image, _ = apply(image, (), image.offset + 100)
    loaded = decode_snapshot(encode_snapshot(image), "c")
    assert loaded == image
    assert loaded.features_epoch == 10
    assert diff(MetadataImage("c"), loaded).features
    assert not diff(image, loaded).features


def test_a_snapshot_from_before_there_were_levels():
    old = b'{"version":1,"cluster_id":"c","offset":7}\n[{"type":"producer-ids","node_id":1,"broker_epoch":2,'
    image = decode_snapshot(old + b'"next_producer_id":1000}]', "c")
    assert levels(image) == {GROUP: 1, KRAFT: 1, TXN: 2}
    assert image.features_epoch == 0
    assert b"feature" not in encode_snapshot(image), "as long as nothing is changed older versions can read it, too"


def test_subscribers_hear_of_a_change():
    image = MetadataImage("c")
    records = decode_records(b'[{"type":"feature","name":"group.version","level":0}]')
    after, delta = apply(image, records, 3)
    assert delta and delta.features and after.feature(GROUP) == 0


@pytest.mark.parametrize("record", ['"name":"transaction.version","level":3', '"name":"share.version","level":1'])
def test_what_this_version_does_not_support_ends_it(record: str):
    """It was decided by a newer one."""
    records = decode_records(b'[{"type":"feature",' + record.encode() + b"}]")
    with pytest.raises(BrokenInvariant):
        apply(MetadataImage("c"), records, 3)

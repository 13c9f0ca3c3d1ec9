"""The features of the cluster (KIP-584): what this broker supports, and the levels that all of them use."""

from __future__ import annotations

from ottla.controller import FEATURES, GROUP_VERSION, TRANSACTION_VERSION, MetadataImage
from ottla.wire import Feature


def transaction_version(image: MetadataImage) -> int:
    """Which protocol of transactions the cluster offers its clients, and the form of the coordinator's records."""
    return image.feature(TRANSACTION_VERSION)


def consumer_groups_enabled(image: MetadataImage) -> bool:
    """Whether the groups of KIP-848 are served."""
    return image.feature(GROUP_VERSION) >= 1


def told(image: MetadataImage) -> tuple[list[Feature], int]:
    """What ApiVersions says: the features, and the epoch of their finalised levels, the Raft index of the last change.
    As in Kafka, level 0 is not told."""
    features = [
        Feature(name, supported.low, supported.high, image.feature(name) or None)
        for name, supported in FEATURES.items()
    ]
    return features, image.features_epoch

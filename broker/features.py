"""The features of the cluster (KIP-584): what this broker supports, and the level that all of them use."""

from __future__ import annotations

from typing import Final

from ottla.controller import MetadataImage
from ottla.wire import Feature

TRANSACTION_VERSION: Final = "transaction.version"
"""1: tagged fields in the coordinator's log. 2: a new epoch for every transaction, and partitions that are added by
their leaders (KIP-890)."""
_LATEST: Final = 2
_EPOCH: Final = 0


def transaction_version(_image: MetadataImage) -> int:
    """The finalised level."""
    return _LATEST


def told(image: MetadataImage) -> tuple[list[Feature], int]:
    """What ApiVersions says: the features, and the epoch of their finalised levels."""
    return [Feature(TRANSACTION_VERSION, 0, _LATEST, transaction_version(image))], _EPOCH

"""The features that this version supports (KIP-584), as a table.

There is no metadata.version: it stands for Kafka's metadata records, which are not those here.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

GROUP_VERSION = "group.version"
"""1: the consumer groups of KIP-848."""

TRANSACTION_VERSION = "transaction.version"
"""1: tagged fields in the coordinator's log. 2: a new epoch for every transaction, and partitions that are added by
their leaders (KIP-890)."""

KRAFT_VERSION = "kraft.version"
"""1: voters can be added and removed (KIP-853), which they always can here."""


class SupportedLevels(NamedTuple):
    """Of a feature. `default` is the finalised level of a cluster that has not changed it: never to be raised, as that
    would change clusters that there are already."""

    low: int
    high: int
    default: int


FEATURES: Mapping[str, SupportedLevels] = MappingProxyType(
    {
        GROUP_VERSION: SupportedLevels(0, 1, 1),
        KRAFT_VERSION: SupportedLevels(1, 1, 1),
        TRANSACTION_VERSION: SupportedLevels(0, 2, 2),
    }
)
NO_FEATURE = SupportedLevels(0, -1, 0)
"""Of a feature that is not known."""

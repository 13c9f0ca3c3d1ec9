"""The part of the admin client that is about the cluster's features (KIP-584)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from ottla.client.admin import features
from ottla.client.admin.structs import FeatureMetadata, FeatureUpdate
from ottla.client.network import Network


class FeatureAdmin(ABC):
    """What an `Admin` can do with features."""

    _timeout: float

    @abstractmethod
    def _ready(self) -> Network:
        """Raises IllegalStateError."""

    @abstractmethod
    def _seconds(self, timeout_ms: float | None) -> float:
        """A timeout, or what there is in place of one."""

    async def describe_features(self) -> FeatureMetadata:
        """The features that the cluster supports, and the levels that it uses."""
        return await features.describe(self._ready(), self._timeout)

    async def update_features(
        self,
        feature_updates: Mapping[str, int | FeatureUpdate],
        *,
        timeout_ms: float | None = None,
        validate_only: bool = False,
    ) -> None:
        """Change the finalised levels of features; a number alone is an upgrade. All are changed or none.

        Raises a BrokerResponseError of INVALID_UPDATE_VERSION for a feature or a level that the cluster does not
        support, and for a way that the change does not go; ValueError for a level that does not fit into 16 bits.
        """
        updates = {
            name: FeatureUpdate(wanted) if isinstance(wanted, int) else FeatureUpdate(*wanted)
            for name, wanted in feature_updates.items()
        }
        await features.update(self._ready(), updates, self._seconds(timeout_ms), validate_only=validate_only)

"""The features of the cluster: ApiVersions, UpdateFeatures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kio.schema.errors import ErrorCode

from ottla.client.admin.structs import FeatureMetadata, FeatureUpdate, FinalizedFeature
from ottla.client.admin.topics import AGAIN, CHANGE_PATIENCE
from ottla.client.errors import error_for
from ottla.client.network import Network, Values
from ottla.wire import API_VERSIONS, SOFTWARE_NAME, SOFTWARE_VERSION

UPDATE_FEATURES: Final = 57
_TYPES: Final = {"upgrade": 1, "safe_downgrade": 2, "unsafe_downgrade": 3}


async def describe(network: Network, timeout: float) -> FeatureMetadata:
    """ApiVersions (key 18), versions 3 and 4; the first leaves out features that have a level 0."""
    values = {"client_software_name": SOFTWARE_NAME, "client_software_version": SOFTWARE_VERSION}
    answer = await network.call_any(API_VERSIONS, (3, 4), values, timeout=timeout)
    if answer.error_code is not ErrorCode.none:
        raise error_for(answer.error_code)
    epoch = answer.finalized_features_epoch
    return FeatureMetadata(
        {row.name: FinalizedFeature(row.min_version_level, row.max_version_level) for row in answer.finalized_features},
        epoch if epoch >= 0 else None,
        {row.name: (row.min_version, row.max_version) for row in answer.supported_features},
    )


async def update(
    network: Network, updates: Mapping[str, FeatureUpdate], timeout: float, *, validate_only: bool
) -> None:
    """UpdateFeatures (key 57), versions 1 and 2. Raises ValueError for a level that does not fit into 16 bits."""
    for name, (level, _) in updates.items():
        if not -(2**15) <= level < 2**15:
            raise ValueError(f"{level} is no level of {name}")

    def values(seconds: float) -> Values:
        return {
            "timeout": int(seconds * 1000),
            "feature_updates": [
                {"feature": name, "max_version_level": level, "upgrade_type": _TYPES[kind]}
                for name, (level, kind) in updates.items()
            ],
            "validate_only": validate_only,
        }

    answer = await network.call_any(
        UPDATE_FEATURES,
        (1, 2),
        values,
        timeout=timeout,
        patience=CHANGE_PATIENCE,
        retry_if=lambda found: found.error_code if found.error_code in AGAIN else None,
    )
    if answer.error_code is not ErrorCode.none:
        raise error_for(answer.error_code, answer.error_message)
    for row in getattr(answer, "results", ()):
        if row.error_code is not ErrorCode.none:
            raise error_for(row.error_code, row.error_message)

"""What of Kafka's protocol a broker serves, API by API and version by version, and why the rest is missing.

The versions on one side are those of the registry, on the other those of Kafka's own schema, as kio has it. The reasons
are the one table here: there is a reason for every gap, and none for what is not one.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from kio.schema.index import api_key_map, schema_name_map

from ottla.broker.api import TABLE
from ottla.wire import Registry

Versions = tuple[int, int]

_SERVERS = "between Kafka's own servers; here nodes speak to each other through the controller listener"
_SHARE = "share groups (KIP-932) are not implemented"
_STREAMS = "streams groups (KIP-1071) are not implemented"
_ACLS = "there is no authorizer: every client may do everything"
_SASL = "clients do not authenticate themselves"
_TOKENS = "delegation tokens (KIP-48): clients do not authenticate themselves"
_TELEMETRY = "metrics of clients (KIP-714) are not taken; clients that are told so do not send any"

REASONS: Mapping[int, str] = MappingProxyType(
    {
        29: _ACLS,
        30: _ACLS,
        31: _ACLS,
        38: _TOKENS,
        39: _TOKENS,
        40: _TOKENS,
        41: _TOKENS,
        50: _SASL,
        51: _SASL,
        71: _TELEMETRY,
        72: _TELEMETRY,
        76: _SHARE,
        77: _SHARE,
        78: _SHARE,
        79: _SHARE,
        88: _STREAMS,
        89: _STREAMS,
        90: _SHARE,
        91: _SHARE,
        92: _SHARE,
    }
)
"""Why versions of an API that clients use are missing, or all of it."""

BETWEEN_SERVERS = frozenset({52, 53, 54, 56, 58, 59, 62, 63, 67, 70, 73, 82, 83, 84, 85, 86, 87})
"""Keys that no client has a use for: quorum, registration, ISR, forwarding, directories, the state of share groups."""


class Coverage(NamedTuple):
    """One API. `served` is None for one that is not served; `kafka` are the versions of Kafka's schema."""

    key: int
    name: str
    kafka: Versions
    served: Versions | None
    for_clients: bool
    reason: str | None

    @property
    def missing(self) -> tuple[int, ...]:
        """The versions of Kafka's schema that are not served."""
        low, high = self.served or (1, 0)
        return tuple(version for version in range(self.kafka[0], self.kafka[1] + 1) if not low <= version <= high)


def coverage(served: Mapping[int, Versions] | None = None) -> list[Coverage]:
    """Every API of Kafka's schema, by key. `served` is what another broker says of itself; None is this code."""
    own = served_versions() if served is None else served
    return [_row(key, own.get(key)) for key in sorted(api_key_map)]


def served_versions() -> dict[int, Versions]:
    """What ApiVersions announces, by key."""
    found = {api.key: (api.min_version, api.max_version) for api in Registry()}
    return found | {row.key: row.versions for row in TABLE}


def _row(key: int, served: Versions | None) -> Coverage:
    name = api_key_map[key]
    versions = schema_name_map[name]
    for_clients = key not in BETWEEN_SERVERS
    row = Coverage(key, api_name(key), (min(versions), max(versions)), served, for_clients, None)
    return row._replace(reason=REASONS.get(key, None if for_clients else _SERVERS)) if row.missing else row


def api_name(key: int) -> str:
    """Kafka's name of an API."""
    return _NAMES.get(key) or "".join(part.capitalize() for part in api_key_map[key].split("_"))


_NAMES = {row.key: row.name for row in TABLE}

__all__ = ["BETWEEN_SERVERS", "REASONS", "Coverage", "api_name", "coverage", "served_versions"]

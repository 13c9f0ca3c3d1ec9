"""DescribeConfigs and IncrementalAlterConfigs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kio.schema.errors import ErrorCode

from ottla.client.admin.topics import CHANGE_PATIENCE, to_retry
from ottla.client.errors import error_for
from ottla.client.network import Network
from ottla.client.structs import ConfigEntry, ConfigResource

DESCRIBE_CONFIGS: Final = 32
INCREMENTAL_ALTER_CONFIGS: Final = 44

_KINDS = {"topic": 2, "broker": 4}
_NAMES = {number: name for name, number in _KINDS.items()}
_SOURCES = {
    1: "DYNAMIC_TOPIC_CONFIG",
    2: "DYNAMIC_BROKER_CONFIG",
    3: "DYNAMIC_DEFAULT_BROKER_CONFIG",
    4: "STATIC_BROKER_CONFIG",
    5: "DEFAULT_CONFIG",
}
_SET, _DELETE = 0, 1


async def describe(
    network: Network, resources: list[ConfigResource], timeout: float, include_documentation: bool
) -> dict[ConfigResource, dict[str, ConfigEntry]]:
    """DescribeConfigs (key 32), versions 1 to 4. A broker is asked about itself, any one about the rest."""
    result: dict[ConfigResource, dict[str, ConfigEntry]] = {}
    for node, mine in _by_node(network, resources).items():
        values = {
            "resources": [
                {"resource_type": _kind(r), "resource_name": r.name, "configuration_keys": None} for r in mine
            ],
            "include_synonyms": False,
            "include_documentation": include_documentation,
        }
        answer = await _call(network, node, DESCRIBE_CONFIGS, (1, 4), values, timeout)
        for described in answer.results:
            resource = ConfigResource(_NAMES[described.resource_type], described.resource_name)
            _raise(described, resource)
            result[resource] = {entry.name: _entry(entry) for entry in described.configs}
    return result


async def alter(
    network: Network,
    changes: Mapping[ConfigResource, Mapping[str, str | None]],
    timeout: float,
    validate_only: bool,
) -> None:
    """IncrementalAlterConfigs (key 44), versions 0 and 1. Raises the first error."""
    for node, mine in _by_node(network, list(changes)).items():
        values = {
            "resources": [
                {
                    "resource_type": _kind(resource),
                    "resource_name": resource.name,
                    "configs": [
                        {"name": name, "config_operation": _DELETE if value is None else _SET, "value": value}
                        for name, value in changes[resource].items()
                    ],
                }
                for resource in mine
            ],
            "validate_only": validate_only,
        }
        answer = await _call(network, node, INCREMENTAL_ALTER_CONFIGS, (0, 1), values, timeout)
        for changed in answer.responses:
            _raise(changed, ConfigResource(_NAMES[changed.resource_type], changed.resource_name))


async def _call(
    network: Network, node: int | None, api: int, versions: tuple[int, int], values: Mapping[str, Any], timeout: float
) -> Any:
    if node is None:
        return await network.call_any(
            api,
            versions,
            values,
            timeout=timeout,
            patience=CHANGE_PATIENCE,
            retry_if=lambda a: to_retry(getattr(a, "responses", ())),
        )
    return await network.call(node, api, versions, values, timeout=timeout)


def _by_node(network: Network, resources: list[ConfigResource]) -> dict[int | None, list[ConfigResource]]:
    nodes: dict[int | None, list[ConfigResource]] = {}
    for resource in resources:
        node = int(resource.name) if resource.kind == "broker" and resource.name.isdigit() else None
        nodes.setdefault(node, []).append(resource)
    return nodes


def _kind(resource: ConfigResource) -> int:
    kind = _KINDS.get(resource.kind)
    if kind is None:
        raise ValueError(f"{resource.kind!r} is none of {', '.join(_KINDS)}")
    return kind


def _raise(result: Any, resource: ConfigResource) -> None:
    if result.error_code is ErrorCode.none:
        return
    text = f"{resource.kind} {resource.name!r}"
    raise error_for(result.error_code, f"{text}: {result.error_message}" if result.error_message else text)


def _entry(raw: Any) -> ConfigEntry:
    return ConfigEntry(
        raw.name,
        raw.value,
        _SOURCES.get(raw.config_source, "UNKNOWN"),
        raw.config_source == 5,
        raw.read_only,
        raw.is_sensitive,
        getattr(raw, "documentation", None),
    )

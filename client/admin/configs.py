"""DescribeConfigs, AlterConfigs, IncrementalAlterConfigs, ListConfigResources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kio.schema.errors import ErrorCode

from ottla.client.admin.structs import AlterConfigOp
from ottla.client.admin.topics import CHANGE_PATIENCE, to_retry
from ottla.client.errors import error_for
from ottla.client.network import Network
from ottla.client.structs import ConfigEntry, ConfigResource, ConfigSynonym

DESCRIBE_CONFIGS: Final = 32
ALTER_CONFIGS: Final = 33
INCREMENTAL_ALTER_CONFIGS: Final = 44
LIST_CONFIG_RESOURCES: Final = 74

_KINDS = {"topic": 2, "broker": 4, "broker_logger": 8, "client_metrics": 16, "group": 32}
_NAMES = {number: name for name, number in _KINDS.items()}
_SOURCES = {
    1: "DYNAMIC_TOPIC_CONFIG",
    2: "DYNAMIC_BROKER_CONFIG",
    3: "DYNAMIC_DEFAULT_BROKER_CONFIG",
    4: "STATIC_BROKER_CONFIG",
    5: "DEFAULT_CONFIG",
    6: "DYNAMIC_BROKER_LOGGER_CONFIG",
    7: "CLIENT_METRICS_CONFIG",
    8: "GROUP_CONFIG",
}
_TYPES = ("UNKNOWN", "BOOLEAN", "STRING", "INT", "SHORT", "LONG", "DOUBLE", "LIST", "CLASS", "PASSWORD")
_OPS = {"set": 0, "delete": 1, "append": 2, "subtract": 3}


async def describe(
    network: Network, resources: list[ConfigResource], timeout: float, *, synonyms: bool, documentation: bool
) -> dict[ConfigResource, dict[str, ConfigEntry]]:
    """DescribeConfigs (key 32), versions 1 to 4. A broker is asked about itself, any one about the rest."""
    result: dict[ConfigResource, dict[str, ConfigEntry]] = {}
    for node, mine in _by_node(network, resources).items():
        values = {
            "resources": [
                {"resource_type": _kind(r), "resource_name": r.name, "configuration_keys": None} for r in mine
            ],
            "include_synonyms": synonyms,
            "include_documentation": documentation,
        }
        answer = await _call(network, node, DESCRIBE_CONFIGS, (1, 4), values, timeout)
        for described in answer.results:
            resource = ConfigResource(_NAMES[described.resource_type], described.resource_name)
            _raise(described, resource)
            result[resource] = {entry.name: _entry(entry) for entry in described.configs}
    return result


async def alter(
    network: Network,
    changes: Mapping[ConfigResource, Mapping[str, str | AlterConfigOp | None]],
    timeout: float,
    validate_only: bool,
) -> None:
    """IncrementalAlterConfigs (key 44), versions 0 and 1. Raises the first error."""
    rows = {resource: [_op(name, change) for name, change in wanted.items()] for resource, wanted in changes.items()}
    await _change(network, INCREMENTAL_ALTER_CONFIGS, (0, 1), rows, timeout, validate_only)


async def replace(
    network: Network, values: Mapping[ConfigResource, Mapping[str, str]], timeout: float, validate_only: bool
) -> None:
    """AlterConfigs (key 33), versions 0 to 2. Raises the first error."""
    rows = {
        resource: [{"name": name, "value": value} for name, value in wanted.items()]
        for resource, wanted in values.items()
    }
    await _change(network, ALTER_CONFIGS, (0, 2), rows, timeout, validate_only)


async def _change(
    network: Network,
    api: int,
    versions: tuple[int, int],
    rows: Mapping[ConfigResource, list[dict[str, Any]]],
    timeout: float,
    validate_only: bool,
) -> None:
    for node, mine in _by_node(network, list(rows)).items():
        values = {
            "resources": [
                {"resource_type": _kind(resource), "resource_name": resource.name, "configs": rows[resource]}
                for resource in mine
            ],
            "validate_only": validate_only,
        }
        answer = await _call(network, node, api, versions, values, timeout)
        for changed in answer.responses:
            _raise(changed, ConfigResource(_NAMES[changed.resource_type], changed.resource_name))


def _op(name: str, change: str | AlterConfigOp | None) -> dict[str, Any]:
    op = change if isinstance(change, AlterConfigOp) else AlterConfigOp("delete" if change is None else "set", change)
    if op.op not in _OPS:
        raise ValueError(f"{op.op!r} is none of {', '.join(_OPS)}")
    return {"name": name, "config_operation": _OPS[op.op], "value": op.value}


async def list_resources(network: Network, kinds: list[str], timeout: float) -> list[ConfigResource]:
    """ListConfigResources (key 74), version 1."""
    values = {"resource_types": tuple(_kind(ConfigResource(kind, "")) for kind in kinds)}
    answer = await network.call_any(LIST_CONFIG_RESOURCES, (1, 1), values, timeout=timeout, patience=CHANGE_PATIENCE)
    if answer.error_code is not ErrorCode.none:
        raise error_for(answer.error_code)
    return [ConfigResource(_NAMES[row.resource_type], row.resource_name) for row in answer.config_resources]


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
        asked_itself = resource.kind in ("broker", "broker_logger") and resource.name.isdigit()
        nodes.setdefault(int(resource.name) if asked_itself else None, []).append(resource)
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
    kind = getattr(raw, "config_type", 0)
    return ConfigEntry(
        raw.name,
        raw.value,
        _SOURCES.get(raw.config_source, "UNKNOWN"),
        raw.config_source == 5,
        raw.read_only,
        raw.is_sensitive,
        getattr(raw, "documentation", None),
        _TYPES[kind] if 0 <= kind < len(_TYPES) else "UNKNOWN",
        tuple(
            ConfigSynonym(synonym.name, synonym.value, _SOURCES.get(synonym.source, "UNKNOWN"))
            for synonym in raw.synonyms
        ),
    )

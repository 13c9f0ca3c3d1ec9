"""DescribeClientQuotas, AlterClientQuotas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from kio.schema.errors import ErrorCode

from ottla.client.admin.structs import AnyName, ClientQuota
from ottla.client.admin.topics import CHANGE_PATIENCE, to_retry
from ottla.client.errors import error_for
from ottla.client.network import Network

DESCRIBE_CLIENT_QUOTAS: Final = 48
ALTER_CLIENT_QUOTAS: Final = 49

_EXACT, _DEFAULT, _ANY = range(3)


async def describe(
    network: Network, components: Mapping[str, str | AnyName | None], timeout: float, *, strict: bool
) -> list[ClientQuota]:
    """DescribeClientQuotas (key 48), versions 0 and 1."""
    values = {"components": [_component(kind, name) for kind, name in components.items()], "strict": strict}
    answer = await network.call_any(DESCRIBE_CLIENT_QUOTAS, (0, 1), values, timeout=timeout)
    if answer.error_code is not ErrorCode.none:
        raise error_for(answer.error_code, answer.error_message or "")
    return [
        ClientQuota(
            {part.entity_type: part.entity_name for part in entry.entity},
            {value.key: float(value.value) for value in entry.values},
        )
        for entry in answer.entries or ()
    ]


def _component(kind: str, name: str | AnyName | None) -> dict[str, object]:
    if isinstance(name, AnyName):
        return {"entity_type": kind, "match_type": _ANY, "match": None}
    return {"entity_type": kind, "match_type": _DEFAULT if name is None else _EXACT, "match": name}


async def alter(
    network: Network,
    changes: Iterable[tuple[Mapping[str, str | None], Mapping[str, float | None]]],
    timeout: float,
    *,
    validate_only: bool,
) -> None:
    """AlterClientQuotas (key 49), versions 0 and 1. Raises the first error."""
    values: Mapping[str, Any] = {
        "entries": [
            {
                "entity": [{"entity_type": kind, "entity_name": name} for kind, name in entity.items()],
                "ops": [
                    {"key": key, "value": 0.0 if value is None else float(value), "remove": value is None}
                    for key, value in wanted.items()
                ],
            }
            for entity, wanted in changes
        ],
        "validate_only": validate_only,
    }
    answer = await network.call_any(
        ALTER_CLIENT_QUOTAS,
        (0, 1),
        values,
        timeout=timeout,
        patience=CHANGE_PATIENCE,
        retry_if=lambda found: to_retry(found.entries),
    )
    for entry in answer.entries:
        if entry.error_code is not ErrorCode.none:
            entity = ", ".join(f"{part.entity_type} {part.entity_name}" for part in entry.entity)
            raise error_for(entry.error_code, f"quotas of {entity}: {entry.error_message}")

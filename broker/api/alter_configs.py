"""AlterConfigs, v0-v2: set all configs of a topic or broker at once; what is not named goes back to its default.

v2 flexible. Clients should use IncrementalAlterConfigs: two of these at the same time undo each other.

Differences from Kafka: as IncrementalAlterConfigs.
"""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from ottla.broker.altering import Problem, alter, resource_kind
from ottla.broker.context import Answer, BrokerContext
from ottla.controller import ConfigOp, ConfigResourceOps
from ottla.wire import Request


async def handle(context: BrokerContext, request: Request) -> Answer:
    return await alter(context, request.body.resources, _resource, validate_only=request.body.validate_only)


def _resource(type_: int, name: str, configs: tuple[object, ...]) -> ConfigResourceOps | Problem:
    kind = resource_kind(type_, name)
    if isinstance(kind, tuple):
        return kind
    values: dict[str, str] = {}
    for config in configs:
        key: str = getattr(config, "name", "")
        value: str | None = getattr(config, "value", None)
        if key in values:
            return ErrorCode.invalid_request, f"Error due to duplicate config keys: {key}"
        if value is None:
            return ErrorCode.invalid_request, f"Null value not supported for: {key}"
        values[key] = value
    ops = tuple(ConfigOp(key=key, op="set", value=value) for key, value in values.items())
    return ConfigResourceOps(kind=kind, name=name, ops=ops, replace=True)

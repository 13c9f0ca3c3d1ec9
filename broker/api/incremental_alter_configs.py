"""IncrementalAlterConfigs, v0-v1: change configs of topics, brokers and consumer groups key by key (KIP-339, KIP-1043).

v1 flexible.

Differences from Kafka: any broker takes changes for any broker, and an unknown key of a broker is refused. A bad value
of a broker's key is INVALID_CONFIG, as of a topic's (Kafka: INVALID_REQUEST, KAFKA-13609). `min.insync.replicas` is one
number for the whole cluster: a single broker cannot have its own, and the cluster's can be changed but not removed (as
in Kafka with eligible leader replicas, KIP-966). There are no log levels to be set, and no client metrics.
"""

from __future__ import annotations

from typing import Literal

from kio.schema.errors import ErrorCode

from ottla.broker.altering import Problem, alter, resource_kind
from ottla.broker.context import Answer, BrokerContext
from ottla.controller import ConfigOp, ConfigResourceOps
from ottla.wire import Request

_OPS: dict[int, Literal["set", "delete", "append", "subtract"]] = {0: "set", 1: "delete", 2: "append", 3: "subtract"}


async def handle(context: BrokerContext, request: Request) -> Answer:
    return await alter(context, request.body.resources, _resource, validate_only=request.body.validate_only)


def _resource(type_: int, name: str, configs: tuple[object, ...]) -> ConfigResourceOps | Problem:
    kind = resource_kind(type_, name)
    if isinstance(kind, tuple):
        return kind
    ops: list[ConfigOp] = []
    names: set[str] = set()
    for config in configs:
        key: str = getattr(config, "name", "")
        op = _OPS.get(getattr(config, "config_operation", -1))
        value: str | None = getattr(config, "value", None)
        if op is None:
            return ErrorCode.invalid_request, f"Unknown operation on {key}."
        if key in names:
            return ErrorCode.invalid_request, f"{key} is given more than once."
        if value is None and op != "delete":
            return ErrorCode.invalid_request, f"Null value not supported for: {key}"
        names.add(key)
        ops.append(ConfigOp(key=key, op=op, value=value))
    return ConfigResourceOps(kind=kind, name=name, ops=tuple(ops))

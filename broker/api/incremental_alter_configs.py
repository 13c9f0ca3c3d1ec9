"""IncrementalAlterConfigs, v0-v1: change configs of topics and brokers key by key (KIP-339).

Differences from Kafka: only topics and brokers have configs; other resources are an INVALID_REQUEST.
"""

from __future__ import annotations

from typing import Literal

from kio.schema.errors import ErrorCode

from ottla.broker.context import Answer, BrokerContext
from ottla.broker.forwarding import DEFAULT_TIMEOUT_S, Refusal, ask_controller
from ottla.controller import ConfigOp, ConfigResourceOps, IncrementalAlterConfigs
from ottla.wire import Request

_KINDS: dict[int, Literal["topic", "broker"]] = {2: "topic", 4: "broker"}
_OPS: dict[int, Literal["set", "delete", "append", "subtract"]] = {0: "set", 1: "delete", 2: "append", 3: "subtract"}

Problem = tuple[ErrorCode, str]


async def handle(context: BrokerContext, request: Request) -> Answer:
    body = request.body
    rows: list[dict[str, object]] = []
    wanted: list[tuple[int, ConfigResourceOps]] = []
    seen: set[tuple[int, str]] = set()
    for resource in body.resources:
        kind, name = resource.resource_type, resource.resource_name
        ops = _resource(kind, name, resource.configs)
        if (kind, name) in seen:
            ops = (ErrorCode.invalid_request, "Each resource must appear at most once.")
        seen.add((kind, name))
        if isinstance(ops, ConfigResourceOps):
            wanted.append((kind, ops))
        else:
            rows.append(_row(kind, name, *ops))
    if wanted:
        question = IncrementalAlterConfigs(resources=tuple(ops for _, ops in wanted), validate_only=body.validate_only)
        answer = await ask_controller(context, question, DEFAULT_TIMEOUT_S)
        if isinstance(answer, Refusal):
            rows += [_row(kind, ops.name, answer.error, answer.message) for kind, ops in wanted]
        else:
            rows += [
                _row(kind, ops.name, ErrorCode(result.error), result.message)
                for (kind, ops), result in zip(wanted, answer.resources, strict=True)
            ]
    return {"responses": rows}


def _resource(kind: int, name: str, configs: tuple[object, ...]) -> ConfigResourceOps | Problem:
    if kind not in _KINDS:
        return ErrorCode.invalid_request, f"Unsupported resource type: {kind}"
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
    return ConfigResourceOps(kind=_KINDS[kind], name=name, ops=tuple(ops))


def _row(kind: int, name: str, error: ErrorCode, message: str | None) -> dict[str, object]:
    return {"error_code": error, "error_message": message, "resource_type": kind, "resource_name": name}

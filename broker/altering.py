"""What AlterConfigs and IncrementalAlterConfigs have in common: each resource once, asked of the controller."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from kio.schema.errors import ErrorCode

from ottla.broker.config_resources import BROKER, GROUP, NO_CONFIGS, TOPIC
from ottla.broker.context import Answer, BrokerContext
from ottla.broker.forwarding import DEFAULT_TIMEOUT_S, Refusal, ask_controller
from ottla.controller import ConfigKind, ConfigResourceOps, IncrementalAlterConfigs

Problem = tuple[ErrorCode, str]

_KINDS: dict[int, ConfigKind] = {TOPIC: "topic", BROKER: "broker", GROUP: "group"}
_TWICE: Problem = (ErrorCode.invalid_request, "Each resource must appear at most once.")


def resource_kind(type_: int, name: str) -> ConfigKind | Problem:
    """What the controller knows a resource of this type by, or why it has no configs to change."""
    kind = _KINDS.get(type_)
    if kind is None:
        return ErrorCode.invalid_request, NO_CONFIGS.get(type_, f"Unknown resource type {type_}")
    if kind == "topic" and not name:
        return ErrorCode.invalid_request, "Default topic resources are not allowed."
    return kind


async def alter(
    context: BrokerContext,
    resources: Sequence[Any],
    parse: Callable[[int, str, tuple[object, ...]], ConfigResourceOps | Problem],
    *,
    validate_only: bool,
) -> Answer:
    """Each resource is changed wholly or not at all, and answered for itself; one that is there twice not at all."""
    names = [(resource.resource_type, resource.resource_name) for resource in resources]
    asked = Counter(names)
    found = [
        _TWICE if asked[name] > 1 else parse(*name, resource.configs)
        for name, resource in zip(names, resources, strict=True)
    ]
    wanted = tuple(each for each in found if isinstance(each, ConfigResourceOps))
    outcomes = iter(await _ask(context, IncrementalAlterConfigs(resources=wanted, validate_only=validate_only)))
    return {
        "responses": [
            _row(resource, *(next(outcomes) if isinstance(each, ConfigResourceOps) else each))
            for resource, each in zip(resources, found, strict=True)
        ]
    }


async def _ask(context: BrokerContext, question: IncrementalAlterConfigs) -> list[tuple[ErrorCode, str | None]]:
    """The outcome of each resource of the question."""
    if not question.resources:
        return []
    answer = await ask_controller(context, question, DEFAULT_TIMEOUT_S)
    if isinstance(answer, Refusal):
        return [(answer.error, answer.message)] * len(question.resources)
    return [(ErrorCode(result.error), result.message) for result in answer.resources]


def _row(resource: Any, error: ErrorCode, message: str | None) -> dict[str, object]:
    return {
        "error_code": error,
        "error_message": message,
        "resource_type": resource.resource_type,
        "resource_name": resource.resource_name,
    }

"""DescribeClientQuotas, v0-v1: the quotas of users and client ids (KIP-546).

v1 flexible.

Differences from Kafka: there are no quotas of addresses ("ip"), so a filter for them finds nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kio.schema.errors import ErrorCode

from ottla.broker.context import Answer, BrokerContext
from ottla.controller import client_quotas
from ottla.wire import Request

_EXACT, _DEFAULT, _ANY = range(3)
_TYPES = ("user", "client-id", "ip")


def handle(context: BrokerContext, request: Request) -> Answer:
    filters: dict[str, Any] = {}
    for component in request.body.components:
        problem = _problem(component, filters)
        if problem is not None:
            return {"error_code": ErrorCode.invalid_request, "error_message": problem, "entries": None}
        filters[component.entity_type] = component
    rows = [
        {
            "entity": [{"entity_type": kind, "entity_name": name} for kind, name in entity.items()],
            "values": [{"key": key, "value": value} for key, value in values.items()],
        }
        for entity, values in client_quotas(context.view.image)
        if _matches(entity, filters, strict=request.body.strict)
    ]
    return {"error_code": ErrorCode.none, "error_message": None, "entries": rows}


def _problem(component: Any, others: Mapping[str, object]) -> str | None:
    kind, match = component.entity_type, component.match_type
    if kind not in _TYPES:
        return f"Unknown entity type {kind!r}."
    if kind in others:
        return f"Duplicate filter component for entity type {kind!r}."
    if match not in (_EXACT, _DEFAULT, _ANY):
        return f"Unknown match type {match}."
    if (component.match is not None) != (match == _EXACT):
        return f"Match type {match} does not go with the match {component.match!r}."
    return None


def _matches(entity: Mapping[str, str | None], filters: Mapping[str, Any], *, strict: bool) -> bool:
    if strict and entity.keys() != filters.keys():
        return False
    for kind, component in filters.items():
        if kind not in entity:
            return False
        name = entity[kind]
        if component.match_type != _ANY and name != component.match:
            return False
    return True

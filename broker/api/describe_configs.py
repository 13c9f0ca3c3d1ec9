"""DescribeConfigs, v1-v4: of topics, brokers and consumer groups.

v1 sources and synonyms (KIP-226) · v3 types and documentation (KIP-569).

Differences from Kafka: broker loggers and client metrics have no configs here; asking for them is an INVALID_REQUEST,
and so is asking for the same resource again. As in Kafka a broker describes only itself and the cluster-wide default
(the empty name).
"""

from __future__ import annotations

from collections.abc import Iterable

from kio.schema.errors import ErrorCode

from ottla.broker.config_resources import BROKER, GROUP, NO_CONFIGS, TOPIC
from ottla.broker.config_view import CLUSTER_DEFAULT, broker_config, cluster_config, group_config, topic_config
from ottla.broker.context import Answer, BrokerContext
from ottla.controller import topic_name_error
from ottla.wire import Request

Rows = Iterable[dict[str, object]]

_AGAIN = (ErrorCode.invalid_request, "Each resource must appear at most once.")


def handle(context: BrokerContext, request: Request) -> Answer:
    body = request.body
    synonyms, documentation = body.include_synonyms, getattr(body, "include_documentation", False)
    results = []
    seen: set[tuple[int, str]] = set()
    for resource in body.resources:
        which = (resource.resource_type, resource.resource_name)
        # Each once: the whole configuration, asked for in a few bytes, is a thousand times as large.
        found = _AGAIN if which in seen else _resource(context, *which, synonyms, documentation)
        seen.add(which)
        error, message, rows = (ErrorCode.none, None, found) if not isinstance(found, tuple) else (*found, ())
        # Null and empty both mean all, as in Kafka.
        keys = frozenset(resource.configuration_keys or ())
        results.append(
            {
                "error_code": error,
                "error_message": message,
                "resource_type": resource.resource_type,
                "resource_name": resource.resource_name,
                "configs": [row for row in rows if not keys or row["name"] in keys],
            }
        )
    return {"results": results}


def _resource(
    context: BrokerContext, kind: int, name: str, synonyms: bool, documentation: bool
) -> Rows | tuple[ErrorCode, str]:
    if kind == TOPIC:
        if name in context.view.image.topics:
            return topic_config(context, name, synonyms=synonyms, documentation=documentation)
        if topic_name_error(name) is not None:
            return ErrorCode.invalid_topic_exception, f"Invalid topic name: {name!r}"
        return ErrorCode.unknown_topic_or_partition, "This server does not host this topic-partition."
    if kind == GROUP:
        if not name:
            return ErrorCode.invalid_request, "Group name must not be empty."
        return group_config(context, name, synonyms=synonyms, documentation=documentation)
    if kind == BROKER:
        if name == CLUSTER_DEFAULT:
            return cluster_config(context, synonyms=synonyms, documentation=documentation)
        if name == str(context.node_id):
            return broker_config(context, synonyms=synonyms, documentation=documentation)
        return (
            ErrorCode.invalid_request,
            f"Unexpected broker id, expected {context.node_id} or empty string, but received {name}",
        )
    return ErrorCode.invalid_request, NO_CONFIGS.get(kind, f"Unsupported resource type: {kind}")

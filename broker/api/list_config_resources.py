"""ListConfigResources, v0-v1: what has configs (KIP-1142).

v0 subscriptions of client metrics, of which there are none here · v1 topics, brokers, and groups that have set some.

Differences from Kafka: none known.
"""

from __future__ import annotations

from collections.abc import Iterable

from kio.schema.errors import ErrorCode

from ottla.broker.config_resources import BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC
from ottla.broker.context import Answer, BrokerContext
from ottla.wire import Request

_ALL = (TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP)


def handle(context: BrokerContext, request: Request) -> Answer:
    wanted = tuple(dict.fromkeys(request.body.resource_types)) if request.api_version >= 1 else (CLIENT_METRICS,)
    if not set(wanted).issubset(_ALL):
        return {"error_code": ErrorCode.unsupported_version, "config_resources": ()}
    rows = [
        {"resource_name": name, "resource_type": type_} for type_ in wanted or _ALL for name in _names(context, type_)
    ]
    return {"error_code": ErrorCode.none, "config_resources": rows}


def _names(context: BrokerContext, type_: int) -> Iterable[str]:
    image = context.view.image
    if type_ == TOPIC:
        return sorted(image.topics)
    if type_ in (BROKER, BROKER_LOGGER):
        return [str(id) for id, broker in sorted(image.brokers.items()) if not broker.fenced]
    if type_ == GROUP:
        return sorted(name for kind, name in image.configs if kind == "group")
    return ()

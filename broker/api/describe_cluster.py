"""DescribeCluster, v0-v2: the brokers and the controller, for admin clients (KIP-700).

v1 endpoint type (KIP-919) · v2 fenced brokers on request (KIP-1073).

Differences from Kafka: `controller_id` as in Metadata. The controllers' own listener is closed to clients, so endpoint
type 2 is answered MISMATCHED_ENDPOINT_TYPE, which a Kafka broker does as well.
"""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from ottla.broker.cluster_view import (
    ALL_CLUSTER_OPERATIONS,
    OPERATIONS_NOT_ASKED,
    broker_row,
    endpoints,
    shown_controller,
)
from ottla.broker.context import Answer, BrokerContext
from ottla.wire import Request

BROKERS = 1
CONTROLLERS = 2


def handle(context: BrokerContext, request: Request) -> Answer:
    body, image, listener = request.body, context.view.image, request.connection.listener
    endpoint_type = getattr(body, "endpoint_type", BROKERS)
    if endpoint_type != BROKERS:
        known = endpoint_type == CONTROLLERS
        return {
            "error_code": ErrorCode.mismatched_endpoint_type if known else ErrorCode.unsupported_endpoint_type,
            "error_message": "This is a broker endpoint." if known else f"Unknown endpoint type {endpoint_type}.",
            "endpoint_type": BROKERS,
            "cluster_id": image.cluster_id,
            "brokers": (),
            "cluster_authorized_operations": OPERATIONS_NOT_ASKED,
        }
    fenced = getattr(body, "include_fenced_brokers", False)
    return {
        "error_code": ErrorCode.none,
        "endpoint_type": BROKERS,
        "cluster_id": image.cluster_id,
        "controller_id": shown_controller(image, listener, context.quorum().leader_id, context.node_id),
        "brokers": [
            broker_row(broker, address, "broker_id")
            for broker, address in endpoints(image, listener, include_fenced=fenced)
        ],
        "cluster_authorized_operations": ALL_CLUSTER_OPERATIONS
        if body.include_cluster_authorized_operations
        else OPERATIONS_NOT_ASKED,
    }

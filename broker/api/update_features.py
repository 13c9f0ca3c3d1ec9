"""UpdateFeatures, v0-v2: the finalised levels of the cluster's features (KIP-584).

v1 the kind of a downgrade, and requests that are only checked (KIP-778) · v2 no results for each feature: all are
changed or none, and the error of the request is that of the feature that cannot be (KIP-1022).

`transaction.version` (0-2), `group.version` (0-1) and `kraft.version` (1) are there, at their highest level unless they
are changed. Below 2 of `transaction.version` clients use the first protocol of transactions; those that use the second
one already go on until they ask for versions on a new connection, as in Kafka. Without `group.version` the requests of
the KIP-848 protocol are answered UNSUPPORTED_VERSION.

Differences from Kafka: there is no `metadata.version`, for the metadata log has records of its own. All nodes are taken
to support what the active controller does. A feature that is named twice is refused with INVALID_REQUEST. That a v0
request allows a downgrade counts (as a safe one).
"""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from ottla.broker.context import Answer, BrokerContext
from ottla.broker.forwarding import Refusal, ask_controller, seconds
from ottla.controller import FeatureUpdate, UpdateFeatures
from ottla.wire import Request

_UPGRADE, _SAFE_DOWNGRADE = 1, 2


async def handle(context: BrokerContext, request: Request) -> Answer:
    body, old = request.body, request.api_version == 0
    updates = tuple(
        FeatureUpdate(
            feature=update.feature,
            level=update.max_version_level,
            upgrade_type=(_SAFE_DOWNGRADE if update.allow_downgrade else _UPGRADE) if old else update.upgrade_type,
        )
        for update in body.feature_updates
    )
    wanted = UpdateFeatures(updates=updates, validate_only=not old and body.validate_only)
    answer = await ask_controller(context, wanted, seconds(body.timeout))
    if isinstance(answer, Refusal):
        return {"error_code": answer.error, "error_message": answer.message, "results": ()}
    results = [{"feature": update.feature, "error_code": ErrorCode.none, "error_message": None} for update in updates]
    return {"error_code": ErrorCode.none, "error_message": None, "results": results}

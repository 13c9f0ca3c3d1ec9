"""Feature levels."""

from ottla.controller.rpc.models.base import RpcModel, RpcRequest, RpcResponse


class FeatureUpdate(RpcModel):
    """The finalised level that a feature is to have; 0 takes it out of use. `upgrade_type` is Kafka's: 1 only up, 2
    down without a loss, 3 down at any price."""

    feature: str
    level: int
    upgrade_type: int = 1


class UpdateFeaturesResponse(RpcResponse):
    """`error` and `message` say it all."""


class UpdateFeatures(RpcRequest[UpdateFeaturesResponse]):
    """KIP-584. All features are changed or none."""

    response_type = UpdateFeaturesResponse
    updates: tuple[FeatureUpdate, ...]
    validate_only: bool = False

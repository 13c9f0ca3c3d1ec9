"""UpdateFeatures (KIP-584): the levels of features that all nodes use.

As in Kafka since UpdateFeatures v2 all of a request's features are changed, or none. There is nothing to be lost by any
downgrade here, so that the two kinds of it are the same.
"""

from kio.schema.errors import ErrorCode

from ottla.controller.metadata.decision import Decision, Refusal
from ottla.controller.metadata.feature_levels import FEATURES
from ottla.controller.metadata.image import MetadataImage
from ottla.controller.metadata.records import FeatureChanged
from ottla.controller.rpc.models.features import FeatureUpdate, UpdateFeatures, UpdateFeaturesResponse

UPGRADE, SAFE_DOWNGRADE, UNSAFE_DOWNGRADE = 1, 2, 3
_PREFIX = "The update failed for all features since the following feature had an error: "


def update_features(image: MetadataImage, request: UpdateFeatures) -> Decision[UpdateFeaturesResponse]:
    """Records of what changes. A level that a feature has already is no error."""
    seen: set[str] = set()
    try:
        for update in request.updates:
            if update.feature in seen:
                raise Refusal(ErrorCode.invalid_request, f"Feature {update.feature} was specified more than once.")
            seen.add(update.feature)
            _check(image, update)
    except Refusal as refusal:
        return Decision((), UpdateFeaturesResponse(error=refusal.code.value, message=_PREFIX + refusal.message))
    changes = tuple(
        FeatureChanged(name=update.feature, level=update.level)
        for update in request.updates
        if update.level != image.feature(update.feature)
    )
    return Decision(() if request.validate_only else changes, UpdateFeaturesResponse())


def _check(image: MetadataImage, update: FeatureUpdate) -> None:
    if (reason := _reason(image, update)) is not None:
        text = f"Invalid update version {update.level} for feature {update.feature}. {reason}"
        raise Refusal(ErrorCode.invalid_update_version, text)


def _reason(image: MetadataImage, update: FeatureUpdate) -> str | None:
    """Why this cannot be, in Kafka's order and words."""
    if update.upgrade_type not in (UPGRADE, SAFE_DOWNGRADE, UNSAFE_DOWNGRADE):
        return "The controller does not support the given upgrade type."
    if update.level < 0:
        return "A feature version cannot be less than 0."
    supported = FEATURES.get(update.feature)
    if supported is None:
        return "The controller does not know this feature."
    if not supported.low <= update.level <= supported.high:
        return f"The controller only supports versions {supported.low}-{supported.high}"
    present = image.feature(update.feature)
    if update.level < present and update.upgrade_type == UPGRADE:
        return (
            "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe "
            "downgrade."
        )
    if update.level > present and update.upgrade_type != UPGRADE:
        return "Can't downgrade to a newer version."
    return None

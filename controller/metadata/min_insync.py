"""The cluster's `min.insync.replicas`: one value for everybody, kept in the metadata (KIP-966).

A leader commits with as many replicas as this says, and the controller concludes from the same number who may lead
next: a member that leaves an ISR of that size stays an eligible leader. Did a leader go by less, because its own file
or a config of its own says so, it would acknowledge what an eligible leader does not have. So the first registration
writes down what the active controller's file says, and from then on neither a file nor a single broker has a say.
"""

from collections.abc import Mapping

from kio.schema.errors import ErrorCode

from ottla.controller.metadata.decision import Policy, Refusal
from ottla.controller.metadata.image import MetadataImage
from ottla.controller.metadata.records import ConfigChanged
from ottla.controller.metadata.topic_config import TOPIC_CONFIGS

MIN_INSYNC = "min.insync.replicas"
CLUSTER = ""


def pin_min_insync(image: MetadataImage, policy: Policy) -> list[ConfigChanged]:
    """Records that make it the cluster's own; none once it is."""
    if MIN_INSYNC in image.configs.get(("broker", CLUSTER), {}):
        return []
    default = TOPIC_CONFIGS[MIN_INSYNC].default
    value = policy.broker_defaults.get(MIN_INSYNC, default)
    own = [
        ConfigChanged(kind=kind, name=name, key=MIN_INSYNC)
        for (kind, name), values in image.configs.items()
        if kind == "broker" and MIN_INSYNC in values
    ]
    return [ConfigChanged(kind="broker", name=CLUSTER, key=MIN_INSYNC, value=value), *own]


def check_min_insync(broker: str, before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Raises Refusal(INVALID_CONFIG) where a change of a broker's configs would give it another value."""
    if broker != CLUSTER and MIN_INSYNC in after:
        raise Refusal(ErrorCode.invalid_config, f"Broker-level {MIN_INSYNC} cannot be altered: it is the cluster's.")
    if broker == CLUSTER and MIN_INSYNC in before and MIN_INSYNC not in after:
        raise Refusal(ErrorCode.invalid_config, f"Cluster-level {MIN_INSYNC} cannot be removed.")

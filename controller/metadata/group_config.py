"""The configs of a consumer group of the KIP-848 protocol: names, types and defaults are Kafka's (KIP-1043).

They are kept for any name: a group need not exist when it is told how often its members are to be heard of.
"""

from collections.abc import Mapping
from types import MappingProxyType

from ottla.controller.metadata.config_def import ConfigDef, ConfigType, Synonym

SESSION_TIMEOUT = "consumer.session.timeout.ms"
HEARTBEAT_INTERVAL = "consumer.heartbeat.interval.ms"

_ROWS = (
    ConfigDef(
        name=HEARTBEAT_INTERVAL,
        type=ConfigType.INT,
        default="5000",
        doc="Time between the heartbeats of a member.",
        least=1,
        synonyms=(Synonym("group.consumer.heartbeat.interval.ms"),),
    ),
    ConfigDef(
        name=SESSION_TIMEOUT,
        type=ConfigType.INT,
        default="45000",
        doc="Silence after which a member is out; more than the time between heartbeats.",
        least=1,
        synonyms=(Synonym("group.consumer.session.timeout.ms"),),
    ),
)

GROUP_CONFIGS: Mapping[str, ConfigDef] = MappingProxyType({row.name: row for row in _ROWS})

"""The broker configs that a client can see.

The dynamic ones are those that topics take their defaults from: they are made from the table of topic configs,
so that the two cannot disagree. The others are set in a node's file and only shown.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from ottla.controller.metadata.config_def import ConfigDef, ConfigType
from ottla.controller.metadata.topic_config import TOPIC_CONFIGS


def _dynamic() -> Iterator[ConfigDef]:
    for topic_config in TOPIC_CONFIGS.values():
        for synonym in topic_config.synonyms:
            yield ConfigDef(
                name=synonym.name,
                type=topic_config.type,
                default=_default(topic_config, synonym.name, synonym.factor),
                doc=f"Default of {topic_config.name}. {topic_config.doc}",
                least=topic_config.least,
                most=topic_config.most,
                choices=topic_config.choices,
                # Kafka changes only the most precise unit while it runs.
                dynamic=synonym.factor == 1,
            )


def _default(topic_config: ConfigDef, name: str, factor: int) -> str | None:
    """Where several units exist, the coarsest has the default and the others are unset, as in Kafka."""
    if topic_config.synonyms[-1].name != name or topic_config.default is None:
        return None
    return topic_config.default if factor == 1 else str(int(topic_config.default) // factor)


def _static(name: str, kind: ConfigType, default: object, doc: str) -> ConfigDef:
    return ConfigDef(name=name, type=kind, default=None if default is None else str(default), doc=doc, dynamic=False)


_BOOLEAN, _STRING, _INT, _LONG, _LIST = (
    ConfigType.BOOLEAN,
    ConfigType.STRING,
    ConfigType.INT,
    ConfigType.LONG,
    ConfigType.LIST,
)

_STATIC = (
    _static("node.id", _INT, None, "This node's id."),
    _static("process.roles", _LIST, "broker,controller", "The roles of this node."),
    _static("controller.quorum.voters", _LIST, None, "The voters, as id@host:port."),
    _static("listeners", _LIST, None, "Where this node listens."),
    _static("advertised.listeners", _LIST, None, "Where clients are told to come."),
    _static("listener.security.protocol.map", _LIST, None, "The security protocol of each listener."),
    _static("inter.broker.listener.name", _STRING, None, "The listener that brokers replicate through."),
    _static("controller.listener.names", _LIST, None, "The listener that nodes speak to each other through."),
    _static("log.dirs", _LIST, None, "Where the logs are."),
    _static("broker.rack", _STRING, None, "The rack of this broker, for placement (KIP-36)."),
    _static("num.partitions", _INT, 1, "Partitions of a topic that does not say."),
    _static("default.replication.factor", _INT, 1, "Replication factor of a topic that does not say."),
    _static("auto.create.topics.enable", _BOOLEAN, "true", "Whether asking for an unknown topic makes it."),
    _static("auto.leader.rebalance.enable", _BOOLEAN, "true", "Whether preferred leaders are restored by themselves."),
    _static("leader.imbalance.check.interval.seconds", _LONG, 300, "How often they are."),
    _static("broker.session.timeout.ms", _INT, 9000, "Silence after which a broker is fenced."),
    _static("broker.heartbeat.interval.ms", _INT, 2000, "Time between a broker's heartbeats."),
    _static("replica.lag.time.max.ms", _LONG, 30_000, "Lag after which a follower leaves the ISR."),
    _static("replica.fetch.wait.max.ms", _INT, 500, "The longest a follower's fetch waits."),
    _static("replica.fetch.max.bytes", _INT, 1_048_576, "Bytes per partition in a follower's fetch."),
    _static("log.retention.check.interval.ms", _LONG, 300_000, "How often old segments are looked for."),
    _static("log.cleaner.backoff.ms", _LONG, 15_000, "How often compacted logs are looked at."),
    _static("log.cleaner.dedupe.buffer.size", _LONG, 134_217_728, "Memory for the keys of a log that is compacted."),
    _static("socket.request.max.bytes", _INT, 104_857_600, "The largest request."),
)

BROKER_CONFIGS: Mapping[str, ConfigDef] = MappingProxyType({row.name: row for row in (*_dynamic(), *_STATIC)})

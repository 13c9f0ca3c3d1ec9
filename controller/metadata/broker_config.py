"""The broker configs that topics take their defaults from (KIP-226).

They are made from the table of topic configs, so that the two cannot disagree. The other settings of a broker are the
node's own table; a controller is told of them by its `Policy`.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from ottla.controller.metadata.config_def import ConfigDef, ConfigType
from ottla.controller.metadata.topic_config import TOPIC_CONFIGS


def _rows() -> Iterator[ConfigDef]:
    for topic_config in TOPIC_CONFIGS.values():
        for synonym in topic_config.synonyms:
            yield ConfigDef(
                name=synonym.name,
                type=topic_config.type if synonym.factor == 1 else ConfigType.INT,
                default=_default(topic_config, synonym.name, synonym.factor),
                doc=f"Default of {topic_config.name}. {topic_config.doc}",
                least=topic_config.least,
                most=topic_config.most,
                choices=topic_config.choices,
                synonyms=topic_config.synonyms,
                dynamic=synonym.dynamic,
            )


def _default(topic_config: ConfigDef, name: str, factor: int) -> str | None:
    """Where several units exist, the coarsest has the default and the others are unset, as in Kafka."""
    if topic_config.synonyms[-1].name != name or topic_config.default is None:
        return None
    return topic_config.default if factor == 1 else str(int(topic_config.default) // factor)


TOPIC_DEFAULTS: Mapping[str, ConfigDef] = MappingProxyType({row.name: row for row in _rows()})

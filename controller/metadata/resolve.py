"""Which value of a config holds, and why: a pure function of the image and a node's own file (KIP-226)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ottla.controller.metadata.config_def import ConfigDef, ConfigSource, ConfigValue
from ottla.controller.metadata.group_config import GROUP_CONFIGS
from ottla.controller.metadata.image import MetadataImage
from ottla.controller.metadata.topic_config import TOPIC_CONFIGS


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place that gives a value: DescribeConfigs calls these synonyms."""

    name: str
    value: str
    source: ConfigSource


@dataclass(frozen=True, slots=True)
class Resolved:
    """`candidates` in order of precedence; the first is the one that holds."""

    definition: ConfigDef
    candidates: tuple[Candidate, ...]

    @property
    def text(self) -> str:
        return self.candidates[0].value

    @property
    def source(self) -> ConfigSource:
        return self.candidates[0].source

    @property
    def value(self) -> ConfigValue:
        return self.definition.parse(self.text)


def resolve(
    image: MetadataImage, broker_defaults: Mapping[str, str], topic: str | None, node_id: int | None = None
) -> dict[str, Resolved]:
    """Every topic config of `topic` (None: of a topic that sets nothing), by name.

    `broker_defaults` are the broker configs set in the node's file, as text. `node_id` is the broker whose dynamic
    configs count; None leaves only the cluster-wide ones.
    """
    return {
        name: Resolved(row, tuple(_candidates(image, broker_defaults, _topic(topic), node_id, row)))
        for name, row in TOPIC_CONFIGS.items()
    }


def resolve_group(image: MetadataImage, broker_defaults: Mapping[str, str], group: str) -> dict[str, Resolved]:
    """Every config of a consumer group, by name; it need not exist."""
    return {
        name: Resolved(row, tuple(_candidates(image, broker_defaults, ("group", group), None, row)))
        for name, row in GROUP_CONFIGS.items()
    }


def resolve_one(
    image: MetadataImage, broker_defaults: Mapping[str, str], topic: str | None, key: str, node_id: int | None = None
) -> Resolved:
    """One of them. Raises KeyError for a key that is no topic config."""
    row = TOPIC_CONFIGS[key]
    return Resolved(row, tuple(_candidates(image, broker_defaults, _topic(topic), node_id, row)))


Resource = tuple[str, str] | None
"""Kind and name of what has configs of its own; None for nothing."""


def _topic(name: str | None) -> Resource:
    return None if name is None else ("topic", name)


def _candidates(
    image: MetadataImage, broker_defaults: Mapping[str, str], owner: Resource, node_id: int | None, row: ConfigDef
) -> Iterator[Candidate]:
    if owner is not None:
        value = image.configs.get(owner, {}).get(row.name)
        if value is not None:
            yield Candidate(row.name, value, ConfigSource.GROUP if owner[0] == "group" else ConfigSource.DYNAMIC_TOPIC)
    layers = [
        (image.configs.get(("broker", ""), {}), ConfigSource.DYNAMIC_DEFAULT_BROKER),
        (broker_defaults, ConfigSource.STATIC_BROKER),
    ]
    if node_id is not None:
        layers.insert(0, (image.configs.get(("broker", str(node_id)), {}), ConfigSource.DYNAMIC_BROKER))
    for values, source in layers:
        for synonym in row.synonyms:
            if synonym.name in values:
                text = values[synonym.name]
                yield Candidate(synonym.name, _scaled(row, text, synonym.factor), source)
    assert row.default is not None
    yield Candidate(row.synonyms[-1].name if row.synonyms else row.name, row.default, ConfigSource.DEFAULT)


def _scaled(row: ConfigDef, text: str, factor: int) -> str:
    """A value in hours or minutes as milliseconds; a negative one keeps meaning "no limit"."""
    if factor == 1:
        return text
    value = int(text)
    return str(value * factor if value > 0 else value)

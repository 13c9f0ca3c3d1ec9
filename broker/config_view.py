"""Configurations as DescribeConfigs and CreateTopics tell them (KIP-133, KIP-226, KIP-525)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ottla.broker.context import BrokerContext
from ottla.controller import Candidate, ConfigDef, ConfigSource, resolve, resolve_group

CLUSTER_DEFAULT = ""


def described_topic_config(
    context: BrokerContext, topic: str, *, given: Mapping[str, str] | None = None
) -> list[dict[str, object]]:
    """Every config of a topic as rows of CreateTopics. `given` is its own, which the image may not have yet."""
    rows = []
    for row in topic_config(context, topic, synonyms=False, documentation=False):
        value = None if given is None else given.get(str(row["name"]))
        if value is not None:
            row["value"], row["config_source"] = value, ConfigSource.DYNAMIC_TOPIC
        rows.append(row)
    return rows


def topic_config(
    context: BrokerContext, topic: str, *, synonyms: bool, documentation: bool
) -> Iterator[dict[str, object]]:
    resolved = resolve(context.view.image, context.config.kafka_values(), topic, context.node_id)
    for row in resolved.values():
        yield config_row(row.definition, row.candidates, row.text, synonyms=synonyms, documentation=documentation)


def group_config(
    context: BrokerContext, group: str, *, synonyms: bool, documentation: bool
) -> Iterator[dict[str, object]]:
    """Every config of a consumer group (KIP-1043)."""
    resolved = resolve_group(context.view.image, context.config.kafka_values(), group)
    for row in resolved.values():
        yield config_row(row.definition, row.candidates, row.text, synonyms=synonyms, documentation=documentation)


def broker_config(context: BrokerContext, *, synonyms: bool, documentation: bool) -> Iterator[dict[str, object]]:
    """Every config of this broker."""
    configs, own = context.view.image.configs, context.config.kafka_values()
    layers = (
        (configs.get(("broker", str(context.node_id)), {}), ConfigSource.DYNAMIC_BROKER),
        (configs.get(("broker", CLUSTER_DEFAULT), {}), ConfigSource.DYNAMIC_DEFAULT_BROKER),
        (own, ConfigSource.STATIC_BROKER),
    )
    definitions = context.config.definitions
    for definition in definitions.values():
        names = [synonym.name for synonym in definition.synonyms] or [definition.name]
        places = [
            Candidate(name, values[name], source) for values, source in layers for name in names if name in values
        ]
        places += [
            Candidate(name, default, ConfigSource.DEFAULT)
            for name in names
            if (default := definitions[name].default) is not None
        ]
        own_value = next((place.value for place in places if place.name == definition.name), None)
        yield config_row(
            definition,
            places,
            own_value,
            read_only=not definition.dynamic,
            synonyms=synonyms,
            documentation=documentation,
        )


def cluster_config(context: BrokerContext, *, synonyms: bool, documentation: bool) -> Iterator[dict[str, object]]:
    """What is set for all brokers at once (the broker resource without a name)."""
    for name, value in sorted(context.view.image.configs.get(("broker", CLUSTER_DEFAULT), {}).items()):
        definition = context.config.definitions.get(name)
        if definition is not None:
            candidates = [Candidate(name, value, ConfigSource.DYNAMIC_DEFAULT_BROKER)]
            yield config_row(definition, candidates, value, synonyms=synonyms, documentation=documentation)


def config_row(
    definition: ConfigDef,
    candidates: Sequence[Candidate],
    value: str | None,
    *,
    synonyms: bool,
    documentation: bool,
    read_only: bool = False,
) -> dict[str, object]:
    """`candidates` in order of precedence, none for a key without value and default: the first is where what holds
    comes from, which may be a synonym in another unit while the key itself has no `value`. No secret is shown."""
    hidden = definition.sensitive
    return {
        "name": definition.name,
        "value": None if hidden else value,
        "read_only": read_only,
        "config_source": candidates[0].source if candidates else ConfigSource.DEFAULT,
        "is_sensitive": hidden,
        "synonyms": [
            {"name": place.name, "value": None if hidden else place.value, "source": place.source}
            for place in candidates
        ]
        if synonyms
        else (),
        "config_type": definition.type,
        "documentation": definition.doc if documentation else None,
    }

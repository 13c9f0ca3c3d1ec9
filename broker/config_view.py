"""Configurations as DescribeConfigs and CreateTopics tell them (KIP-133, KIP-226, KIP-525)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ottla.broker.context import BrokerContext
from ottla.controller import BROKER_CONFIGS, Candidate, ConfigDef, ConfigSource, resolve

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
        yield config_row(row.definition, row.candidates, False, synonyms=synonyms, documentation=documentation)


def broker_config(context: BrokerContext, *, synonyms: bool, documentation: bool) -> Iterator[dict[str, object]]:
    """Every config of this broker."""
    configs, own = context.view.image.configs, context.config.kafka_values()
    layers = (
        (configs.get(("broker", str(context.node_id)), {}), ConfigSource.DYNAMIC_BROKER),
        (configs.get(("broker", CLUSTER_DEFAULT), {}), ConfigSource.DYNAMIC_DEFAULT_BROKER),
        (own, ConfigSource.STATIC_BROKER),
    )
    for definition in BROKER_CONFIGS.values():
        name = definition.name
        candidates = [Candidate(name, values[name], source) for values, source in layers if name in values]
        if definition.default is not None:
            candidates.append(Candidate(name, definition.default, ConfigSource.DEFAULT))
        yield config_row(definition, candidates, not definition.dynamic, synonyms=synonyms, documentation=documentation)


def cluster_config(context: BrokerContext, *, synonyms: bool, documentation: bool) -> Iterator[dict[str, object]]:
    """What is set for all brokers at once (the broker resource without a name)."""
    for name, value in sorted(context.view.image.configs.get(("broker", CLUSTER_DEFAULT), {}).items()):
        definition = BROKER_CONFIGS.get(name)
        if definition is not None:
            candidates = [Candidate(name, value, ConfigSource.DYNAMIC_DEFAULT_BROKER)]
            yield config_row(definition, candidates, False, synonyms=synonyms, documentation=documentation)


def config_row(
    definition: ConfigDef,
    candidates: list[Candidate] | tuple[Candidate, ...],
    read_only: bool,
    *,
    synonyms: bool,
    documentation: bool,
) -> dict[str, object]:
    """`candidates` in order of precedence; none for a key without value and default. No secret is shown."""
    hidden = definition.sensitive
    return {
        "name": definition.name,
        "value": candidates[0].value if candidates and not hidden else None,
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

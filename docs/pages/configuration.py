"""configuration.md: every setting, from the tables that define them."""

from __future__ import annotations

from collections.abc import Iterator

from docs.pages.text import item, prose
from ottla.controller import TOPIC_CONFIGS
from ottla.node.definitions import BROKER_CONFIGS
from ottla.node.kafka_keys import DIFFERENT, INERT, REFUSED, UNDESCRIBED
from ottla.node.reference import describe_settings

TOPIC_SYNONYMS = {synonym.name: row.name for row in TOPIC_CONFIGS.values() for synonym in row.synonyms}
"""Broker configs that give topics their defaults, and the topic config that each one gives."""


def configuration() -> Iterator[str]:
    yield "# Configuration\n"
    yield from prose(
        "Every setting of a node, under Kafka's names. They are given in a TOML file (`ottla node --config FILE`; "
        '`node.id = 1`, `"node.id" = 1` and `id = 1` under `[node]` mean the same) or as environment variables, which '
        "win: `KAFKA_` and then the name in upper case with `.` as `_`, `_` as `__` and `-` as `___`, so "
        "`KAFKA_NODE_ID`. `CLUSTER_ID` is `cluster.id`. A wrong name, value or combination is one line on standard "
        "error and exit status 2."
    )
    yield from prose(
        "Defaults are Kafka's unless the text says so. Names that begin with `ottla.` are not Kafka's. `log.dir` means "
        "`log.dirs`, `broker.id` means `node.id`. What is taken without effect, and what is refused, is listed at the "
        "end; a test holds all of it against the keys of Kafka 4.1, with their types and defaults."
    )
    yield "## Settings of a node\n"
    yield from prose(
        "The *dynamic* ones can be changed while the cluster runs, for one broker or for all "
        "(IncrementalAlterConfigs), and take effect at once; what the file says holds again when the change is deleted "
        "(KIP-226)."
    )
    for name, kind, default, doc in describe_settings():
        if name not in TOPIC_SYNONYMS and name not in INERT:
            dynamic = ", dynamic" if BROKER_CONFIGS[name].dynamic else ""
            yield from item(_setting(name, kind + dynamic, default, doc))
    yield ""
    yield "## Settings that topics take their defaults from\n"
    yield from prose(
        "They are dynamic too, except those whose name ends in a coarser unit than milliseconds. A topic's own config "
        "wins over all of them. `min.insync.replicas` is one number for the whole cluster: the first broker that "
        "registers has the active controller's file written down in the metadata, and from then on only "
        "IncrementalAlterConfigs for all brokers changes it, as whoever commits with fewer replicas than the "
        "controller counts on would lose records (KIP-966)."
    )
    for name, kind, default, doc in describe_settings():
        if name in TOPIC_SYNONYMS:
            yield from item(_setting(name, kind, default, doc))
    yield ""
    yield "## Configs of a topic\n"
    yield from prose("Set when a topic is created, or later with IncrementalAlterConfigs.")
    for row in TOPIC_CONFIGS.values():
        synonyms = ", ".join(f"`{synonym.name}`" for synonym in row.synonyms)
        doc = f"{row.doc} Default from {synonyms}." if synonyms else row.doc
        yield from item(_setting(row.name, row.type.name.lower(), row.default or "", doc))
    yield ""
    yield from _beside()


def _beside() -> Iterator[str]:
    yield "## Taken without effect\n"
    yield from prose(
        "Files and compose services made for Kafka commonly have these. They are accepted, named in one log line at "
        "the start, shown by DescribeConfigs as read-only with what the file says (a change while the "
        "node runs is refused, as it would look like one), and do nothing:"
    )
    for row in INERT.values():
        reason = row.doc.removeprefix("Taken without effect: ")
        yield from item(_setting(row.name, row.type.name.lower(), row.default or "", reason))
    yield ""
    yield from prose(
        "So are these, which Kafka 4 does not know, or keeps to itself; DescribeConfigs does not show them: "
        + ", ".join(f"`{name}`" for name in sorted(UNDESCRIBED))
        + "."
    )
    yield "## Not as in Kafka\n"
    yield from prose("Settings whose type or default is another, or that only Kafka changes while it runs:")
    for name, reason in DIFFERENT.items():
        yield from item(f"**`{name}`**: {reason}.")
    yield ""
    yield "## Refused\n"
    yield from prose(
        "Kafka's other keys, of brokers, topics and groups. A file that has one is refused, since what it asks for "
        "would not be so; DescribeConfigs does not show them."
    )
    by_reason: dict[str, list[str]] = {}
    for pattern, reason in REFUSED.items():
        by_reason.setdefault(reason, []).append(f"`{pattern}`")
    for reason, patterns in by_reason.items():
        yield from item(f"{', '.join(patterns)}: {reason}.")


def _setting(name: str, kind: str, default: str, doc: str) -> str:
    shown = default if default == "(required)" else f"default `{default}`" if default else "no default"
    return f"**`{name}`** ({kind}, {shown.strip('()')}): {doc}"

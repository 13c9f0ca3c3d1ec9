"""Every config key of Kafka 4.1: served with Kafka's type, default and way to change, or a reason why not.

The table was printed by Kafka's own definitions (KafkaConfig, QuotaConfig, LogConfig and GroupConfig).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import pytest

from ottla.controller import TOPIC_CONFIGS, TOPIC_DEFAULTS, ConfigDef, InvalidConfig
from ottla.controller.metadata.group_config import GROUP_CONFIGS
from ottla.node.definitions import BROKER_CONFIGS, SETTINGS
from ottla.node.kafka_keys import DIFFERENT, INERT, REFUSED, UNDESCRIBED, why

SERVED: Mapping[str, Mapping[str, ConfigDef]] = {
    "broker": BROKER_CONFIGS,
    "topic": TOPIC_CONFIGS,
    "group": GROUP_CONFIGS,
}
LATER = {"cordoned.log.dirs": "KIP-1066, later than 4.1"}
OF_THE_IMAGE = {"cluster.id": "Kafka has it in meta.properties"}


class Key(NamedTuple):
    resource: str
    name: str
    type: str
    default: str
    change: str


def _kafkas() -> Iterator[Key]:
    lines = Path(__file__).with_name("kafka_configs.tsv").read_text(encoding="utf-8").splitlines()
    return (Key(*line.split("\t")) for line in lines if not line.startswith("#"))


KAFKAS = list(_kafkas())
NAMES = {key.name for key in KAFKAS}


def _same(key: Key, row: ConfigDef) -> bool:
    changes = row.dynamic == (key.change != "read-only")
    return (row.type.name, row.default or "") == (key.type, key.default) and (changes or key.name in INERT)


def test_the_table_is_whole() -> None:
    assert len(NAMES) > 300
    assert {"log.retention.hours", "segment.ms", "consumer.session.timeout.ms", "quota.window.num"} <= NAMES


@pytest.mark.parametrize("key", KAFKAS, ids=lambda key: f"{key.resource}-{key.name}")
def test_a_key_of_kafka_is_as_in_kafka_or_has_its_reason(key: Key) -> None:
    row = SERVED[key.resource].get(key.name)
    refused = None if key.name in INERT else why(REFUSED, key.name)
    reasons = [refused, DIFFERENT.get(key.name)]
    if row is not None and _same(key, row):
        assert reasons == [None, None], "a reason for what is no difference"
    else:
        assert [reason for reason in reasons if reason], f"{row} is not Kafka's, and nothing says why"


def test_every_reason_is_for_something() -> None:
    assert [pattern for pattern in REFUSED if not any(fnmatchcase(name, pattern) for name in NAMES)] == []
    assert DIFFERENT.keys() <= NAMES
    assert not UNDESCRIBED & NAMES
    assert all("None" not in row.doc for row in INERT.values())


def test_what_kafka_does_not_have_says_so_in_its_name() -> None:
    ours = {name for table in SERVED.values() for name in table if not name.startswith("ottla.")} - NAMES
    assert ours == LATER.keys() | OF_THE_IMAGE.keys()


def test_nothing_is_in_two_tables() -> None:
    assert not INERT.keys() & SETTINGS.keys()
    assert not any(why(REFUSED, name) for name in (*SETTINGS, *TOPIC_DEFAULTS, *UNDESCRIBED))


@pytest.mark.parametrize("table", SERVED.values(), ids=SERVED.keys())
def test_every_default_is_a_value(table: Mapping[str, ConfigDef]) -> None:
    for row in table.values():
        if row.default is not None:
            row.parse(row.default)


def test_an_inert_key_takes_no_value_that_promises_what_is_not_so() -> None:
    assert INERT["num.io.threads"].parse("64") == 64
    assert INERT["transaction.partition.verification.enable"].parse("true") is True
    for name, value in (
        ("transaction.partition.verification.enable", "false"),
        ("transaction.two.phase.commit.enable", "true"),
        ("security.inter.broker.protocol", "SSL"),
        ("group.consumer.assignors", "range"),
    ):
        with pytest.raises(InvalidConfig, match="is supported"):
            INERT[name].parse(value)

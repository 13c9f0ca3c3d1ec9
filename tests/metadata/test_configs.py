"""Configs: their tables, IncrementalAlterConfigs, and which value holds."""

import dataclasses
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from ottla.controller.metadata import (
    TOPIC_CONFIGS,
    TOPIC_DEFAULTS,
    ConfigSource,
    InvalidConfig,
    Policy,
    resolve,
    resolve_one,
)
from ottla.controller.metadata.snapshot import decode_snapshot, encode_snapshot
from ottla.controller.rpc import ConfigOp, ConfigResourceOps, IncrementalAlterConfigs
from ottla.node.definitions import BROKER_CONFIGS
from tests.metadata.cluster import Cluster


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster().up(1)
    cluster.create("t", (1,))
    return cluster


def _alter(
    cluster: Cluster, *ops: tuple[str, str, str | None], kind: Any = "topic", name: str = "t", replace: bool = False
) -> ErrorCode:
    resource = ConfigResourceOps(
        kind=kind,
        name=name,
        ops=tuple(ConfigOp.model_validate({"key": k, "op": o, "value": v}) for k, o, v in ops),
        replace=replace,
    )
    (result,) = cluster.ask(IncrementalAlterConfigs(resources=(resource,))).resources
    assert (result.message is None) == (result.error == 0)
    return ErrorCode(result.error)


def test_every_default_is_a_value_of_its_key() -> None:
    for table in (TOPIC_CONFIGS, TOPIC_DEFAULTS):
        for name, row in table.items():
            assert row.name == name
            if row.default is not None:
                row.parse(row.default)
    for row in TOPIC_CONFIGS.values():
        assert row.default is not None
        assert all(synonym.name in TOPIC_DEFAULTS for synonym in row.synonyms)
    assert TOPIC_DEFAULTS["log.retention.hours"].default == "168"
    assert TOPIC_DEFAULTS["log.retention.ms"].default is None


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("cleanup.policy", "delete,shred"),
        ("compression.type", "GZIP"),
        ("retention.ms", "-2"),
        ("retention.ms", "1_000"),
        ("retention.ms", "9" * 5000),
        ("retention.ms", str(2**63)),
        ("retention.ms", "٣"),
        ("retention.ms", ""),
        ("segment.bytes", "13"),
        ("segment.bytes", str(2**31)),
        ("min.insync.replicas", "0"),
        ("min.cleanable.dirty.ratio", "nan"),
        ("min.cleanable.dirty.ratio", "1.1"),
        ("preallocate", "yes"),
        ("compression.gzip.level", "0"),
        ("compression.lz4.level", "18"),
    ],
)
def test_bad_values(key: str, text: str) -> None:
    with pytest.raises(InvalidConfig, match=key):
        TOPIC_CONFIGS[key].parse(text)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("cleanup.policy", "compact, delete", ("compact", "delete")),
        ("cleanup.policy", "", ()),
        ("retention.ms", " -1 ", -1),
        ("retention.ms", "+5", 5),
        ("segment.bytes", "14", 14),
        ("min.cleanable.dirty.ratio", "0.25", 0.25),
        ("unclean.leader.election.enable", "TRUE", True),
    ],
)
def test_good_values(key: str, text: str, value: object) -> None:
    assert TOPIC_CONFIGS[key].parse(text) == value


def test_set_delete_append_subtract(cluster: Cluster) -> None:
    """KIP-339"""
    assert _alter(cluster, ("retention.ms", "set", "5"), ("cleanup.policy", "append", "compact")) is ErrorCode.none
    assert cluster.image.configs["topic", "t"] == {"retention.ms": "5", "cleanup.policy": "delete,compact"}
    assert cluster.delta.configs == {("topic", "t")}
    _alter(cluster, ("retention.ms", "delete", None), ("cleanup.policy", "subtract", "delete"))
    assert cluster.image.configs["topic", "t"] == {"cleanup.policy": "compact"}
    _alter(cluster, ("cleanup.policy", "delete", "ignored"))
    assert ("topic", "t") not in cluster.image.configs


def test_replace(cluster: Cluster) -> None:
    """AlterConfigs: what is not named goes, what is wrong changes nothing."""
    _alter(cluster, ("retention.ms", "set", "5"), ("segment.ms", "set", "6"))
    assert _alter(cluster, ("no.such", "set", "7"), replace=True) is ErrorCode.invalid_config
    assert _alter(cluster, ("segment.ms", "set", "6"), ("flush.ms", "set", "7"), replace=True) is ErrorCode.none
    assert cluster.image.configs["topic", "t"] == {"segment.ms": "6", "flush.ms": "7"}
    assert _alter(cluster, replace=True) is ErrorCode.none
    assert ("topic", "t") not in cluster.image.configs


def test_min_insync_replicas_is_one_number_for_the_cluster() -> None:
    """What a file says is written down once; a broker that went by less than the controller would acknowledge what an
    eligible leader does not have (KIP-966)."""
    cluster = Cluster(Policy(broker_defaults={"min.insync.replicas": "2"})).up(1)
    assert cluster.image.configs["broker", ""] == {"min.insync.replicas": "2"}
    cluster.policy = Policy(broker_defaults={"min.insync.replicas": "1"})
    cluster.up(2)
    assert cluster.image.configs["broker", ""] == {"min.insync.replicas": "2"}
    change = ("min.insync.replicas", "set", "1")
    assert _alter(cluster, change, kind="broker", name="1") is ErrorCode.invalid_config
    assert _alter(cluster, change, kind="broker", name="") is ErrorCode.none
    assert _alter(cluster, ("min.insync.replicas", "delete", None), kind="broker", name="") is ErrorCode.invalid_config
    assert _alter(cluster, kind="broker", name="", replace=True) is ErrorCode.invalid_config
    assert cluster.image.configs["broker", ""] == {"min.insync.replicas": "1"}
    assert resolve_one(cluster.image, {"min.insync.replicas": "3"}, "t", "min.insync.replicas", 1).value == 1


def test_a_group_has_configs_whether_it_exists_or_not(cluster: Cluster) -> None:
    """KIP-1043"""
    session, beat = "consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"
    assert _alter(cluster, (session, "set", "9000"), kind="group", name="g") is ErrorCode.none
    assert cluster.image.configs["group", "g"] == {session: "9000"}
    assert _alter(cluster, (session, "set", "5000"), kind="group", name="g") is ErrorCode.invalid_config
    assert _alter(cluster, (beat, "set", "9000"), kind="group", name="g") is ErrorCode.invalid_config
    assert _alter(cluster, (beat, "set", "0"), kind="group", name="g") is ErrorCode.invalid_config
    assert _alter(cluster, ("retention.ms", "set", "5"), kind="group", name="g") is ErrorCode.invalid_config
    assert _alter(cluster, (beat, "set", "7"), kind="group", name="") is ErrorCode.invalid_request
    assert decode_snapshot(encode_snapshot(cluster.image), cluster.image.cluster_id).configs == cluster.image.configs
    assert _alter(cluster, kind="group", name="g", replace=True) is ErrorCode.none
    assert ("group", "g") not in cluster.image.configs


def test_a_group_keeps_the_bounds_of_the_brokers(cluster: Cluster) -> None:
    """KIP-848's group.consumer.min and max settings, as the controller's file has them or by default."""
    session, beat = "consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"
    own = {"group.consumer.min.heartbeat.interval.ms": "1000"}
    cluster.policy = dataclasses.replace(cluster.policy, broker_configs=BROKER_CONFIGS, broker_defaults=own)
    for key, value, code in (
        (session, "44999", ErrorCode.invalid_config),
        (session, "60001", ErrorCode.invalid_config),
        (session, "60000", ErrorCode.none),
        (beat, "999", ErrorCode.invalid_config),
        (beat, "1000", ErrorCode.none),
        (beat, "15001", ErrorCode.invalid_config),
    ):
        assert _alter(cluster, (key, "set", value), kind="group", name="g") is code, (key, value)


def test_no_change_is_no_entry(cluster: Cluster) -> None:
    _alter(cluster, ("retention.ms", "set", "5"))
    entries = len(cluster.entries)
    assert _alter(cluster, ("retention.ms", "set", "5"), ("segment.ms", "delete", None)) is ErrorCode.none
    assert len(cluster.entries) == entries


@pytest.mark.parametrize(
    ("ops", "code"),
    [
        ([("no.such", "set", "5")], ErrorCode.invalid_config),
        ([("retention.ms", "set", "x")], ErrorCode.invalid_config),
        ([("retention.ms", "append", "5")], ErrorCode.invalid_config),
        ([("retention.ms", "set", None)], ErrorCode.invalid_request),
        ([("cleanup.policy", "append", "shred")], ErrorCode.invalid_config),
        ([("retention.ms", "set", "5"), ("retention.ms", "set", "6")], ErrorCode.invalid_request),
        ([("max.compaction.lag.ms", "set", "5"), ("min.compaction.lag.ms", "set", "6")], ErrorCode.invalid_config),
    ],
)
def test_a_resource_is_changed_wholly_or_not_at_all(
    cluster: Cluster, ops: list[tuple[str, str, str | None]], code: ErrorCode
) -> None:
    before = cluster.image
    assert _alter(cluster, ("segment.ms", "set", "77"), *ops) is code
    assert cluster.image is before


def test_resources_that_are_not_there_or_twice(cluster: Cluster) -> None:
    assert _alter(cluster, name="u") is ErrorCode.unknown_topic_or_partition
    assert _alter(cluster, kind="broker", name="9") is ErrorCode.broker_id_not_registered
    assert _alter(cluster, ("log.retention.hours", "set", "7"), kind="broker", name="1") is ErrorCode.invalid_request
    twice = (ConfigResourceOps(kind="topic", name="t", ops=()),) * 2
    results = cluster.ask(IncrementalAlterConfigs(resources=twice)).resources
    assert {result.error for result in results} == {ErrorCode.invalid_request.value}


def test_validate_only(cluster: Cluster) -> None:
    op = ConfigOp(key="retention.ms", op="set", value="1")
    resource = ConfigResourceOps(kind="topic", name="t", ops=(op,))
    before = cluster.image
    assert not cluster.ask(IncrementalAlterConfigs(resources=(resource,), validate_only=True)).resources[0].error
    assert cluster.image is before


def test_which_value_holds(cluster: Cluster) -> None:
    """KIP-226: topic, broker, all brokers, the node's file, default; and of units the finest."""
    image, file = cluster.image, {"log.retention.hours": "1", "log.retention.minutes": "2"}

    def value(node_id: int | None = 1) -> tuple[object, ConfigSource]:
        found = resolve_one(cluster.image, file, "t", "retention.ms", node_id)
        return found.value, found.source

    assert resolve_one(image, {}, "t", "retention.ms").value == 604_800_000
    assert value() == (120_000, ConfigSource.STATIC_BROKER)
    _alter(cluster, ("log.retention.ms", "set", "3"), kind="broker", name="")
    assert value() == (3, ConfigSource.DYNAMIC_DEFAULT_BROKER)
    _alter(cluster, ("log.retention.ms", "set", "4"), kind="broker", name="1")
    assert value() == (4, ConfigSource.DYNAMIC_BROKER)
    assert value(node_id=2) == (3, ConfigSource.DYNAMIC_DEFAULT_BROKER)
    _alter(cluster, ("retention.ms", "set", "5"))
    assert value() == (5, ConfigSource.DYNAMIC_TOPIC)
    found = resolve(cluster.image, file, "t", 1)["retention.ms"]
    assert [candidate.value for candidate in found.candidates] == ["5", "4", "3", "120000", "3600000", "604800000"]
    assert set(resolve(cluster.image, {}, None)) == set(TOPIC_CONFIGS)


def test_unlimited_stays_unlimited_in_every_unit(cluster: Cluster) -> None:
    assert resolve_one(cluster.image, {"log.retention.hours": "-1"}, "t", "retention.ms").value == -1

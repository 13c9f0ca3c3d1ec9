"""The configuration of a node: two sources, one meaning, and one clear line for every mistake."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.controller import TOPIC_DEFAULTS, ConfigType, InvalidConfig, Limits, MetadataImage
from ottla.node.broker_part import limits
from ottla.node.config import NodeConfig, load_config
from ottla.node.definitions import BROKER_CONFIGS, SETTINGS
from ottla.node.endpoints import Endpoint, Voter
from ottla.node.kafka_keys import INERT
from ottla.node.node import controller_settings
from ottla.node.reference import describe_settings
from ottla.node.sources import ConfigError, from_environment, from_toml, to_variable

SECRET = "0123456789abcdef-secret"
MINIMAL = {
    "KAFKA_NODE_ID": "1",
    "CLUSTER_ID": "5L6g3nShT-eMCtK--X86sw",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@node-1:9093,2@node-2:9093,3@node-3:9093",
    "KAFKA_OTTLA_CLUSTER_SECRET": SECRET,
}
FILE = """
"node.id" = 2
cluster.id = "from-file"
process.roles = "broker,controller"
controller.quorum.voters = ["1@node-1:9093", "2@node-2:9093", "3@node-3:9093"]
listeners = "PLAINTEXT://:19092,CONTROLLER://:9093,EXTERNAL://0.0.0.0:9092"
advertised.listeners = "PLAINTEXT://node-2:19092,EXTERNAL://localhost:39092"
listener.security.protocol.map = "PLAINTEXT:PLAINTEXT,EXTERNAL:plaintext,CONTROLLER:PLAINTEXT"
ottla.cluster.secret.file = "/secret"
auto.create.topics.enable = false
broker.rack = "r2"
[log]
dirs = "/data"
retention.ms = 60000
segment.bytes = 1048576
[min.insync]
replicas = 2
"""


def load(environ: Mapping[str, str], file: str | None = None) -> NodeConfig:
    files = {"/secret": f"{SECRET}\n".encode()}
    if file is not None:
        files["node.toml"] = file.encode()

    def read(path: str) -> bytes:
        if path not in files:
            raise FileNotFoundError(2, "No such file or directory")
        return files[path]

    return load_config(None if file is None else "node.toml", environ, read)


def test_the_environment_alone_is_enough_and_the_rest_is_kafkas_default() -> None:
    config = load(MINIMAL)
    assert config.node_id == 1
    assert config.cluster_id == "5L6g3nShT-eMCtK--X86sw"
    assert config.is_broker
    assert config.is_controller
    assert config.voters[3] == Voter(3, "node-3", 9093)
    assert config.secret == SECRET.encode()
    assert config.broker_session_timeout_ms == 9000
    assert config.inter_broker_listener == "PLAINTEXT"
    assert config.advertised == (Endpoint("PLAINTEXT", "127.0.0.1", 9092),)
    assert config.advertised_controller == Endpoint("CONTROLLER", "node-1", 9093)
    assert config.topic_defaults == {}


def test_a_file_in_all_of_tomls_ways_to_write_a_dotted_name() -> None:
    config = load({}, FILE)
    assert (config.node_id, config.cluster_id, config.broker_rack, config.log_dirs) == (2, "from-file", "r2", "/data")
    assert config.auto_create_topics_enable is False
    assert config.listeners[0] == Endpoint("PLAINTEXT", "", 19092)
    assert config.advertised == (Endpoint("PLAINTEXT", "node-2", 19092), Endpoint("EXTERNAL", "localhost", 39092))
    assert config.controller_listener.port == 9093
    assert config.secret == SECRET.encode()
    assert config.topic_defaults == {
        "log.retention.ms": "60000",
        "log.segment.bytes": "1048576",
        "min.insync.replicas": "2",
    }


def test_the_environment_beats_the_file() -> None:
    config = load({"KAFKA_NODE_ID": "3", "KAFKA_LOG_DIR": "/other", "KAFKA_MIN_INSYNC_REPLICAS": "1"}, FILE)
    assert (config.node_id, config.log_dirs) == (3, "/other")
    assert config.topic_defaults["min.insync.replicas"] == "1"
    with_secret = load({"KAFKA_OTTLA_CLUSTER_SECRET": "another secret of the cluster"}, FILE)
    assert with_secret.secret == b"another secret of the cluster"


def test_the_secret_is_shown_nowhere() -> None:
    for config in (load(MINIMAL), load({}, FILE)):
        assert SECRET not in repr(config)
        assert SECRET not in str(dict(config.kafka_values()))
        assert SECRET not in config.model_dump_json()


def test_what_was_given_is_kept_under_kafkas_names() -> None:
    values = load(MINIMAL | {"KAFKA_LOG_RETENTION_HOURS": "24"}).kafka_values()
    assert values["log.retention.hours"] == "24"
    assert values["node.id"] == "1"
    assert "broker.rack" not in values


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"KAFKA_NODE_ID": None}, "node.id is not set (neither in a file nor as KAFKA_NODE_ID)"),
        ({"CLUSTER_ID": None}, "cluster.id is not set (neither in a file nor as KAFKA_CLUSTER_ID)"),
        ({"KAFKA_NODE_ID": "one"}, "node.id = 'one': Input should be a valid integer"),
        ({"KAFKA_NODE_ID": "-1"}, "node.id = '-1': Input should be greater than or equal to 0"),
        ({"KAFKA_PROCESS_ROLES": "broker"}, "node.id 1 is a voter, so process.roles must include controller"),
        ({"KAFKA_PROCESS_ROLES": "zookeeper"}, "process.roles = 'zookeeper': Input should be 'broker' or 'controller'"),
        ({"KAFKA_PROCESS_ROLES": "controller"}, "only the controller listener, not PLAINTEXT"),
        (
            {"KAFKA_NUM_PARTITION": "3"},
            "KAFKA_NUM_PARTITION is not a known setting; did you mean KAFKA_NUM_PARTITIONS",
        ),
        ({"KAFKA_NUM_PARTITIONS": "0"}, "num.partitions = '0': Input should be greater than or equal to 1"),
        ({"KAFKA_LISTENERS": "nonsense"}, "'nonsense' is not NAME://host:port"),
        ({"KAFKA_LISTENERS": "PLAINTEXT://:9092"}, "listeners has no CONTROLLER://host:port"),
        ({"KAFKA_LISTENERS": "CONTROLLER://:9093"}, "a broker needs a listener besides the controller listener"),
        ({"KAFKA_LISTENERS": "PLAINTEXT://h:9093,CONTROLLER://:9093"}, "have the same port 9093"),
        ({"KAFKA_LISTENERS": "PLAINTEXT://h:99999,CONTROLLER://:9093"}, "port 99999 is above 65535"),
        ({"KAFKA_LISTENERS": "A://h:1,A://h:2"}, "there are two listeners named A"),
        (
            {"KAFKA_LISTENERS": "PLAINTEXT://0.0.0.0:9092,CONTROLLER://:9093"},
            "PLAINTEXT://0.0.0.0:9092 is an address that nobody can connect to",
        ),
        ({"KAFKA_ADVERTISED_LISTENERS": "OTHER://h:1"}, "advertised.listeners has OTHER, which is not among"),
        ({"KAFKA_LISTENERS": "IN://h:1,CONTROLLER://:9093"}, "has no protocol for listener IN"),
        (
            {"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:SSL"},
            "listener PLAINTEXT wants SSL; only PLAINTEXT is supported so far",
        ),
        ({"KAFKA_INTER_BROKER_LISTENER_NAME": "OTHER"}, "inter.broker.listener.name is OTHER"),
        ({"KAFKA_CONTROLLER_QUORUM_VOTERS": "1@a:1,1@b:1"}, "voter 1 is there twice"),
        ({"KAFKA_CONTROLLER_QUORUM_VOTERS": "1@a:1,2@a:1"}, "two voters have the address a:1"),
        ({"KAFKA_CONTROLLER_QUORUM_VOTERS": "1@0.0.0.0:1"}, "no address that another node can connect to"),
        (
            {"KAFKA_CONTROLLER_QUORUM_VOTERS": ""},
            "neither controller.quorum.voters nor controller.quorum.bootstrap.servers is set",
        ),
        ({"KAFKA_CONTROLLER_QUORUM_BOOTSTRAP_SERVERS": "1@a:1"}, "'1@a:1' is not host:port"),
        ({"KAFKA_CONTROLLER_QUORUM_BOOTSTRAP_SERVERS": "a:1,:2"}, "':2' is no address that another node can connect"),
        ({"KAFKA_BROKER_HEARTBEAT_INTERVAL_MS": "9000"}, "must be less than broker.session.timeout.ms"),
        ({"KAFKA_OTTLA_CLUSTER_SECRET": "short"}, "the cluster secret is shorter than 16 bytes"),
        ({"KAFKA_OTTLA_CLUSTER_SECRET": None}, "set ottla.cluster.secret.file or ottla.cluster.secret"),
        ({"KAFKA_OTTLA_CLUSTER_SECRET_FILE": "/secret"}, "are both set"),
        ({"KAFKA_LOG_DIRS": "/a,/b"}, "only one data directory"),
        ({"KAFKA_OTTLA_FLUSH": "never"}, "ottla.flush = 'never': Input should be 'os' or 'synced'"),
        (
            {"KAFKA_MIN_INSYNC_REPLICAS": "0"},
            "min.insync.replicas: must be at least 1 (from KAFKA_MIN_INSYNC_REPLICAS)",
        ),
        ({"KAFKA_AUTO_CREATE_TOPICS_ENABLE": "perhaps"}, "auto.create.topics.enable = 'perhaps'"),
    ],
)
def test_every_mistake_is_one_line_that_names_it(changes: dict[str, str | None], line: str) -> None:
    environ = {name: text for name, text in (MINIMAL | changes).items() if text is not None}
    with pytest.raises(ConfigError) as error:
        load(environ)
    assert line in str(error.value)
    assert "\n" not in str(error.value)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("node.id = ", "node.toml: Invalid value"),
        ('"node.id" = 1\nnode.id = 2', "node.id is set twice in node.toml"),
        ("nod.id = 1", "nod.id in node.toml is not a known setting; did you mean node.id?"),
        ("zzzzzzzz = 1", "zzzzzzzz in node.toml is not a known setting"),
        ("node.id = 2026-01-01", "a date is no value for a setting"),
        ('ottla.cluster.secret.file = "/missing"', "/missing: No such file or directory"),
    ],
)
def test_mistakes_in_a_file(file: str, line: str) -> None:
    with pytest.raises(ConfigError) as error:
        load({}, file)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^absent\.toml: No such file or directory$"):
        load_config("absent.toml", {}, lambda path: Path(path).read_bytes())


def test_variables_of_the_image_and_of_kubernetes_are_no_settings() -> None:
    noise = {
        "KAFKA_HEAP_OPTS": "-Xmx1G",
        "KAFKA_JMX_PORT": "9999",
        "KAFKA_LOG4J_LOGGERS": "a=b",
        "KAFKA_SERVICE_HOST": "10.0.0.1",
        "KAFKA_PORT": "tcp://10.0.0.1:9092",
        "KAFKA_PORT_9092_TCP_ADDR": "10.0.0.1",
        "KAFKA_BOOTSTRAP_SERVICE_PORT_HTTP": "80",
        "PATH": "/bin",
    }
    assert load(MINIMAL | noise) == load(MINIMAL)


def test_settings_of_parts_that_are_not_here_are_taken_and_told() -> None:
    config = load(MINIMAL | {"KAFKA_TRANSACTION_STATE_LOG_LOAD_BUFFER_SIZE": "1", "KAFKA_NUM_IO_THREADS": "8"})
    assert config.ignored == ("num.io.threads", "transaction.state.log.load.buffer.size")
    assert config.kafka_values()["num.io.threads"] == "8"


def test_limits_are_handed_to_the_controller() -> None:
    limits = {"MAX_PARTITIONS_PER_REQUEST": 9, "MAX_PARTITIONS_PER_TOPIC": 7}
    limits |= {"MIN_REPLICATION_FACTOR": 2, "MAX_REPLICATION_FACTOR": 3}
    given = {f"KAFKA_OTTLA_POLICY_{name}": str(value) for name, value in limits.items()}
    config = load(MINIMAL | given | {"KAFKA_DEFAULT_REPLICATION_FACTOR": "3"})
    assert controller_settings(config).policy.limits == Limits(9, 7, 2, 3)
    for name, value in (("DEFAULT_REPLICATION_FACTOR", "1"), ("NUM_PARTITIONS", "8")):
        with pytest.raises(ConfigError, match=r"ottla\.policy"):
            load(MINIMAL | given | {"KAFKA_DEFAULT_REPLICATION_FACTOR": "3", f"KAFKA_{name}": value})


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("NUM_IO_THREADS", "many", "num.io.threads: not a number of 32 bits (from KAFKA_NUM_IO_THREADS)"),
        ("SECURITY_INTER_BROKER_PROTOCOL", "SSL", "only PLAINTEXT is supported"),
        ("SSL_KEYSTORE_LOCATION", "/k", "KAFKA_SSL_KEYSTORE_LOCATION is not supported: connections are plain TCP"),
        ("GROUP_CONSUMER_SESSION_TIMEOUT_MS", "2000", "between group.consumer.min.session.timeout.ms (45000) and"),
        ("GROUP_CONSUMER_MIN_HEARTBEAT_INTERVAL_MS", "20000", "more than group.consumer.max.heartbeat.interval.ms"),
        ("GROUP_CONSUMER_MAX_HEARTBEAT_INTERVAL_MS", "4000", "more than group.consumer.max.heartbeat.interval.ms"),
    ],
)
def test_what_would_promise_what_is_not_so_is_refused(name: str, value: str, line: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(line)):
        load(MINIMAL | {f"KAFKA_{name}": value})


def test_a_cluster_of_one_needs_no_secret() -> None:
    environ = {name: text for name, text in MINIMAL.items() if "SECRET" not in name}
    assert load(environ | {"KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093"}).secret is None


def test_a_node_may_know_the_quorum_by_its_addresses_alone() -> None:
    environ = {**MINIMAL, "KAFKA_CONTROLLER_QUORUM_BOOTSTRAP_SERVERS": "node-2:9093, [::1]:9094,node-2:9093"}
    del environ["KAFKA_CONTROLLER_QUORUM_VOTERS"]
    config = load(environ)
    assert config.controller_quorum_bootstrap_servers == (("node-2", 9093), ("::1", 9094))
    assert config.voters == {}
    with pytest.raises(ConfigError, match=r"set ottla\.cluster\.secret"):
        load({name: text for name, text in environ.items() if "SECRET" not in name})


def test_a_broker_only_node_introduces_its_controller_listener() -> None:
    roles = {"KAFKA_NODE_ID": "9", "KAFKA_PROCESS_ROLES": "broker"}
    listeners = {
        "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": "PLAINTEXT://node-9:9092,CONTROLLER://node-9:9093",
    }
    config = load(MINIMAL | roles | listeners)
    assert config.advertised_controller == Endpoint("CONTROLLER", "node-9", 9093)
    assert config.advertised == (Endpoint("PLAINTEXT", "node-9", 9092),)
    del listeners["KAFKA_ADVERTISED_LISTENERS"]
    with pytest.raises(ConfigError, match="nobody can connect to"):
        load(MINIMAL | roles | listeners)


names = st.from_regex(r"[a-z]+([._-][a-z]+){0,3}", fullmatch=True)


@given(names)
def test_the_images_convention_is_reversible(name: str) -> None:
    assert list(from_environment({to_variable(name): "x"})) == [name]


@given(st.dictionaries(names, st.one_of(st.booleans(), st.integers(), st.text("abc,:/")), max_size=5))
def test_quoted_names_come_through_toml_as_they_are(values: dict[str, bool | int | str]) -> None:
    import json

    text = "".join(f"{json.dumps(name)} = {json.dumps(value)}\n" for name, value in values.items())
    expected = {n: str(v).lower() if isinstance(v, bool) else str(v) for n, v in values.items()}
    assert {name: given.text for name, given in from_toml(text, "f").items()} == expected


def test_definitions_are_of_kafkas_types() -> None:
    for name, kind, default, dynamic in (
        ("node.id", ConfigType.INT, None, False),
        ("log.dirs", ConfigType.STRING, "/tmp/kafka-logs", False),
        ("listeners", ConfigType.STRING, "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093", False),
        ("replica.lag.time.max.ms", ConfigType.LONG, "30000", False),
        ("offsets.topic.replication.factor", ConfigType.SHORT, "3", False),
        ("auto.create.topics.enable", ConfigType.BOOLEAN, "true", False),
        ("log.cleaner.backoff.ms", ConfigType.LONG, "15000", True),
        ("max.connections", ConfigType.INT, "10000", True),
        ("log.retention.ms", ConfigType.LONG, None, True),
        ("log.retention.hours", ConfigType.INT, "168", False),
        ("broker.rack", ConfigType.STRING, None, False),
    ):
        row = BROKER_CONFIGS[name]
        assert (row.type, row.default, row.dynamic) == (kind, default, dynamic), name
        if default is not None:
            row.parse(default)
    with pytest.raises(InvalidConfig):
        BROKER_CONFIGS["max.connections"].parse("0")
    assert [name for name, row in BROKER_CONFIGS.items() if row.sensitive] == ["ottla.cluster.secret"]


def test_connections_of_single_addresses() -> None:
    config = load(MINIMAL | {"KAFKA_MAX_CONNECTIONS_PER_IP_OVERRIDES": "10.0.0.1:5, [::1]:7"})
    held = limits(config)
    assert held.per_ip == {"10.0.0.1": 5, "::1": 7}
    for text in ("10.0.0.1", ":5", "10.0.0.1:-1", "10.0.0.1:x"):
        with pytest.raises(InvalidConfig, match="not ADDRESS:NUMBER"):
            BROKER_CONFIGS["max.connections.per.ip.overrides"].parse(text)
        with pytest.raises(ConfigError, match="not ADDRESS:NUMBER"):
            load(MINIMAL | {"KAFKA_MAX_CONNECTIONS_PER_IP_OVERRIDES": text})


def test_the_rate_of_connections_is_of_clients() -> None:
    rate = {"KAFKA_MAX_CONNECTION_CREATION_RATE": "5"}
    held = limits(load(MINIMAL | rate))
    assert (held.max_connection_rate, held.unhurried) == (5, ""), "with one listener brokers are as all others"
    two = {"KAFKA_LISTENERS": "PLAINTEXT://:9092,EXTERNAL://:9094,CONTROLLER://:9093"}
    two |= {"KAFKA_ADVERTISED_LISTENERS": "PLAINTEXT://h:9092,EXTERNAL://h:9094"}
    two |= {"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "EXTERNAL:PLAINTEXT"}
    assert limits(load(MINIMAL | rate | two)).unhurried == "PLAINTEXT"


def test_what_the_metadata_says_takes_the_place_of_what_the_file_says() -> None:
    """KIP-226: of one broker before all brokers before the file; only what is dynamic."""
    config = load(MINIMAL | {"KAFKA_MAX_CONNECTIONS": "7", "KAFKA_LOG_CLEANER_BACKOFF_MS": "8"})
    assert config.in_force(MetadataImage("c")) is config
    configs = {
        ("broker", ""): {"max.connections": "9", "log.cleaner.backoff.ms": "10", "log.retention.ms": "5"},
        ("broker", "1"): {"max.connections": "11", "node.id": "99"},
        ("broker", "2"): {"max.connections": "12"},
    }
    held = config.in_force(MetadataImage("c", configs=configs))
    assert (held.max_connections, held.log_cleaner_backoff_ms, held.node_id) == (11, 10, 1)
    assert config.max_connections == 7


def test_the_reference_has_every_setting_once_with_a_meaning() -> None:
    rows = describe_settings()
    assert [row[0] for row in rows] == sorted({*SETTINGS, *TOPIC_DEFAULTS, *INERT})
    assert all(kind in ("boolean", "int", "long", "double", "string", "list", "short") for _, kind, _, _ in rows)
    assert all(doc for *_, doc in rows)
    assert ("num.partitions", "int", "1", "Partitions of a topic that does not say.") in rows

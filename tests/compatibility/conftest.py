"""One cluster of three processes for all tests of the folder, whole before each; its last words when a test fails."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.compatibility.aio import Aio
from tests.compatibility.background import BackgroundLoop
from tests.compatibility.cluster import Cluster
from tests.compatibility.confluent import Confluent
from tests.compatibility.kafka_python import KafkaPython, make_response_classes
from tests.compatibility.members import SESSION_MS
from tests.compatibility.model import Library

LAST_LINES = 80
_clusters: list[Cluster] = []
_numbers = itertools.count(1)
make_response_classes()


@pytest.fixture(scope="package")
def background() -> Iterator[BackgroundLoop]:
    with BackgroundLoop("supervisor") as loop:
        yield loop


@pytest.fixture(scope="package")
def three_nodes(background: BackgroundLoop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    settings = {
        "num.partitions": 2,
        "group.initial.rebalance.delay.ms": 100,
        "group.consumer.min.heartbeat.interval.ms": 500,
        "group.consumer.heartbeat.interval.ms": 500,
        "group.consumer.min.session.timeout.ms": SESSION_MS,
        "group.consumer.session.timeout.ms": SESSION_MS,
    }
    cluster = Cluster.start_new(background, tmp_path_factory.mktemp("cluster"), 3, settings)
    _clusters.append(cluster)
    yield cluster
    _clusters.remove(cluster)
    cluster.down()


@pytest.fixture
def cluster(three_nodes: Cluster) -> Cluster:
    """Every node runs."""
    three_nodes.restore()
    return three_nodes


@pytest.fixture(scope="package")
def strict(background: BackgroundLoop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One node that makes no topic unasked, and none of more than four partitions or of two replicas."""
    settings = {
        "auto.create.topics.enable": False,
        "ottla.policy.max.partitions.per.topic": 4,
        "ottla.policy.max.replication.factor": 1,
    }
    cluster = Cluster.start_new(background, tmp_path_factory.mktemp("strict"), 1, settings)
    _clusters.append(cluster)
    yield cluster
    _clusters.remove(cluster)
    cluster.down()


LIBRARIES = (Confluent(), Aio(), KafkaPython())


@pytest.fixture(params=LIBRARIES, ids=lambda library: library.name)
def library(request: pytest.FixtureRequest) -> Library:
    """Each of the client libraries in turn."""
    found: Library = request.param
    return found


@pytest.fixture(scope="session")
def libraries() -> tuple[Library, ...]:
    """All of them."""
    return LIBRARIES


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A name that no other test has."""
    function: Callable[..., object] = request.function
    return f"{function.__name__.removeprefix('test_').replace('_', '-')}-{next(_numbers)}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.failed:
        for cluster in _clusters:
            for plan in cluster.layout.nodes:
                log = plan.log_file
                lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
                report.sections.append(
                    (f"node {plan.id} of {len(cluster.layout.nodes)}", "\n".join(lines[-LAST_LINES:]))
                )
    return report  # type: ignore[return-value]

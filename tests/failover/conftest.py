"""One cluster of processes for each test module, whole again before each test; its nodes' last words when one fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from ottla.cluster import Supervisor, free_base_port, prepare
from tests.failover.cluster import NODES, SETTINGS, Cluster

LAST_LINES = 80
_clusters: list[Cluster] = []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def three_nodes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Cluster]:
    """Three nodes, ready; stopped at the end of the module, whose MORE_SETTINGS, if any, are theirs, too."""
    settings = {**SETTINGS, **getattr(request.module, "MORE_SETTINGS", {})}
    directory = tmp_path_factory.mktemp("cluster")
    layout = prepare(directory, nodes=len(NODES), base_port=free_base_port(len(NODES)), settings=settings)
    supervisor = Supervisor(layout)
    cluster = Cluster(supervisor)
    _clusters.append(cluster)
    try:
        await supervisor.start()
        yield cluster
    finally:
        await supervisor.stop(within=10.0)
        _clusters.remove(cluster)


@pytest_asyncio.fixture(loop_scope="module")
async def cluster(three_nodes: Cluster) -> Cluster:
    """The module's cluster with every node running, whatever the test before has done to it."""
    await three_nodes.restore()
    return three_nodes


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.failed:
        for cluster in _clusters:
            for plan in cluster.layout.nodes:
                log = plan.log_file
                lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
                report.sections.append((f"node {plan.id}", "\n".join(lines[-LAST_LINES:])))
    return report  # type: ignore[return-value]

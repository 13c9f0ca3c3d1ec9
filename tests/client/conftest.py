from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import confluent_kafka
import pytest

from tests.client.fake import FakeCluster


@pytest.fixture
async def cluster() -> AsyncIterator[FakeCluster]:
    """Two fake brokers, no topics."""
    fake = FakeCluster()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture(scope="session")
def mock_bootstrap() -> Iterator[str]:
    """librdkafka's mock cluster of three brokers: a Kafka server that this project did not write."""
    owner = confluent_kafka.Producer({"test.mock.num.brokers": 3, "log_level": 3})
    brokers = owner.list_topics(timeout=10).brokers.values()
    yield ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
    del owner

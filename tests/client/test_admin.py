"""The admin client against fake brokers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from ottla.client import Admin, LeaderNotAvailableError
from tests.client.fake import FakeCluster


@pytest.fixture
async def admin(cluster: FakeCluster) -> AsyncIterator[Admin]:
    async with Admin(bootstrap_servers=cluster.bootstrap) as client:
        yield client


async def test_the_quorum_is_described_by_the_active_controller(cluster: FakeCluster, admin: Admin) -> None:
    for _ in range(8):
        quorum = await admin.describe_metadata_quorum()
        assert (quorum.leader_id, quorum.leader_epoch, quorum.high_watermark) == (2, 5, 10)
        assert [voter.log_end_offset for voter in quorum.voters] == [10, 10]


async def test_a_controller_that_does_not_answer_is_known_all_the_same(cluster: FakeCluster, admin: Admin) -> None:
    await admin.describe_metadata_quorum()
    await cluster.kill(2)
    quorum = await admin.describe_metadata_quorum()
    assert (quorum.leader_id, quorum.leader_epoch) == (2, 5)
    assert [voter.log_end_offset for voter in quorum.voters] == [-1, -1]


async def test_an_unknown_quorum_is_an_error(cluster: FakeCluster, admin: Admin) -> None:
    unknown: dict[str, Any] = {"error_code": ErrorCode.leader_not_available, "leader_id": -1, "leader_epoch": -1}
    cluster.quorum = lambda node: unknown
    with pytest.raises(LeaderNotAvailableError):
        await admin.describe_metadata_quorum()

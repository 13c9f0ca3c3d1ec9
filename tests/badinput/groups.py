"""What the tests of groups share: a node that coordinates, and a member that goes on while others misbehave."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from kio.schema.errors import ErrorCode

from tests.badinput.node import Running, eventually, running
from tests.groups.machine import subscription

E = ErrorCode
FIND, JOIN, HEARTBEAT, LEAVE, SYNC, COMMIT, FETCH, BEAT = 10, 11, 12, 13, 14, 8, 9, 68


@asynccontextmanager
async def coordinating(
    directory: Path, caplog: pytest.LogCaptureFixture, delay_ms: int = 50, **settings: str
) -> AsyncIterator[Running]:
    """Every group has its coordinator already. Joins of a new group wait for `delay_ms`."""
    values = {"group.initial.rebalance.delay.ms": str(delay_ms), "offsets.topic.num.partitions": "5", **settings}
    with structlog.testing.capture_logs() as lines, caplog.at_level(logging.WARNING):
        async with running(directory, lines, reachable=True, **values) as started:
            await started.witness.call(FIND, 6, {"key_type": 0, "coordinator_keys": ["good"]})
            groups = started.broker.groups
            await eventually(lambda: all(not isinstance(groups.shard_of(f"{n}"), ErrorCode) for n in range(100)))
            yield started
        assert [record.getMessage() for record in caplog.records] == []


def join_values(**more: Any) -> dict[str, Any]:
    protocols = [{"name": "range", "metadata": subscription("target")}]
    times = {"session_timeout": 1_800_000, "rebalance_timeout": 60_000}
    return {"group_id": "good", **times, "protocol_type": "consumer", "protocols": protocols, **more}


def sync_values(joined: Any, **more: Any) -> dict[str, Any]:
    plan = [{"member_id": row.member_id, "assignment": b"part"} for row in joined.members]
    return {**own(joined), "protocol_type": "consumer", "protocol_name": "range", "assignments": plan, **more}


def own(joined: Any) -> dict[str, Any]:
    return {"group_id": "good", "generation_id": joined.generation_id, "member_id": joined.member_id}


async def member_of(node: Running, **more: Any) -> Any:
    """The JoinGroup answer of the only member of a stable group."""
    first = await node.witness.call(JOIN, 9, join_values(**more))
    if first.error_code is E.member_id_required:
        first = await node.witness.call(JOIN, 9, join_values(member_id=first.member_id, **more))
    assert first.error_code is E.none
    assert (await node.witness.call(SYNC, 5, sync_values(first))).error_code is E.none
    return first


def commit_values(offset: int, *, index: int = 0, metadata: str | None = None, **more: Any) -> dict[str, Any]:
    row = {"partition_index": index, "committed_offset": offset, "committed_metadata": metadata}
    values = {"group_id": "good", "generation_id_or_member_epoch": -1, "member_id": ""}
    return {**values, "topics": [{"name": "target", "partitions": [row]}], **more}


async def commit(node: Running, offset: int, *, api: tuple[int, int] = (COMMIT, 9), **more: Any) -> ErrorCode:
    """The one partition's error."""
    answer = await node.witness.call(*api, commit_values(offset, **more))
    error: ErrorCode = answer.topics[0].partitions[0].error_code
    return error


async def committed(node: Running) -> tuple[int, str | None]:
    wanted = [{"group_id": "good", "topics": [{"name": "target", "partition_indexes": [0]}]}]
    (found,) = (await node.witness.call(FETCH, 9, {"groups": wanted})).groups
    row = found.topics[0].partitions[0]
    assert row.error_code is E.none
    return row.committed_offset, row.metadata


async def unnoticed(node: Running, joined: Any, number: int) -> None:
    """The member is where it was, and commits."""
    assert (await node.witness.call(HEARTBEAT, 4, own(joined))).error_code is E.none
    mine = {"generation_id_or_member_epoch": joined.generation_id, "member_id": joined.member_id}
    assert await commit(node, number, **mine) is E.none
    assert (await committed(node))[0] == number

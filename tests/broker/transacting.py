"""Producers with transactions and their coordinators, as the leader of a partition meets them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from kio.schema.errors import ErrorCode

from ottla.broker.replication import Partition
from ottla.records import EndMarker, encode_marker, read_header
from ottla.wire import Connection
from tests.broker.world import LISTENER, NOW_MS, World, batch

COMMIT, ABORT = True, False


def broker(node_id: int = 2) -> Connection:
    return Connection(LISTENER, "peer", principal=f"node:{node_id}")


def part(sequence: int = 0, count: int = 1, *, producer: int = 7, epoch: int = 0) -> bytes:
    """A batch of a transaction."""
    return batch(count, producer_id=producer, producer_epoch=epoch, base_sequence=sequence, transactional=True)


def put(partition: Partition, data: bytes) -> None:
    """Into the leader's log, as if it had been verified."""
    assert partition.log is not None
    partition.log.append_as_leader(data, read_header(data), partition.leader_epoch, NOW_MS)
    partition.appended(len(data))


def end(partition: Partition, commit: bool, *, producer: int = 7, epoch: int = 0) -> None:
    put(partition, encode_marker(EndMarker(commit, 0), producer_id=producer, producer_epoch=epoch, timestamp=NOW_MS))


def order(
    topics: Mapping[str, list[int]],
    commit: bool = COMMIT,
    *,
    producer: int = 7,
    epoch: int = 0,
    coordinator_epoch: int = 0,
    **more: Any,
) -> dict[str, Any]:
    """One marker of a WriteTxnMarkers request."""
    return {
        "producer_id": producer,
        "producer_epoch": epoch,
        "transaction_result": commit,
        "coordinator_epoch": coordinator_epoch,
        "topics": [{"name": name, "partition_indexes": indexes} for name, indexes in topics.items()],
        **more,
    }


async def written(world: World, *orders: Mapping[str, Any], version: int = 2) -> list[ErrorCode]:
    """What a coordinator is answered for each partition."""
    response = await world.call(27, version, {"markers": list(orders)}, connection=broker())
    return [
        ErrorCode(row.error_code) for marker in response.markers for topic in marker.topics for row in topic.partitions
    ]


async def grown(partition: Partition, end_offset: int) -> None:
    """Until the log has got so far."""
    moved = asyncio.Event()
    stop = partition.watch(lambda _size: moved.set(), follower=True)
    async with asyncio.timeout(10):
        while partition.log_end_offset < end_offset:
            moved.clear()
            await moved.wait()
    stop()


class Coordinators:
    """Of all transactional ids. `errors` by partition index; answers come when `let_go` is set, as it is at first."""

    def __init__(self, world: World) -> None:
        world.add_topic("__transaction_state", replicas=(2, 3), leader=2)
        world.peers.answer = self.answer
        self.errors: dict[int, ErrorCode] = {}
        self.let_go = asyncio.Event()
        self.let_go.set()
        self.asked: list[tuple[str, int, int, bool, list[int]]] = []
        self._came = asyncio.Event()

    async def come(self) -> None:
        """Until somebody has asked, since the last time."""
        async with asyncio.timeout(10):
            await self._came.wait()
        self._came.clear()

    async def answer(self, _node_id: int, key: int, request: Any) -> Mapping[str, Any]:
        assert key == 24
        self.asked += [
            (
                row.transactional_id,
                row.producer_id,
                row.producer_epoch,
                row.verify_only,
                [index for topic in row.topics for index in topic.partitions],
            )
            for row in request.transactions
        ]
        self._came.set()
        await self.let_go.wait()
        return {"results_by_transaction": [self._row(row) for row in request.transactions]}

    def _row(self, row: Any) -> dict[str, Any]:
        return {
            "transactional_id": row.transactional_id,
            "topic_results": [
                {
                    "name": topic.name,
                    "results_by_partition": [
                        {"partition_index": index, "partition_error_code": self.errors.get(index, ErrorCode.none)}
                        for index in topic.partitions
                    ],
                }
                for topic in row.topics
            ],
        }

"""A client that stays with one node whatever the metadata says, and answers that are kept whatever they are."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Self

from kio.schema.errors import ErrorCode

from ottla.records import Record, encode_batch
from ottla.wire import ConnectionLost, KafkaConnection, RequestTimedOut
from tests.failover.cluster import Cluster

_PRODUCE, _PRODUCE_VERSION = 0, 9


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one record: acknowledged at `offset`, or `error` (None: the connection ended without a word)."""

    value: bytes
    error: ErrorCode | None
    offset: int = -1

    @property
    def acknowledged(self) -> bool:
        return self.error is ErrorCode.none


class Attached:
    """A producer without idempotence and without retries on one connection to one node."""

    def __init__(self, connection: KafkaConnection, topic: str, acks: int) -> None:
        self._connection = connection
        self._topic = topic
        self._acks = acks

    @classmethod
    async def to(cls, cluster: Cluster, node: int, topic: str, *, acks: int) -> Self:
        connection = await KafkaConnection.open(*cluster.address(node), client_id=f"attached-{acks}", timeout=20.0)
        return cls(connection, topic, acks)

    def send(self, value: bytes, *, timeout_ms: int = 10_000) -> asyncio.Task[Answer]:
        """Send one record to partition 0 now; requests go out in the order of these calls."""
        return asyncio.get_running_loop().create_task(self._send(value, timeout_ms))

    async def _send(self, value: bytes, timeout_ms: int) -> Answer:
        batch = encode_batch([Record(0, 1_700_000_000_000, None, value, ())])
        body = {
            "acks": self._acks,
            "timeout": timeout_ms,
            "topic_data": [{"name": self._topic, "partition_data": [{"index": 0, "records": batch}]}],
        }
        try:
            response = await self._connection.call(_PRODUCE, _PRODUCE_VERSION, body)
        except (ConnectionLost, RequestTimedOut):
            return Answer(value, None)
        row = response.responses[0].partition_responses[0]
        return Answer(value, ErrorCode(row.error_code), row.base_offset)

    async def acknowledged(self, value: bytes) -> Answer:
        """Send one record that must be acknowledged."""
        answer = await self.send(value)
        assert answer.acknowledged, answer
        return answer

    def close(self) -> None:
        self._connection.abort()


def numbered(prefix: bytes, count: int) -> list[bytes]:
    """Values that tell where they come from."""
    return [prefix + b" %d" % number for number in range(count)]

"""A client of the transactional APIs in a simulated cluster: one request at a time, as often as it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from kio.schema.errors import ErrorCode

from ottla.broker.coordination import TRANSACTIONS_TOPIC, partition_for
from ottla.simulation import SimulatedCluster, leader_of
from ottla.simulation.node import KAFKA_PORT
from ottla.wire import ConnectionLost, KafkaConnection, ProtocolError, RequestTimedOut

AGAIN = {
    ErrorCode.concurrent_transactions,
    ErrorCode.coordinator_load_in_progress,
    ErrorCode.coordinator_not_available,
    ErrorCode.not_coordinator,
}
INIT, ADD, END, FIND = 22, 24, 26, 10
PATIENCE_S = 60.0


def coordinator_of(transactional_id: str, partitions: int = 50) -> Any:
    """Who leads its partition, for faults."""
    return leader_of(TRANSACTIONS_TOPIC, partition_for(transactional_id, partitions))


class Transactional:
    """`asked` counts requests, those that had to be repeated included."""

    def __init__(self, cluster: SimulatedCluster, transactional_id: str, *, timeout_ms: int = 60_000) -> None:
        self.id = transactional_id
        self.timeout_ms = timeout_ms
        self.producer_id, self.epoch = -1, -1
        self.asked = 0
        self._addresses = [node.machine.address for node in cluster.nodes.values()]
        self._place = 0

    async def init(self) -> tuple[int, int]:
        values = {"transaction_timeout": self.timeout_ms, "producer_id": -1, "producer_epoch": -1}
        answer = await self._until_answered(INIT, 5, values)
        assert answer.error_code is ErrorCode.none, answer
        self.producer_id, self.epoch = answer.producer_id, answer.producer_epoch
        return self.producer_id, self.epoch

    async def add(self, topic: str, index: int) -> ErrorCode:
        """As a client of v1 asks."""
        values = {
            "v3_and_below_transactional_id": self.id,
            "v3_and_below_producer_id": self.producer_id,
            "v3_and_below_producer_epoch": self.epoch,
            "v3_and_below_topics": [{"name": topic, "partitions": [index]}],
        }
        answer = await self._until_answered(ADD, 3, values)
        return _error(answer)

    async def end(self, commit: bool) -> ErrorCode:
        """By v2; the next epoch is taken from the answer."""
        values = {"producer_id": self.producer_id, "producer_epoch": self.epoch, "committed": commit}
        answer = await self._until_answered(END, 5, values)
        if answer.error_code is ErrorCode.none:
            self.producer_id, self.epoch = answer.producer_id, answer.producer_epoch
        error: ErrorCode = answer.error_code
        return error

    async def _until_answered(self, key: int, version: int, values: Mapping[str, Any]) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                self.asked += 1
                try:
                    answer = await self._ask(key, version, {"transactional_id": self.id, **values})
                    if _error(answer) not in AGAIN:
                        return answer
                except (ConnectionLost, RequestTimedOut, ProtocolError):
                    self._place += 1
                await asyncio.sleep(0.02)

    async def _ask(self, key: int, version: int, values: Mapping[str, Any]) -> Any:
        found = await self._call(
            self._addresses[self._place % len(self._addresses)],
            FIND,
            6,
            {"key_type": 1, "coordinator_keys": [self.id]},
        )
        (row,) = found.coordinators
        if row.error_code is not ErrorCode.none:
            raise ConnectionLost(row.error_code.name)
        return await self._call(row.host, key, version, values)

    async def _call(self, host: str, key: int, version: int, values: Mapping[str, Any]) -> Any:
        connection = await KafkaConnection.open(host, KAFKA_PORT, client_id=self.id, timeout=2.0)
        try:
            return await connection.call(key, version, values)
        finally:
            connection.abort()


def _error(answer: Any) -> ErrorCode:
    if hasattr(answer, "error_code"):
        error: ErrorCode = answer.error_code
        return error
    first: ErrorCode = answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
    return first

"""Asks transaction coordinators whether a partition is in a producer's transaction, or to put it in (KIP-890).

One request to a broker at a time, with all that came meanwhile: AddPartitionsToTxn carries many transactions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kio.schema.errors import ErrorCode

from ottla.broker.peers import PEER_ERRORS, Peers
from ottla.broker.transactions.model import Partition, Producer
from ottla.controller import PartitionImage
from ottla.tasks import start_task, stop_tasks

ADD_PARTITIONS_TO_TXN: Final = 24
VERSION: Final = 5
MAX_WAITING: Final = 10_000
"""Questions to one broker."""
MAX_BATCH: Final = 1000
TIMEOUT_S: Final = 10.0


@dataclass(slots=True, eq=False)
class _Question:
    transactional_id: str
    producer: Producer
    partition: Partition
    add: bool
    future: asyncio.Future[ErrorCode]


class Verifier:
    """`home` tells who coordinates a transactional id; None while nobody can. `failures` counts questions that a
    coordinator did not answer with yes."""

    def __init__(self, peers: Peers, home: Callable[[str], tuple[int, PartitionImage] | None]) -> None:
        self._peers = peers
        self._home = home
        self._waiting: dict[int, list[_Question]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._closed = False
        self.failures = 0

    def ask(
        self, transactional_id: str, producer: Producer, partition: Partition, *, add: bool, known_epoch: int = -1
    ) -> asyncio.Future[ErrorCode]:
        """`none` if the partition is in the producer's transaction; with `add` it is put in (transactions v2).

        `known_epoch`: of the coordinator that has ended the producer's last transaction in the partition. An earlier
        one is not asked: it may not know yet that it is none any more, nor that the transaction is over.

        What the coordinator says otherwise (INVALID_PRODUCER_EPOCH for a producer that is fenced, as leaders of
        partitions have it), COORDINATOR_NOT_AVAILABLE while there is none, NETWORK_EXCEPTION when
        it cannot be reached.
        """
        future: asyncio.Future[ErrorCode] = asyncio.get_running_loop().create_future()
        home = self._home(transactional_id)
        leader = -1 if home is None or home[1].leader_epoch < known_epoch else home[1].leader
        waiting = self._waiting.get(leader, [])
        if leader < 0 or self._closed or len(waiting) >= MAX_WAITING:
            future.set_result(ErrorCode.coordinator_not_available)
            return future
        self._waiting[leader] = waiting
        waiting.append(_Question(transactional_id, producer, partition, add, future))
        self._pump(leader)
        return future

    def _pump(self, broker_id: int) -> None:
        if self._closed or broker_id in self._tasks or broker_id not in self._waiting:
            return
        waiting = self._waiting.pop(broker_id)
        # A transaction is named once in a request: another question about it waits for the next one.
        batch: dict[str, list[_Question]] = {}
        later: list[_Question] = []
        for question in waiting:
            known = batch.get(question.transactional_id)
            alike = known is None or (known[0].producer, known[0].add) == (question.producer, question.add)
            if alike and (known is not None or len(batch) < MAX_BATCH):
                batch.setdefault(question.transactional_id, []).append(question)
            else:
                later.append(question)
        if later:
            self._waiting[broker_id] = later
        questions = [question for rows in batch.values() for question in rows]
        task = self._tasks[broker_id] = start_task(self._deliver(broker_id, batch), f"verify-{broker_id}")
        task.add_done_callback(lambda _: self._over(broker_id, questions))

    def _over(self, broker_id: int, questions: Sequence[_Question]) -> None:
        del self._tasks[broker_id]
        for question in questions:
            self._settle(question, ErrorCode.network_exception)
        self._pump(broker_id)

    async def _deliver(self, broker_id: int, batch: Mapping[str, Sequence[_Question]]) -> None:
        values = {"transactions": [_row(transactional_id, rows) for transactional_id, rows in batch.items()]}
        try:
            response: Any = await self._peers.call(broker_id, ADD_PARTITIONS_TO_TXN, VERSION, values, timeout=TIMEOUT_S)
        except PEER_ERRORS:
            return
        if response.error_code is not ErrorCode.none:
            errors: dict[tuple[str, str, int], ErrorCode] = {}
        else:
            errors = {
                (row.transactional_id, topic.name, each.partition_index): ErrorCode(each.partition_error_code)
                for row in response.results_by_transaction
                for topic in row.topic_results
                for each in topic.results_by_partition
            }
        for rows in batch.values():
            for question in rows:
                found = errors.get((question.transactional_id, *question.partition), ErrorCode.network_exception)
                fenced = found is ErrorCode.producer_fenced
                self._settle(question, ErrorCode.invalid_producer_epoch if fenced else found)

    def _settle(self, question: _Question, error: ErrorCode) -> None:
        if question.future.done():
            return
        self.failures += error is not ErrorCode.none
        question.future.set_result(error)

    async def close(self) -> None:
        self._closed = True
        await stop_tasks(self._tasks.values())
        for waiting in self._waiting.values():
            for question in waiting:
                self._settle(question, ErrorCode.network_exception)
        self._waiting.clear()
        self._peers.close()


def _row(transactional_id: str, questions: Sequence[_Question]) -> dict[str, object]:
    topics: dict[str, set[int]] = {}
    for question in questions:
        topics.setdefault(question.partition[0], set()).add(question.partition[1])
    first = questions[0]
    return {
        "transactional_id": transactional_id,
        "producer_id": first.producer.id,
        "producer_epoch": first.producer.epoch,
        "verify_only": not first.add,
        "topics": [{"name": name, "partitions": sorted(indexes)} for name, indexes in sorted(topics.items())],
    }

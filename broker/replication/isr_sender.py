"""Takes ISR changes to the controller: batched, one AlterPartition in flight at a time (KIP-497)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeVar

import structlog
from kio.schema.errors import ErrorCode

from ottla.broker.replication.leader import IsrProposal, Outcome
from ottla.broker.replication.partition import Partition
from ottla.controller import (
    AlterPartition,
    ControllerUnavailable,
    IsrMember,
    PartitionIsr,
    PartitionIsrResult,
    RpcError,
    RpcRequest,
    RpcResponse,
)
from ottla.tasks import start_task

log = structlog.get_logger(__name__)

MAX_BATCH = 1000
FIRST_BACKOFF_S = 0.05
MAX_BACKOFF_S = 1.0
CALL_TIMEOUT_S = 10.0

R = TypeVar("R", bound=RpcResponse)


class Controller(Protocol):
    """The way to the active controller."""

    async def call(self, request: RpcRequest[R], *, timeout: float = ...) -> R: ...


class IsrSender:
    """`submit` may be called from anywhere on the loop; what comes in one tick, or while a request is under way, goes
    together in the next one. A newer proposal of a partition replaces an older one, so partitions bound the queue.
    """

    def __init__(self, node_id: int, controller: Controller, broker_epoch: Callable[[], int]) -> None:
        self._node_id = node_id
        self._controller = controller
        self._broker_epoch = broker_epoch
        self._pending: dict[Partition, IsrProposal] = {}
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def submit(self, partition: Partition, proposal: IsrProposal) -> None:
        self._pending[partition] = proposal
        if self._task is None and not self._closed:
            self._task = start_task(self._drain(), "alter-partition")

    async def close(self) -> None:
        """Stop. Proposals not answered are void: the controller's metadata is what counts."""
        self._closed = True
        self._pending.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _drain(self) -> None:
        backoff = FIRST_BACKOFF_S
        try:
            while self._pending:
                batch = dict(list(self._pending.items())[:MAX_BATCH])
                for partition in batch:
                    del self._pending[partition]
                if await self._send(batch):
                    backoff = FIRST_BACKOFF_S
                else:
                    await asyncio.sleep(backoff)
                    backoff = min(backoff * 2, MAX_BACKOFF_S)
        finally:
            self._task = None

    async def _send(self, batch: dict[Partition, IsrProposal]) -> bool:
        """One request; False when something has to be asked again."""
        request = AlterPartition(
            node_id=self._node_id,
            broker_epoch=self._broker_epoch(),
            partitions=tuple(self._item(partition, proposal) for partition, proposal in batch.items()),
        )
        try:
            answer = await self._controller.call(request, timeout=CALL_TIMEOUT_S)
        except (ControllerUnavailable, RpcError) as error:
            log.warning("alter_partition_failed", error=str(error), partitions=len(batch))
            self._again(batch)
            return False
        if answer.error:
            log.warning("alter_partition_refused", error=ErrorCode(answer.error).name, partitions=len(batch))
            self._again(batch)
            return False
        results = {(result.topic_id, result.partition): result for result in answer.partitions}
        retry = {
            partition: proposal
            for partition, proposal in batch.items()
            if self._deliver(partition, proposal, results.get((partition.topic_id, partition.index))) is Outcome.RETRY
        }
        self._again(retry)
        return not retry

    def _item(self, partition: Partition, proposal: IsrProposal) -> PartitionIsr:
        own = self._broker_epoch()
        members = (
            IsrMember(id=id, broker_epoch=own if id == self._node_id else epoch) for id, epoch in proposal.members
        )
        return PartitionIsr(
            topic_id=partition.topic_id,
            partition=partition.index,
            leader_epoch=proposal.leader_epoch,
            partition_epoch=proposal.partition_epoch,
            new_isr=tuple(members),
        )

    @staticmethod
    def _deliver(partition: Partition, proposal: IsrProposal, result: PartitionIsrResult | None) -> Outcome:
        error = ErrorCode.unknown_server_error if result is None else ErrorCode(result.error)
        return partition.isr_answered(proposal, error)

    def _again(self, batch: dict[Partition, IsrProposal]) -> None:
        """Unless a newer proposal or newer metadata has made it void."""
        for partition, proposal in batch.items():
            if partition.still_proposes(proposal):
                self._pending.setdefault(partition, proposal)

"""Sends transaction markers to the leaders of the partitions: WriteTxnMarkers, many transactions in one request."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, Final

import structlog
from kio.schema.errors import ErrorCode

from ottla.broker.peers import PEER_ERRORS, Peers
from ottla.broker.transactions.markers import Marker, MarkerQueue, Pending
from ottla.broker.transactions.model import Partition, State
from ottla.controller import MetadataImage
from ottla.tasks import start_task, stop_tasks

log = structlog.get_logger(__name__)

WRITE_TXN_MARKERS: Final = 27
VERSION: Final = 2
MAX_MARKERS: Final = 2000
"""Partitions in one request."""
MAX_IN_FLIGHT: Final = 4
"""Requests to one broker: one partition that cannot replicate does not hold up all the others."""
TIMEOUT_S: Final = 15.0

_EXPECTED: Final = frozenset(
    {
        ErrorCode.unknown_topic_or_partition,
        ErrorCode.not_leader_or_follower,
        ErrorCode.not_enough_replicas,
        ErrorCode.not_enough_replicas_after_append,
        ErrorCode.request_timed_out,
        ErrorCode.kafka_storage_error,
        ErrorCode.coordinator_load_in_progress,
        ErrorCode.coordinator_not_available,
        ErrorCode.not_coordinator,
    }
)


class MarkerSender:
    """`finished` is called when all partitions of a transaction have their marker, possibly before `send` returns."""

    def __init__(self, peers: Peers, image: Callable[[], MetadataImage], finished: Callable[[Pending], None]) -> None:
        self._peers = peers
        self._image = image
        self._queue = MarkerQueue(self._leader_of, finished)
        self._pending: dict[object, dict[str, Pending]] = {}
        self._tasks: dict[asyncio.Task[None], int] = {}
        self._busy: Counter[int] = Counter()
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0
        self._closed = False

    @property
    def missing(self) -> int:
        """Partitions that have not got their marker yet."""
        return sum(len(each.missing) for owned in self._pending.values() for each in owned.values())

    def send(self, pending: Pending) -> None:
        self._pending.setdefault(pending.owner, {})[pending.id] = pending
        self._queue.add(pending)
        self._pump()

    def done(self, pending: Pending) -> None:
        """Forget a transaction that is finished."""
        owned = self._pending.get(pending.owner, {})
        if owned.get(pending.id) is pending:
            del owned[pending.id]

    def drop(self, owner: object) -> None:
        """Another broker sees to these transactions from now on."""
        for pending in self._pending.pop(owner, {}).values():
            pending.dropped = True

    def metadata_changed(self) -> None:
        """Leaders may have moved. A broker that is fenced is not waited for: its partitions are led elsewhere."""
        brokers = self._image().brokers
        for broker_id, busy in self._busy.items():
            broker = brokers.get(broker_id)
            if busy and (broker is None or broker.fenced):
                self._peers.drop(broker_id)
        self._queue.leaders_changed()
        self._pump()

    def _leader_of(self, partition: Partition) -> int | None:
        image = self._image()
        found = image.partition(*partition)
        if found is None:
            return None
        broker = image.brokers.get(found.leader)
        return -1 if broker is None or broker.fenced else found.leader

    # Sending

    def _pump(self) -> None:
        if self._closed:
            return
        for broker_id in self._queue.brokers():
            while self._busy[broker_id] < MAX_IN_FLIGHT:
                markers = self._queue.take(broker_id, MAX_MARKERS)
                if not markers:
                    break
                self._busy[broker_id] += 1
                task = start_task(self._deliver(broker_id, markers), f"txn-markers-{broker_id}")
                self._tasks[task] = broker_id
                task.add_done_callback(self._delivered)
        self._arm()

    def _delivered(self, task: asyncio.Task[None]) -> None:
        self._busy[self._tasks.pop(task)] -= 1
        self._pump()

    def _arm(self) -> None:
        at = self._queue.next_at()
        if self._timer is not None:
            if at is not None and self._timer_at <= at:
                return
            self._timer.cancel()
            self._timer = None
        if at is not None:
            self._timer, self._timer_at = asyncio.get_running_loop().call_at(at, self._time), at

    def _time(self) -> None:
        self._timer = None
        self._queue.tick(asyncio.get_running_loop().time())
        self._pump()

    async def _deliver(self, broker_id: int, markers: Sequence[Marker]) -> None:
        now = asyncio.get_running_loop().time
        markers = [marker for marker in markers if not marker.pending.dropped]
        if not markers:
            return
        try:
            response: Any = await self._peers.call(
                broker_id, WRITE_TXN_MARKERS, VERSION, {"markers": _rows(markers)}, timeout=TIMEOUT_S
            )
        except PEER_ERRORS as error:
            log.info("transaction_markers_not_sent", broker=broker_id, markers=len(markers), error=str(error))
            self._queue.failed(markers, now())
            return
        answers = {
            (row.producer_id, topic.name, each.partition_index): ErrorCode(each.error_code)
            for row in response.markers
            for topic in row.topics
            for each in topic.partitions
        }
        refused = []
        for marker in markers:
            key = (marker.pending.transaction.producer.id, *marker.partition)
            error_code = answers.get(key, ErrorCode.unknown_server_error)
            if error_code is ErrorCode.none:
                self._queue.written(marker)
                continue
            refused.append(marker)
            if error_code not in _EXPECTED and not marker.attempts:
                _warn(marker, error_code)
        self._queue.failed(refused, now())

    async def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        await stop_tasks(tuple(self._tasks))


def _rows(markers: Sequence[Marker]) -> list[dict[str, object]]:
    by_transaction: dict[int, list[Marker]] = {}
    for marker in markers:
        by_transaction.setdefault(id(marker.pending), []).append(marker)
    return [_row(each) for each in by_transaction.values()]


def _row(markers: Sequence[Marker]) -> dict[str, object]:
    pending = markers[0].pending
    transaction = pending.transaction
    partitions = sorted(marker.partition for marker in markers)
    return {
        "producer_id": transaction.producer.id,
        "producer_epoch": transaction.producer.epoch,
        "transaction_result": transaction.state is State.PREPARE_COMMIT,
        "topics": [
            {"name": topic, "partition_indexes": [index for _, index in rows]}
            for topic, rows in groupby(partitions, lambda at: at[0])
        ],
        "coordinator_epoch": pending.coordinator_epoch,
        "transaction_version": transaction.version,
    }


def _warn(marker: Marker, error: ErrorCode) -> None:
    """It is tried again all the same: to call the transaction complete would leave the partition with an open one,
    which a later marker would then end as if it were its own."""
    topic, index = marker.partition
    log.warning(
        "transaction_marker_refused",
        transactional_id=marker.pending.id,
        topic=topic,
        partition=index,
        error=error.name,
        producer=marker.pending.transaction.producer,
    )

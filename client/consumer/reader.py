"""Positions, and the records that follow them: what a consumer does with the partitions that it has."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import Self

from kio.schema.errors import ErrorCode

from ottla.client.consumer.fetcher import Fetcher
from ottla.client.consumer.grouping import Grouping
from ottla.client.consumer.position import PartitionState
from ottla.client.errors import ConsumerStoppedError, IllegalStateError, KafkaError, error_for
from ottla.client.network import Network
from ottla.client.offsets import EARLIEST, LATEST, list_offsets
from ottla.client.structs import ConsumerRecord, OffsetAndTimestamp, TopicPartition


class Reader:
    """The part of `Consumer` that knows nothing of where its partitions come from."""

    _network: Network
    _fetcher: Fetcher
    _group: Grouping | None
    _timeout: float
    _isolation_level: int
    _max_poll_records: int

    def __init__(self) -> None:
        self._started = self._stopped = False
        self._waiters: dict[asyncio.Future[None], None] = {}

    def assignment(self) -> set[TopicPartition]:
        """The partitions that are read."""
        return set(self._fetcher.states)

    async def topics(self) -> set[str]:
        """The names of all topics of the cluster."""
        self._running()
        answer = (await self._network.fetch_metadata(None, self._timeout)).answer
        return {topic.name for topic in answer.topics if topic.name and topic.error_code is ErrorCode.none}

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        """The topic's partitions, None if it is not among those that the consumer knows."""
        return set(self._network.metadata.partitions_for(topic)) or None

    async def partitions_of(self, topic: str) -> set[int]:
        """The topic's partitions, asked of the cluster. Raises UnknownTopicOrPartitionError."""
        self._running()
        answer, broker, attempts = await self._network.fetch_metadata([topic], self._timeout)
        for found in answer.topics:
            if found.error_code is not ErrorCode.none:
                raise error_for(found.error_code, f"topic {topic!r}", broker=broker, attempts=attempts)
        return {p.partition_index for found in answer.topics for p in found.partitions}

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Go on from `offset` in the partition."""
        if offset < 0:
            raise ValueError(f"offset {offset} is negative")
        self._state(partition).seek(offset)
        self._fetcher.wake()
        self._on_data()

    async def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        """Go to the first record of the partitions (default: all that are assigned), and wait until that is done."""
        await self._seek_to(EARLIEST, partitions)

    async def seek_to_end(self, *partitions: TopicPartition) -> None:
        """Go behind the last record of the partitions (default: all that are assigned), and wait until that is done."""
        await self._seek_to(LATEST, partitions)

    async def position(self, partition: TopicPartition) -> int:
        """The offset of the next record to be handed out; waits until it is known.

        Raises IllegalStateError when the partition is not assigned, or not any more.
        """
        # Looked up anew each time: what was taken away meanwhile never gets a position.
        while (state := self._state(partition)).position < 0:
            self._running()
            if state.error is not None:
                error, state.error = state.error, None
                self._fetcher.wake()
                raise error
            await self._wait_for_data(None)
        return state.position

    def pause(self, *partitions: TopicPartition) -> None:
        """Hand out nothing of these partitions until `resume`."""
        for partition in partitions:
            self._state(partition).paused = True

    def resume(self, *partitions: TopicPartition) -> None:
        """Undo `pause`."""
        for partition in partitions:
            self._state(partition).paused = False
        self._fetcher.wake()
        self._on_data()

    def paused(self) -> set[TopicPartition]:
        """The partitions that are paused."""
        return {tp for tp, state in self._fetcher.states.items() if state.paused}

    def highwater(self, partition: TopicPartition) -> int | None:
        """The partition's high watermark as of the last fetch, None before the first."""
        high_watermark = self._state(partition).high_watermark
        return high_watermark if high_watermark >= 0 else None

    def last_stable_offset(self, partition: TopicPartition) -> int | None:
        """The partition's last stable offset as of the last fetch, None before the first."""
        offset = self._state(partition).last_stable_offset
        return offset if offset >= 0 else None

    def lag(self, partition: TopicPartition) -> int | None:
        """How many offsets the position is behind the end as of the last fetch (read_committed: behind the last stable
        offset), None before the first."""
        state = self._state(partition)
        end = state.last_stable_offset if self._isolation_level else state.high_watermark
        return max(end - state.position, 0) if end >= 0 and state.position >= 0 else None

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The high watermarks (read_committed: last stable offsets) of any partitions."""
        return await self._offsets(partitions, LATEST)

    async def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offsets of any partitions."""
        return await self._offsets(partitions, EARLIEST)

    async def offsets_for_times(
        self, timestamps: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """The first record at or after each time (ms since the epoch), None if there is none."""
        self._running()
        if any(time < 0 for time in timestamps.values()):
            raise ValueError("a time is negative")
        found = await list_offsets(self._network, timestamps, self._timeout, self._isolation_level)
        return {tp: place if place.offset >= 0 else None for tp, place in found.items()}

    # -- reading -------------------------------------------------------------------------------------------

    async def getone(self, *partitions: TopicPartition) -> ConsumerRecord:
        """The next record of any of the partitions (default: all that are assigned)."""
        while True:
            for records in self._take(partitions, 1).values():
                return records[0]
            await self._wait_for_data(None)

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: float = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[ConsumerRecord]]:
        """Records by partition, as many as are there; waits up to `timeout_ms` for the first."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_ms / 1000
        limit = max_records or self._max_poll_records
        while True:
            records = self._take(partitions, limit)
            left = deadline - loop.time()
            if records or left <= 0:
                break
            await self._wait_for_data(left)
        return records

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ConsumerRecord:
        try:
            return await self.getone()
        except ConsumerStoppedError:
            raise StopAsyncIteration from None

    # -- insides -------------------------------------------------------------------------------------------

    def _take(self, partitions: Collection[TopicPartition], limit: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        self._running()
        if self._fetcher.failure is not None:
            raise KafkaError(f"the consumer failed: {self._fetcher.failure!r}") from self._fetcher.failure
        if self._group is not None:
            self._group.polled()
        if self._group is None or not self._group.takes_part:
            for partition in partitions:
                self._state(partition)
        return self._fetcher.take(list(partitions or self._fetcher.states), limit)

    def _running(self) -> None:
        if not self._started or self._stopped:
            raise ConsumerStoppedError("the consumer is not running")

    def _state(self, partition: TopicPartition) -> PartitionState:
        state = self._fetcher.states.get(partition)
        if state is None:
            raise IllegalStateError(f"{partition} is not assigned")
        return state

    async def _seek_to(self, where: int, partitions: Collection[TopicPartition]) -> None:
        self._running()
        chosen = list(partitions or self._fetcher.states)
        for partition in chosen:
            self._state(partition).reset(where)
        self._fetcher.wake()
        await self._positions(chosen, named=bool(partitions))

    async def _positions(self, chosen: Iterable[TopicPartition], *, named: bool) -> list[TopicPartition]:
        """Wait until the positions are known. Those of partitions that the program has not `named` and that are taken
        away meanwhile are not waited for. Returns the others."""
        left = []
        for partition in chosen:
            try:
                await self.position(partition)
            except IllegalStateError:
                self._running()
                if named or partition in self._fetcher.states:
                    raise
            else:
                left.append(partition)
        return left

    async def _offsets(self, partitions: Iterable[TopicPartition], where: int) -> dict[TopicPartition, int]:
        self._running()
        times = {TopicPartition(*tp): where for tp in partitions}
        found = await list_offsets(self._network, times, self._timeout, self._isolation_level)
        return {tp: place.offset for tp, place in found.items()}

    async def _wait_for_data(self, timeout: float | None) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[future] = None
        if self._group is not None:
            self._group.waiting()
        try:
            await asyncio.wait([future], timeout=timeout)
        finally:
            self._waiters.pop(future, None)

    def _on_data(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

"""The consumer that programs use."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Collection, Iterable, Mapping
from types import TracebackType
from typing import Literal, Self

from kio.schema.errors import ErrorCode

from ottla.client.consumer.chunk import Deserializer, as_is
from ottla.client.consumer.fetcher import Fetcher, FetchOptions
from ottla.client.consumer.position import PartitionState
from ottla.client.errors import ConsumerStoppedError, IllegalStateError, KafkaError, error_for
from ottla.client.network import Network
from ottla.client.offsets import EARLIEST, LATEST, list_offsets
from ottla.client.options import make_options
from ottla.client.structs import ConsumerRecord, OffsetAndTimestamp, TopicPartition

_RESETS = {"earliest": EARLIEST, "latest": LATEST, "none": None}
_ISOLATION = {"read_uncommitted": 0, "read_committed": 1}


class Consumer:
    """Reads partitions from positions of its own, without a consumer group.

    `Consumer("a", "b")` reads all partitions of the topics, also those that are added later; without topics, `assign`
    says what to read. Use it as an async context manager, or call `start` and `stop`. Every batch's checksum is
    checked. Positions are checked against leader epochs, so that a truncated log is noticed (KIP-320).

    Args:
        group_id: None; consuming as a member of a group is not offered.
        auto_offset_reset: where a partition without a position begins: "earliest", "latest", or "none" for an error.
        max_poll_records: the most that one `getmany` gives.
        fetch_max_wait_ms, fetch_min_bytes, fetch_max_bytes, max_partition_fetch_bytes: as Kafka's keys.
        isolation_level: "read_uncommitted" or "read_committed".
    """

    def __init__(
        self,
        *topics: str,
        bootstrap_servers: str | Iterable[str] = "127.0.0.1:9092",
        client_id: str | None = None,
        group_id: None = None,
        auto_offset_reset: Literal["earliest", "latest", "none"] = "latest",
        key_deserializer: Deserializer | None = None,
        value_deserializer: Deserializer | None = None,
        fetch_max_wait_ms: float = 500,
        fetch_min_bytes: int = 1,
        fetch_max_bytes: int = 52428800,
        max_partition_fetch_bytes: int = 1048576,
        max_poll_records: int = 500,
        isolation_level: Literal["read_uncommitted", "read_committed"] = "read_uncommitted",
        client_rack: str = "",
        allow_auto_create_topics: bool = True,
        request_timeout_ms: float = 30000,
        retry_backoff_ms: float = 50,
        retry_backoff_max_ms: float = 1000,
        connect_timeout_ms: float = 1000,
        metadata_max_age_ms: float = 300000,
        ssl_context: ssl.SSLContext | None = None,
        rng: random.Random | None = None,
    ) -> None:
        if group_id is not None:
            raise ValueError("group_id: this consumer reads by assignment only")
        if auto_offset_reset not in _RESETS:
            raise ValueError(f"auto_offset_reset {auto_offset_reset!r} is none of {', '.join(_RESETS)}")
        if isolation_level not in _ISOLATION:
            raise ValueError(f"isolation_level {isolation_level!r} is none of {', '.join(_ISOLATION)}")
        options = make_options(
            bootstrap_servers,
            client_id=client_id or "ottla-consumer",
            request_timeout_ms=request_timeout_ms,
            metadata_max_age_ms=metadata_max_age_ms,
            retry_backoff_ms=retry_backoff_ms,
            retry_backoff_max_ms=retry_backoff_max_ms,
            connect_timeout_ms=connect_timeout_ms,
            ssl_context=ssl_context,
            rng=rng,
        )
        fetch_options = FetchOptions(
            max_wait=fetch_max_wait_ms / 1000,
            min_bytes=fetch_min_bytes,
            max_bytes=fetch_max_bytes,
            max_partition_bytes=max_partition_fetch_bytes,
            isolation_level=_ISOLATION[isolation_level],
            reset_to=_RESETS[auto_offset_reset],
            rack=client_rack,
            key=key_deserializer or as_is,
            value=value_deserializer or as_is,
        )
        self._timeout = request_timeout_ms / 1000
        self._isolation_level = _ISOLATION[isolation_level]
        self._max_poll_records = max_poll_records
        self._topics = tuple(dict.fromkeys(topics))
        self._network = Network(options, allow_auto_create=allow_auto_create_topics)
        self._fetcher = Fetcher(self._network, fetch_options, self._on_data)
        self._started = self._stopped = False
        self._waiters: dict[asyncio.Future[None], None] = {}

    # -- life ----------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Connect, and begin to fetch. Raises NoBrokersAvailable, UnknownTopicOrPartitionError."""
        self._network.topics.update(self._topics)
        try:
            await self._network.start()
            for topic in self._topics:
                await self._network.ensure_topic(topic, self._timeout)
        except BaseException:
            await self._network.close()
            raise
        self._started = True
        if self._topics:
            self._follow_topics()
            self._network.on_change(self._follow_topics)
        self._fetcher.start()

    async def stop(self) -> None:
        """Stop fetching and close the connections. Whoever waits for records gets ConsumerStoppedError."""
        if self._stopped:
            return
        self._stopped = True
        await self._fetcher.stop()
        await self._network.close()
        self._on_data()

    # -- what to read --------------------------------------------------------------------------------------

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Read exactly these partitions; those that were assigned before keep their position."""
        if self._topics:
            raise IllegalStateError("the consumer follows topics; assign needs one without topics")
        wanted = [TopicPartition(*tp) for tp in partitions]
        self._network.topics = {tp.topic for tp in wanted}
        self._fetcher.assign(wanted)
        if self._started:
            self._network.request_refresh()

    def assignment(self) -> set[TopicPartition]:
        """The partitions that are read."""
        return set(self._fetcher.states)

    async def topics(self) -> set[str]:
        """The names of all topics of the cluster."""
        self._running()
        answer = await self._network.fetch_metadata(None, self._timeout)
        return {topic.name for topic in answer.topics if topic.name and topic.error_code is ErrorCode.none}

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        """The topic's partitions, None if it is not among those that the consumer knows."""
        return set(self._network.metadata.partitions_for(topic)) or None

    async def partitions_of(self, topic: str) -> set[int]:
        """The topic's partitions, asked of the cluster. Raises UnknownTopicOrPartitionError."""
        self._running()
        answer = await self._network.fetch_metadata([topic], self._timeout)
        for found in answer.topics:
            if found.error_code is not ErrorCode.none:
                raise error_for(found.error_code, f"topic {topic!r}")
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
        """The offset of the next record to be handed out; waits until it is known."""
        state = self._state(partition)
        while state.position < 0:
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
            records = self._take(partitions, 1)
            if records:
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
        result: dict[TopicPartition, list[ConsumerRecord]] = {}
        for record in records:
            result.setdefault(TopicPartition(record.topic, record.partition), []).append(record)
        return result

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ConsumerRecord:
        try:
            return await self.getone()
        except ConsumerStoppedError:
            raise StopAsyncIteration from None

    # -- insides -------------------------------------------------------------------------------------------

    def _take(self, partitions: Collection[TopicPartition], limit: int) -> list[ConsumerRecord]:
        self._running()
        if self._fetcher.failure is not None:
            raise KafkaError(f"the consumer failed: {self._fetcher.failure!r}") from self._fetcher.failure
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

    def _follow_topics(self) -> None:
        known = self._network.metadata
        wanted = [TopicPartition(topic, p) for topic in self._topics for p in sorted(known.partitions_for(topic))]
        if set(wanted) != set(self._fetcher.states):
            self._fetcher.assign(wanted)

    async def _seek_to(self, where: int, partitions: Collection[TopicPartition]) -> None:
        self._running()
        chosen = list(partitions or self._fetcher.states)
        for partition in chosen:
            self._state(partition).reset(where)
        self._fetcher.wake()
        for partition in chosen:
            await self.position(partition)

    async def _offsets(self, partitions: Iterable[TopicPartition], where: int) -> dict[TopicPartition, int]:
        self._running()
        times = {TopicPartition(*tp): where for tp in partitions}
        found = await list_offsets(self._network, times, self._timeout, self._isolation_level)
        return {tp: place.offset for tp, place in found.items()}

    async def _wait_for_data(self, timeout: float | None) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[future] = None
        try:
            await asyncio.wait([future], timeout=timeout)
        finally:
            self._waiters.pop(future, None)

    def _on_data(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

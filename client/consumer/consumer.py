"""The consumer that programs use."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Literal, Self

from ottla.client.consumer.chunk import Deserializer, as_is
from ottla.client.consumer.fetch_options import FetchOptions
from ottla.client.consumer.fetcher import Fetcher
from ottla.client.consumer.grouping import Grouping
from ottla.client.consumer.listener import ConsumerRebalanceListener
from ottla.client.consumer.reader import Reader
from ottla.client.consumer.settings import ISOLATION, Strategy, group_settings, reset_policy
from ottla.client.errors import IllegalStateError
from ottla.client.network import Network
from ottla.client.options import Clock, make_options, wall_clock_ms
from ottla.client.structs import (
    ConsumerGroupMetadata,
    OffsetAndMetadata,
    Offsets,
    SubscriptionPattern,
    TopicPartition,
    to_places,
)


class Consumer(Reader):
    """Reads records: as a member of a consumer group, or by itself.

    `Consumer("a", "b", group_id="g")` shares the partitions of the topics with the other members of the group.
    Without `group_id` it reads all partitions of the topics, also those that are added later. Without topics,
    `subscribe` or `assign` says what to read. Use it as an async context manager, or call `start` and `stop`.

    Every batch's checksum is checked. Positions are checked against leader epochs, so that a truncated log is noticed
    (KIP-320). Automatic commits cover only records after which the program came back for more, so that a record whose
    processing failed is handed out again: at least once.

    Args:
        group_id: the consumer group; None: no group, and nothing to commit to.
        group_instance_id: makes a static member of it: whoever restarts under the same id within the session timeout
            gets the same partitions, and nobody else has to stop for that (KIP-345).
        group_protocol: "classic", or "consumer": the coordinator shares the partitions, and nobody stops for that
            (KIP-848); group_remote_assignor names its rule then ("uniform" or "range"), and the heartbeat interval and
            session timeout are the broker's.
        auto_offset_reset: where a partition without a (valid) position begins: "earliest", "latest", "none" for an
            error, or "by_duration:" and an ISO 8601 duration, such as "by_duration:PT1H": so long ago (KIP-1106).
        enable_auto_commit, auto_commit_interval_ms: commit by itself, so often, before partitions are given up, and
            when it is stopped.
        partition_assignment_strategy: "range", "roundrobin", "sticky", "cooperative-sticky", one or several in order of
            preference. Members keep what they own through a rebalance only if every one of them is cooperative.
        session_timeout_ms: a member that is silent for so long is out. heartbeat_interval_ms: how often it is not.
        max_poll_interval_ms: a program that does not come back for so long is out too. It is also how long the others
            wait for it in a rebalance.
        max_poll_records: the most that one `getmany` gives.
        fetch_max_wait_ms, fetch_min_bytes, fetch_max_bytes, max_partition_fetch_bytes: as Kafka's keys.
        isolation_level: "read_uncommitted" or "read_committed".
        clock, rng: sources of wall-clock time (ms since the epoch) and of randomness.
    """

    def __init__(
        self,
        *topics: str,
        bootstrap_servers: str | Iterable[str] = "127.0.0.1:9092",
        client_id: str | None = None,
        group_id: str | None = None,
        group_instance_id: str | None = None,
        group_protocol: Literal["classic", "consumer"] = "classic",
        group_remote_assignor: str | None = None,
        auto_offset_reset: str = "latest",
        enable_auto_commit: bool = True,
        auto_commit_interval_ms: float = 5000,
        partition_assignment_strategy: Strategy | Sequence[Strategy] = ("range", "cooperative-sticky"),
        session_timeout_ms: float = 45000,
        heartbeat_interval_ms: float = 3000,
        max_poll_interval_ms: float = 300000,
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
        clock: Clock = wall_clock_ms,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__()
        if isolation_level not in ISOLATION:
            raise ValueError(f"isolation_level {isolation_level!r} is none of {', '.join(ISOLATION)}")
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
            isolation_level=ISOLATION[isolation_level],
            reset_to=reset_policy(auto_offset_reset),
            rack=client_rack,
            key=key_deserializer or as_is,
            value=value_deserializer or as_is,
            clock=clock,
        )
        self._timeout = request_timeout_ms / 1000
        self._isolation_level = ISOLATION[isolation_level]
        self._max_poll_records = max_poll_records
        self._topics = tuple(dict.fromkeys(topics))
        self._network = Network(options, allow_auto_create=allow_auto_create_topics)
        self._group = None
        if group_id is not None:
            settings = group_settings(
                group_id,
                instance_id=group_instance_id,
                protocol=group_protocol,
                strategy=partition_assignment_strategy,
                remote_assignor=group_remote_assignor,
                auto_commit_ms=auto_commit_interval_ms if enable_auto_commit else None,
                session_timeout_ms=session_timeout_ms,
                heartbeat_interval_ms=heartbeat_interval_ms,
                max_poll_interval_ms=max_poll_interval_ms,
                rack=client_rack or None,
                require_stable=bool(self._isolation_level),
            )
            self._group = Grouping(self._network, settings, self._on_data)
        committed = None if self._group is None else self._group.lookup
        self._fetcher = Fetcher(self._network, fetch_options, self._on_data, committed, group_id)
        if self._group is not None:
            self._group.fetcher = self._fetcher
            if topics:
                self._group.subscribe(topics, None, None)

    # -- life ----------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What an exception came out of is not processed, and is not committed.
        await self._stop(finished=kind is None)

    async def start(self) -> None:
        """Connect, and begin to fetch; in a group, join, and wait for the first assignment for at most the request
        timeout. Raises NoBrokersAvailable; in a group what keeps the consumer out of it, such as
        GroupMaxSizeReachedError; without one UnknownTopicOrPartitionError."""
        self._network.topics.update(self._topics)
        try:
            await self._network.start()
            if self._group is None:
                for topic in self._topics:
                    await self._network.ensure_topic(topic, self._timeout)
        except BaseException:
            await self._network.close()
            raise
        self._started = True
        self._fetcher.start()
        if self._group is not None:
            try:
                await self._group.start(self._timeout)
            except BaseException:
                await self._stop(finished=False)
                raise
        elif self._topics:
            self._follow_topics()
            self._network.on_change(self._follow_topics)

    async def stop(self) -> None:
        """Commit what was handed out (if commits are automatic), leave the group (unless it is a static member), and
        close the connections. Whoever waits for records gets ConsumerStoppedError."""
        await self._stop(finished=True)

    async def _stop(self, *, finished: bool) -> None:
        if self._stopped:
            return
        self._stopped = True
        self._on_data()
        try:
            if self._group is not None:
                await self._group.stop(self._timeout, finished=finished)
        finally:
            await self._fetcher.stop()
            await self._network.close()

    # -- what to read --------------------------------------------------------------------------------------

    def subscribe(
        self,
        topics: Iterable[str] = (),
        pattern: str | SubscriptionPattern | None = None,
        listener: ConsumerRebalanceListener | None = None,
    ) -> None:
        """Share these topics, or all whose names match the regular expression from their beginning, with the group.
        A SubscriptionPattern is matched by the broker (KIP-848), against whole names, and in the syntax of RE2.

        Takes the place of an earlier subscription; partitions that both have stay. Raises IllegalStateError without a
        group, or when partitions were assigned by hand; ValueError for a pattern that is none, or one for the broker
        under the classic protocol. A broker that cannot take its pattern says so when the consumer starts or reads.
        """
        if isinstance(topics, str):
            raise TypeError("topics: a list of names is expected")
        chosen = tuple(topics)
        if bool(chosen) == (pattern is not None):
            raise ValueError("subscribe takes either topics or a pattern")
        group = self._in_group("subscribe")
        if self._fetcher.states and not group.takes_part:
            raise IllegalStateError("partitions are assigned; unsubscribe before subscribe")
        group.subscribe(chosen, pattern, listener)

    def subscription(self) -> frozenset[str]:
        """The topics that are subscribed to; with a pattern, those that match at present, and with a
        SubscriptionPattern those of them that are assigned."""
        return frozenset(self._topics) if self._group is None else self._group.subscription()

    def unsubscribe(self) -> None:
        """Read nothing, and leave the group in the background."""
        if self._group is not None and self._group.takes_part:
            self._group.unsubscribe()
        else:
            self._topics = ()
            self._fetcher.assign([])

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Read exactly these partitions; those that were assigned before keep their position. Others begin where the
        group has committed, if there is one."""
        if self._topics and self._group is None:
            raise IllegalStateError("the consumer follows topics; assign needs one without topics")
        if self._group is not None and self._group.takes_part:
            raise IllegalStateError("the consumer is subscribed; unsubscribe before assign")
        wanted = [TopicPartition(*tp) for tp in partitions]
        self._network.topics = {tp.topic for tp in wanted}
        self._fetcher.assign(wanted)
        if self._started:
            self._network.request_refresh()

    async def seek_to_committed(self, *partitions: TopicPartition) -> dict[TopicPartition, int | None]:
        """Go to where the group has committed (default: in all partitions that are assigned), and wait until that is
        done; where nothing is committed, by `auto_offset_reset`, and None in the result."""
        self._running()
        self._in_group("seek_to_committed")
        chosen = list(partitions or self._fetcher.states)
        for partition in chosen:
            self._state(partition).reset_to_committed()
        self._fetcher.wake()
        left = await self._positions(chosen, named=bool(partitions))
        return {partition: await self.committed(partition) for partition in left}

    # -- commits -------------------------------------------------------------------------------------------

    async def commit(self, offsets: Offsets | None = None) -> None:
        """Commit these offsets, each that of the next record to read; default: of everything that was handed out.

        Retried through any failover for as long as the partitions stay with this member. Raises CommitFailedError when
        they do not: others go on from the last commit then. Raises a BrokerResponseError or KafkaTimeoutError when it
        does not succeed within the request timeout.
        """
        self._running_or_stopping()
        group = self._in_group("commit")
        chosen = group.consumed() if offsets is None else to_places(offsets)
        await group.committer.commit(chosen, self._timeout)

    def commit_nowait(self, offsets: Offsets | None = None) -> asyncio.Task[None]:
        """`commit` in the background: what is to be committed is settled now. Await the result to learn the outcome."""
        self._running_or_stopping()
        group = self._in_group("commit_nowait")
        chosen = group.consumed() if offsets is None else to_places(offsets)
        return asyncio.get_running_loop().create_task(group.committer.commit(chosen, self._timeout), name="commit")

    async def committed(self, partition: TopicPartition) -> int | None:
        """The offset that the group has committed last, whoever did it, or None."""
        found = await self.committed_metadata(partition)
        return None if found is None else found.offset

    async def committed_metadata(self, partition: TopicPartition) -> OffsetAndMetadata | None:
        """`committed` with what was committed along with the offset."""
        self._running_or_stopping()
        group = self._in_group("committed")
        stable = bool(self._isolation_level)
        return await group.committer.committed(TopicPartition(*partition), self._timeout, require_stable=stable)

    def group_metadata(self) -> ConsumerGroupMetadata:
        """As whom the consumer takes part in its group at present."""
        return self._in_group("group_metadata").metadata()

    # -- insides -------------------------------------------------------------------------------------------

    def _in_group(self, what: str) -> Grouping:
        if self._group is None:
            raise IllegalStateError(f"{what} needs a group_id")
        return self._group

    def _running_or_stopping(self) -> None:
        # A rebalance listener may commit while the consumer is being stopped.
        if not self._started or (self._stopped and not self._fetcher.states):
            self._running()

    def _follow_topics(self) -> None:
        known = self._network.metadata
        wanted = [TopicPartition(topic, p) for topic in self._topics for p in sorted(known.partitions_for(topic))]
        if set(wanted) != set(self._fetcher.states):
            self._fetcher.assign(wanted)

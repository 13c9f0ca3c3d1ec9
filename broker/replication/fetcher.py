"""Follows one leader broker: fetches all partitions that it leads and we replicate, over one connection.

One partition's trouble (a bad batch, a leader that does not know its epoch yet, a full disk) puts that partition aside
for a moment and does not hold up the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import UUID

import structlog
from kio.schema.errors import ErrorCode

from ottla.broker.replication import following
from ottla.broker.replication.authentication import AuthenticationFailed
from ottla.broker.replication.config import ReplicationConfig
from ottla.broker.replication.connecting import Endpoint, OpenConnection
from ottla.broker.replication.followed import Followed, take
from ottla.broker.replication.follower import BadDivergence, FollowerState
from ottla.broker.replication.follower_session import SESSION_ERRORS, FollowerSession, Key, key_of
from ottla.broker.replication.partition import Partition
from ottla.log import DiskError, DiskFull, GroupCommit, LogError, OffsetsOutOfOrder, Truncated
from ottla.records import CorruptBatch
from ottla.tasks import start_task, stop_tasks
from ottla.wire import (
    ConnectionLost,
    FetchPartition,
    FetchPartitionResponse,
    FetchRequest,
    FetchResponse,
    KafkaConnection,
    ProtocolError,
    Raw,
    RequestTimedOut,
    decode_fetch_response,
    encode_fetch_request,
)

log = structlog.get_logger(__name__)

FETCH, FETCH_VERSION = 1, 17
FIRST_BACKOFF_S = 0.02
MAX_BACKOFF_S = 0.5


class FetchRefused(Exception):
    """The leader refuses the fetch as a whole."""


class ReplicaFetcher:
    """`assign` and `remove` may be called at any time; a change ends the long poll under way, by a new connection.

    That costs three round trips on an event that is rare, and needs no understanding with the leader about requests
    that overtake each other in a session.
    """

    def __init__(
        self,
        leader_id: int,
        config: ReplicationConfig,
        open_connection: OpenConnection,
        group: GroupCommit,
        broker_epoch: Callable[[], int],
    ) -> None:
        self.leader_id = leader_id
        self._config = config
        self._open_connection = open_connection
        self._group = group
        self._broker_epoch = broker_epoch
        self._endpoint: Endpoint | None = None
        self._followed: dict[Key, Followed] = {}
        self._aside: dict[Key, Followed] = {}
        self._unsynced: dict[Key, Followed] = {}
        self._session = FollowerSession()
        self._changed: asyncio.Future[None] | None = None
        self._answer: asyncio.Future[memoryview] | None = None
        self._task: asyncio.Task[None] | None = None
        self._connected = False
        self._reported = False

    # What to follow

    def assign(self, partition: Partition) -> None:
        """Follow `partition` in its present role."""
        role = partition.role
        assert isinstance(role, FollowerState) and role.leader_id == self.leader_id
        followed = Followed(partition, role)
        self._followed[followed.key] = followed
        self._aside.pop(followed.key, None)
        self._ask_for(followed)
        self._wake()

    def remove(self, topic_id: UUID, index: int) -> None:
        """Follow it no more. What a request under way still brings is thrown away."""
        key = key_of(topic_id, index)
        self._followed.pop(key, None)
        self._aside.pop(key, None)
        self._unsynced.pop(key, None)
        self._session.forget(topic_id, index)

    def locate(self, endpoint: Endpoint | None) -> None:
        """Where the leader is; None while that is not known."""
        if endpoint != self._endpoint:
            self._endpoint = endpoint
            self._wake()

    def _wake(self) -> None:
        if self._answer is not None:
            self._answer.cancel()
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def _ask_for(self, followed: Followed) -> None:
        """Fetch from where the log ends. With flush "synced" that says "durable up to here", so it is synced first."""
        partition = followed.partition
        held = partition.log
        assert held is not None
        if held.synced and held.recovery_point < held.log_end_offset:
            self._unsynced[followed.key] = followed
        position = FetchPartition(
            partition.index,
            held.log_end_offset,
            self._config.replica_fetch_max_bytes,
            followed.role.leader_epoch,
            held.last_epoch,
            held.log_start_offset,
        )
        self._session.want(partition.topic_id, position)

    # Life

    def start(self) -> None:
        self._task = start_task(self._run(), f"fetch-from-{self.leader_id}")

    async def stop(self) -> None:
        if self._task is not None:
            await stop_tasks([self._task])

    async def _run(self) -> None:
        backoff = FIRST_BACKOFF_S
        while True:
            self._changed = asyncio.get_running_loop().create_future()
            if not self._followed or self._endpoint is None:
                await self._changed
                continue
            self._connected = False
            try:
                await self._connect_and_fetch(self._endpoint)
                backoff = FIRST_BACKOFF_S
            except (ConnectionLost, RequestTimedOut, ProtocolError, AuthenticationFailed, FetchRefused) as error:
                if self._connected:
                    backoff = FIRST_BACKOFF_S
                self._report(error)
                for followed in self._followed.values():
                    following.out_of_touch(followed.partition, followed.role)
                await self._pause(backoff)
                backoff = min(backoff * 2, MAX_BACKOFF_S)

    async def _connect_and_fetch(self, endpoint: Endpoint) -> None:
        """Until the assignment changes, or an error."""
        self._session.reset()
        connection = await self._open_connection(endpoint)
        try:
            while self._followed and endpoint == self._endpoint:
                if not await self._round(connection):
                    return
                if self._reported or not self._connected:
                    log.info("fetcher_connected", leader=self.leader_id, partitions=len(self._followed))
                self._connected, self._reported = True, False
        finally:
            connection.abort()

    def _report(self, error: Exception) -> None:
        """Once for each time that the leader goes away."""
        if not self._reported:
            log.warning("fetcher_disconnected", leader=self.leader_id, error=str(error) or repr(error))
            self._reported = True

    async def _pause(self, seconds: float) -> None:
        changed = self._changed = asyncio.get_running_loop().create_future()
        await asyncio.wait([changed], timeout=seconds)

    # One request

    async def _round(self, connection: KafkaConnection) -> bool:
        """One fetch and what it brings; False when the assignment changed while the leader let us wait."""
        if self._aside:
            self._bring_back(asyncio.get_running_loop().time())
        while self._unsynced:
            await self._sync()
        wait_s = self._config.replica_fetch_wait_max_ms / 1000
        if self._aside:
            retry_at = min(followed.retry_at for followed in self._aside.values())
            wait_s = min(wait_s, max(retry_at - asyncio.get_running_loop().time(), 0.001))
        if not self._session.wanted:
            await self._pause(wait_s)
            return True
        timeout = wait_s + self._config.replica_socket_timeout_ms / 1000
        self._answer = answer = connection.call_raw(FETCH, FETCH_VERSION, self._request(wait_s), timeout=timeout)
        try:
            data = await answer
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return False  # by `_wake`
        finally:
            self._answer = None
        self._process(decode_fetch_response(data, FETCH_VERSION))
        return True

    def _request(self, wait_s: float) -> Raw:
        topics, forgotten = self._session.request()
        for topic_id, rows in topics:
            for row in rows:
                self._followed[topic_id.int, row.partition].asked_at = row.fetch_offset
        request = FetchRequest(
            max_wait_ms=int(wait_s * 1000),
            min_bytes=self._config.replica_fetch_min_bytes,
            max_bytes=self._config.replica_fetch_response_max_bytes,
            session_id=self._session.id,
            session_epoch=self._session.epoch,
            topics=[*topics],
            forgotten=[*forgotten],
            replica_id=self._config.node_id,
            replica_epoch=self._broker_epoch(),
        )
        return encode_fetch_request(FETCH_VERSION, request)

    async def _sync(self) -> None:
        """All that is not durable yet, side by side."""
        waiting = list(self._unsynced.values())
        self._unsynced.clear()
        logs = [(followed, followed.partition.log) for followed in waiting if followed.current]
        futures = [self._group.synced(held, held.log_end_offset) for _, held in logs if held is not None]
        results = await asyncio.gather(*futures, return_exceptions=True)
        for (followed, _), error in zip(logs, results, strict=True):
            if error is None or isinstance(error, Truncated):
                continue
            if not isinstance(error, DiskError | LogError):
                raise error
            if followed.current:
                # Otherwise it may well have been closed, and deleted, because this is no replica any more.
                followed.partition.fail(error)

    def _bring_back(self, now: float) -> None:
        for key, followed in tuple(self._aside.items()):
            if followed.retry_at <= now:
                del self._aside[key]
                self._ask_unless_throttled(followed)

    def _process(self, response: FetchResponse) -> None:
        if response.error_code:
            error = ErrorCode(response.error_code)
            if error in SESSION_ERRORS and self._session.epoch:
                # It was evicted, or the leader has restarted under the same address: begin anew.
                self._session.reset()
                return
            raise FetchRefused(error.name)
        self._session.answered(response.session_id)
        for topic_id, rows in response.topics:
            number = topic_id.int if isinstance(topic_id, UUID) else -1
            for row in rows:
                followed = self._followed.get((number, row.partition))
                if followed is not None and followed.asked_at is not None and followed.current:
                    self._take(followed, row)

    def _take(self, followed: Followed, row: FetchPartitionResponse) -> None:
        """What the leader says of one partition. Whatever goes wrong concerns this partition alone."""
        try:
            trouble = take(followed, row)
        except (CorruptBatch, OffsetsOutOfOrder, BadDivergence, DiskFull) as error:
            trouble = repr(error)
        except (DiskError, LogError) as error:
            followed.partition.fail(error)
            return
        if trouble is None:
            if followed.trouble is not None:
                followed.recovered()
            self._ask_unless_throttled(followed)
        else:
            followed.failed(trouble)
            self._put_aside(followed)

    def _ask_unless_throttled(self, followed: Followed) -> None:
        if followed.partition.fetch_throttle is not None and followed.rests():
            self._put_aside(followed)
        else:
            self._ask_for(followed)

    def _put_aside(self, followed: Followed) -> None:
        """Until `retry_at`."""
        self._session.forget(followed.partition.topic_id, followed.partition.index)
        self._aside[followed.key] = followed

"""One fetch request on its way: look at the partitions, wait if there is too little, look once more, answer.

A pass visits only the partitions that may have something to say. What it finds for one of them is kept apart from what
is told: a session notes "told" only when the answer is made, so that a pass before a wait leaves nothing behind.
"""

from __future__ import annotations

from uuid import UUID

from kio.schema.errors import ErrorCode

from ottla.broker.cluster_view import endpoints
from ottla.broker.context import BrokerContext
from ottla.broker.fetch_sessions import FetchItem, FetchPlan, FetchSession
from ottla.broker.leadership import LED_ELSEWHERE, hinted_endpoints, leader_hint
from ottla.broker.replication import FetchResult, FetchWait, FetchWant, Partition, nearest_replica
from ottla.wire import FetchPartitionResponse, FetchRequest, Raw, encode_fetch_response

HINTS_SINCE = 16
NEARBY_SINCE = 11
TOPIC_IDS_SINCE = 13
READ_COMMITTED = 1
RACK_AWARE = "org.apache.kafka.common.replica.RackAwareReplicaSelector"


def selects_by_rack(context: BrokerContext) -> bool:
    """Whether the leaders here send consumers to the replica in their rack (KIP-392)."""
    return context.config.replica_selector_class == RACK_AWARE


Found = tuple[FetchItem, FetchResult]
"""What a pass found for one partition and is worth telling."""


class Fetching:
    """The state of one request. `found` and `size` (bytes of records) are of the last pass.

    `urgent`: answer without waiting, whatever `size` is (an error, a truncation to be told). `news`: a follower has to
    hear of a high watermark or log start, though not at once. `nothing_asked`: neither the request nor its session
    names a partition, so that nothing can come.
    """

    __slots__ = (
        "_budget",
        "_committed_only",
        "_context",
        "_goes_elsewhere",
        "_nearby",
        "_plan",
        "_request",
        "_version",
        "follower",
        "found",
        "listener",
        "news",
        "nothing_asked",
        "size",
        "urgent",
    )

    def __init__(
        self, context: BrokerContext, version: int, request: FetchRequest, plan: FetchPlan, listener: str
    ) -> None:
        self._context = context
        self._version = version
        self._request = request
        self._plan = plan
        budget = context.config.fetch_max_bytes
        self._budget = budget if budget < request.max_bytes else request.max_bytes
        self.follower = follower = request.replica_id >= 0
        self._nearby = version >= NEARBY_SINCE and not follower
        self._committed_only = request.isolation_level == READ_COMMITTED and not follower
        self._goes_elsewhere = self._nearby and bool(request.rack_id) and selects_by_rack(context)
        self.listener = listener
        self.found: list[Found] = []
        self.size = 0
        self.urgent = self.news = False
        self.nothing_asked = not (plan.full_items if plan.session is None else plan.session.items)

    # Looking

    def look(self, *, first: bool) -> None:
        """One pass. Only the `first` one counts as a sign of what a follower has."""
        plan = self._plan
        session, incremental = plan.session, plan.incremental
        found: list[Found] = []
        self.found = found
        self.size = 0
        self.urgent = self.news = False
        if session is not None and session.epoch != plan.epoch:
            self.urgent = True  # `plan.lost`
            return
        error = ErrorCode.none
        for item in plan.items():
            partition: Partition | None = item.partition
            if (
                partition is None
                or partition.retired
                or partition.failure is not None
                or item.committed_only is not self._committed_only
            ):
                partition, error = self._resolve(item)
            result = FetchResult(error) if partition is None else self._read(partition, item, first)
            if result.records:
                self.size += len(result.records)
            elif result.error is not ErrorCode.none or result.diverging is not None or result.preferred >= 0:
                self.urgent = True
            elif incremental and session is not None:
                if result.high_watermark == item.told_high_watermark and result.log_start_offset == item.told_log_start:
                    if partition is not None and self._rests(item, partition):
                        session.cool(item)
                    continue
                if self.follower:
                    self.news = True
            found.append((item, result))

    def _resolve(self, item: FetchItem) -> tuple[Partition | None, ErrorCode]:
        """The partition, by name or id, for as long as it stays, or why there is none; a session also begins to watch
        it."""
        replicas = self._context.replicas
        topic, index = item.topic, item.row.partition
        partition = (
            replicas.partition(topic, index) if isinstance(topic, str) else replicas.partition_by_id(topic, index)
        )
        if isinstance(partition, ErrorCode):
            return None, partition
        session = self._plan.session
        committed_only = self._committed_only
        if session is None:
            item.partition, item.committed_only = partition, committed_only
        elif item.partition is not partition or item.committed_only is not committed_only:
            item.release()
            item.partition = partition
            item.committed_only = committed_only
            item.unwatch = partition.watch(Alarm(session, item), follower=self.follower, committed_only=committed_only)
        return partition, ErrorCode.none

    def _read(self, partition: Partition, item: FetchItem, first: bool) -> FetchResult:
        request, row = self._request, item.row
        room = self._budget - self.size
        if room > row.max_bytes:
            room = row.max_bytes
        want = FetchWant(
            row.fetch_offset,
            room if room > 0 else 0,
            row.current_leader_epoch,
            row.last_fetched_epoch,
            request.replica_id,
            request.replica_epoch,
            row.log_start_offset,
            self._committed_only,
        )
        # KIP-74: the first batch of the first partition that has one comes whole, or a client could be stuck for ever.
        replicas, min_one = self._context.replicas, self.size == 0
        if first and request.replica_id >= 0:
            return replicas.read_for_follower(partition, want, min_one=min_one)
        if self._goes_elsewhere and partition.is_leader:
            preferred = self._preferred(partition, want)
            if preferred is not None:
                return preferred
        elif self._nearby and not partition.is_leader and (request.rack_id or want.current_leader_epoch >= 0):
            # Nobody but a consumer that knows of racks or epochs is here for a purpose, and not by old metadata.
            return replicas.read_as_follower(partition, want, min_one=min_one)
        return replicas.read(partition, want, min_one=min_one)

    def _preferred(self, partition: Partition, want: FetchWant) -> FetchResult | None:
        """The word that another replica is nearer to the consumer, if one is (KIP-392)."""
        if partition.check_leader(want.current_leader_epoch) is not ErrorCode.none:
            return None
        racks = {broker.id: broker.rack or "" for broker, _ in endpoints(self._context.view.image, self.listener)}
        nearest = nearest_replica(partition, want.offset, self._request.rack_id, racks)
        if nearest is None:
            return None
        return FetchResult(
            ErrorCode.none,
            high_watermark=partition.high_watermark,
            last_stable_offset=partition.last_stable_offset,
            log_start_offset=partition.log_start_offset,
            preferred=nearest,
        )

    def _rests(self, item: FetchItem, partition: Partition) -> bool:
        """Whether nothing can come of this partition before its next event.

        Not when data was left behind for lack of room; nor for a follower outside the ISR, whose every fetch may bring
        it in.
        """
        if not self.follower:
            end = partition.last_stable_offset if self._committed_only else partition.role.high_watermark
            return item.row.fetch_offset >= end
        image = partition.image
        return (
            item.row.fetch_offset >= partition.log_end_offset
            and image is not None
            and self._request.replica_id in image.isr
        )

    # Waiting

    def watch(self, wait: FetchWait) -> None:
        """Let `wait` hear of the partitions. A session is watching them already."""
        session = self._plan.session
        if session is not None:
            session.wait = wait
            return
        for item in self._plan.items():
            partition, _ = self._resolve(item)
            if partition is not None:
                wait.hold(partition.watch(wait.gained, follower=self.follower, committed_only=self._committed_only))

    # Answering

    def answer(self, throttle_ms: int = 0) -> Raw:
        plan, version, found = self._plan, self._version, self.found
        session = plan.session
        if session is not None and session.epoch != plan.epoch:
            return encode_fetch_response(version, (), error_code=plan.lost)
        hints: set[int] = set()
        topics: dict[str | int, tuple[str | UUID, list[FetchPartitionResponse]]] = {}
        for item, result in found:
            hint = None
            if result.error in LED_ELSEWHERE and version >= HINTS_SINCE:
                hint = self._hint(item)
                hints.add(hint[0])
            row = FetchPartitionResponse(
                item.row.partition,
                result.error,
                result.high_watermark,
                result.last_stable_offset,
                result.log_start_offset,
                result.records,
                result.aborted if self._committed_only and result.error is ErrorCode.none else None,
                result.preferred,
                result.diverging,
                hint,
            )
            number = item.key[0]
            if number in topics:
                topics[number][1].append(row)
            else:
                topics[number] = (item.topic, [row])
            if session is not None:
                self._note(session, item, result)
        return encode_fetch_response(
            version,
            list(topics.values()),
            session_id=0 if session is None else session.id,
            throttle_ms=throttle_ms,
            node_endpoints=hinted_endpoints(self._context, hints, self.listener) if hints else (),
        )

    def _note(self, session: FetchSession, item: FetchItem, result: FetchResult) -> None:
        """Remember what is told. An error is told again each time, and so is all that follows it (KIP-227)."""
        item.told_log_start = result.log_start_offset
        if result.error is not ErrorCode.none:
            item.told_high_watermark = -1
            return
        item.told_high_watermark = result.high_watermark
        if result.records:
            session.rotate(item)

    def _hint(self, item: FetchItem) -> tuple[int, int]:
        topic = item.topic
        name = topic if isinstance(topic, str) else self._context.view.image.topic_names.get(topic)
        return (-1, -1) if name is None else leader_hint(self._context, name, item.row.partition)


class Alarm:
    """An event of one watched partition: look at it again, and tell the request that waits, if one does."""

    __slots__ = ("_item", "_session")

    def __init__(self, session: FetchSession, item: FetchItem) -> None:
        self._session = session
        self._item = item

    def __call__(self, size: int) -> None:
        session, item = self._session, self._item
        if item.partition is None:
            return  # the session has given it up in the middle of telling those who watch it
        session.hot[item.key] = item
        wait = session.wait
        if wait is not None and not wait.over:
            wait.gained(size)

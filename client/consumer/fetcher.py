"""The consumer's shell: keeps every assigned partition positioned, validated and fetched.

One Fetch is outstanding per leader broker, on a connection of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from functools import partial
from typing import Any, Final

from ottla.client.consumer.answer import FetchAnswer, corrupt, on_truncation, take_in
from ottla.client.consumer.fetch_options import FetchOptions, time_of
from ottla.client.consumer.fetch_request import FETCH, Asked, fetch_request
from ottla.client.consumer.position import PartitionState, Phase
from ottla.client.consumer.sources import Sources
from ottla.client.errors import (
    KafkaConnectionError,
    KafkaError,
    NoOffsetForPartitionError,
    UnsupportedVersionError,
)
from ottla.client.logs import get_logger
from ottla.client.network import Network
from ottla.client.offsets import EARLIEST, LATEST, epoch_ends_once, list_offsets_once
from ottla.client.stepping import Stepper
from ottla.client.structs import ConsumerRecord, PartitionMetadata, TopicPartition
from ottla.records import CorruptBatch
from ottla.wire import (
    ConnectionLost,
    KafkaConnection,
    ProtocolError,
    RequestTimedOut,
    decode_fetch_response,
)

CHANNEL: Final = "fetch"

CommittedLookup = tuple[Mapping[TopicPartition, tuple[int, int]], Mapping[TopicPartition, KafkaError]]

log = get_logger(__name__)


class Fetcher:
    """Owns the state of the assigned partitions. `on_data` is called when there may be something to take.

    With `committed` a partition begins where the group has committed (a found offset and its epoch, or errors); it may
    raise a KafkaError.
    """

    def __init__(
        self,
        network: Network,
        options: FetchOptions,
        on_data: Callable[[], None],
        committed: Callable[[list[TopicPartition]], Awaitable[CommittedLookup]] | None = None,
        group_id: str | None = None,
    ) -> None:
        self.states: dict[TopicPartition, PartitionState] = {}
        self.failure: BaseException | None = None
        """Why the fetcher cannot go on, if it cannot."""
        self._network = network
        self._options = options
        self._on_data = on_data
        self._committed = committed
        self._group_id = group_id
        self._handed: dict[PartitionState, None] = {}
        self._stepper = Stepper(self._step, self._crash)
        self._sources = Sources(options.max_wait)
        self._tasks: dict[asyncio.Task[None], None] = {}
        network.on_change(self.wake)

    def start(self) -> None:
        self._stepper.start()

    async def stop(self) -> None:
        self._stepper.stop()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wake(self) -> None:
        """Something changed that may let a partition go on."""
        self._stepper.wake()

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Exactly these partitions from now on; those that stay keep their position."""
        wanted = list(dict.fromkeys(partitions))
        gone = self.states.keys() - set(wanted)
        self.states = {tp: self.states.get(tp) or self._new(tp) for tp in wanted}
        self.wake()
        if gone:
            # Whoever waits for something of theirs need not any more.
            self._on_data()

    def _new(self, tp: TopicPartition) -> PartitionState:
        state = PartitionState(tp, self._options.reset_to)
        if self._committed is not None:
            state.phase = Phase.COMMITTED
        return state

    def note_done(self) -> None:
        """The program has come back for more."""
        for state in self._handed:
            state.note_done()
        self._handed.clear()

    def take(self, partitions: Iterable[TopicPartition], limit: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        """Up to `limit` buffered records, by partition, those without any left out. Raises the error of a partition
        that has one, once, if nothing is taken."""
        taken: dict[TopicPartition, list[ConsumerRecord]] = {}
        served: list[TopicPartition] = []
        self.note_done()
        try:
            for tp in partitions:
                state = self.states.get(tp)
                if state is None or state.paused or state.held or limit <= 0:
                    continue
                if state.error is not None and not taken:
                    error, state.error = state.error, None
                    served.append(tp)  # what is not mended by then is told again, after the others have had their turn
                    raise error
                if state.chunks:
                    served.append(tp)
                    self._handed[state] = None
                    records = self._take_from(state, limit, first=not taken)
                    if records:
                        taken.setdefault(state.tp, []).extend(records)
                        limit -= len(records)
        finally:
            if served:
                # Served partitions go to the end, so that a busy one does not starve the rest.
                for tp in served:
                    self.states[tp] = self.states.pop(tp)
                self.wake()
        return taken

    def _take_from(self, state: PartitionState, limit: int, *, first: bool) -> list[ConsumerRecord]:
        try:
            return state.take(limit)
        except CorruptBatch as error:
            # Fetch it again: the bytes may have been damaged on the way. The caller learns of it each time.
            damaged = corrupt(state, state.position, str(error), state.chunks[0].broker)
            state.rewind()
            if first:
                raise damaged from error
            state.error = damaged
            return []

    # -- steps ---------------------------------------------------------------------------------------------

    def _crash(self, error: BaseException) -> None:
        """A broken invariant: nothing more is fetched."""
        self._stepper.stop()
        self.failure = error
        log.error("consumer_failed", error=repr(error))
        self._on_data()

    def _step(self) -> float | None:
        """Start whatever can be started now; the result is when to look again."""
        now = asyncio.get_running_loop().time()
        wake_ups: list[float] = []
        resets: list[PartitionState] = []
        checks: list[PartitionState] = []
        commits: list[PartitionState] = []
        fetches: dict[int, list[PartitionState]] = {}
        metadata = self._network.metadata
        for tp, state in self.states.items():
            known = metadata.partition(tp)
            if known is not None and known is not state.known:
                self._learn(state, known)
            if state.error is not None or state.looking_up:
                continue
            if state.fetching is not None and state.fetching == state.preferred:
                self._sources.choose(state, state.fetching, metadata.brokers, now)
            if state.phase is Phase.RESET and state.reset_to is None:
                state.error = NoOffsetForPartitionError(
                    "there is no position, and auto_offset_reset is none",
                    group_id=self._group_id,
                    partition=tp,
                    leader_epoch=state.leader_epoch,
                )
                self._on_data()
                continue
            if state.retry_at > now:
                wake_ups.append(state.retry_at)
                continue
            if state.phase is Phase.COMMITTED:
                commits.append(state)
                continue
            if known is None or known.leader not in metadata.brokers:
                self._network.request_refresh()
            elif state.phase is Phase.RESET:
                resets.append(state)
            elif state.phase is Phase.VALIDATE:
                checks.append(state)
            elif not state.paused and state.fetching is None and state.buffered < self._options.max_partition_bytes:
                source = known.leader
                if state.preferred is not None:
                    source = self._sources.choose(state, source, metadata.brokers, now)
                fetches.setdefault(source, []).append(state)
        if commits:
            self._look_up(self._to_committed(commits), commits)
        if resets:
            self._look_up(self._reset(resets), resets)
        if checks:
            self._look_up(self._validate(checks), checks)
        for leader, states in fetches.items():
            self._start_fetch(leader, states, now, wake_ups)
        late, looks = self._sources.silent(now)
        if late:
            # Others know whether it still leads.
            self._network.request_refresh()
        wake_ups += looks
        return min(wake_ups, default=None)

    def _learn(self, state: PartitionState, known: PartitionMetadata) -> None:
        """All that is in a topic which was made anew comes after what was read, so it is read from its beginning, also
        where the policy is "latest"; without a policy the program has to say so."""
        (topic, index), position = state.tp, state.position
        to = None if self._options.reset_to is None else EARLIEST
        if state.learn(known, self._network.metadata.topics[topic].topic_id, to):
            log.warning("topic_made_anew", topic=topic, partition=index, position=position)

    def _start_fetch(self, leader: int, states: list[PartitionState], now: float, wake_ups: list[float]) -> None:
        if self._sources.is_busy(leader):
            return
        rests_until = self._sources.rests_until(leader)
        if rests_until > now:
            wake_ups.append(rests_until)
            return
        self._sources.asked(leader, now)
        asked: Asked = []
        for state in states:
            state.fetching = leader
            asked.append((state, state.generation))
        connection = self._network.peek(leader, CHANNEL)
        if connection is None:
            self._spawn(self._connect(leader, asked), f"connect to {leader}")
        else:
            self._fetch(connection, leader, asked)

    def _look_up(self, work: Coroutine[Any, Any, None], states: list[PartitionState]) -> None:
        for state in states:
            state.looking_up = True
        self._spawn(work, "look up offsets")

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks[task] = None
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        error = None if task.cancelled() else task.exception()
        if error is not None and self.failure is None:
            self._crash(error)
        self.wake()

    # -- requests ------------------------------------------------------------------------------------------

    async def _connect(self, leader: int, asked: Asked) -> None:
        try:
            connection = await self._network.connection(leader, CHANNEL)
        except KafkaConnectionError:
            self._in_vain(leader)
            self._over(leader, asked)
        except BaseException:
            self._over(leader, asked)
            raise
        else:
            self._fetch(connection, leader, asked)

    def _fetch(self, connection: KafkaConnection, leader: int, asked: Asked) -> None:
        """Ask; the answer comes to `_fetched`."""
        options = self._options
        try:
            now = asyncio.get_running_loop().time()
            version, body = fetch_request(connection, self._network.metadata, options, asked, now)
        except UnsupportedVersionError as error:
            self._over(leader, asked)
            for state, _ in asked:
                self._fail(state, error.about(broker=leader))
            return
        timeout = options.max_wait + self._network.options.request_timeout
        connection.call_then(FETCH, version, body, partial(self._fetched, leader, version, asked), timeout=timeout)

    def _fetched(self, leader: int, version: int, asked: Asked, answer: memoryview | Exception) -> None:
        if not self._stepper.running:
            self._over(leader, asked)  # after `stop`
            return
        options = self._options
        try:
            if not isinstance(answer, memoryview):
                raise answer
            response = decode_fetch_response(answer, version)
            self._sources.answered(leader)
            now = asyncio.get_running_loop().time()
            taking = FetchAnswer(self._network, leader, options.reset_to, now, options.key, options.value)
            if take_in(taking, response, {state.tp: state for state, was in asked if state.generation == was}):
                self._on_data()
        except (ConnectionLost, RequestTimedOut, ProtocolError):
            self._in_vain(leader)
        except Exception as error:  # noqa: BLE001  whoever polls is told
            self._crash(error)
        self._over(leader, asked)
        self._stepper.step_now()

    def _in_vain(self, leader: int) -> None:
        """There was no answer."""
        options = self._network.options
        now = asyncio.get_running_loop().time()
        self._sources.in_vain(leader, now, lambda count: options.backoff.delay(count, options.rng))
        self._network.request_refresh()

    def _over(self, leader: int, asked: Asked) -> None:
        self._sources.over(leader)
        for state, generation in asked:
            if state.generation == generation:
                state.fetching = None

    async def _to_committed(self, states: list[PartitionState]) -> None:
        asked = {state: state.generation for state in states}
        assert self._committed is not None
        found: Mapping[TopicPartition, tuple[int, int]] = {}
        errors: Mapping[TopicPartition, KafkaError]
        try:
            found, errors = await self._committed([state.tp for state in states])
        except KafkaError as error:
            errors = dict.fromkeys((state.tp for state in states), error)
        finally:
            for state in states:
                state.looking_up = False
        for state, generation in asked.items():
            if state.generation != generation or state.phase is not Phase.COMMITTED:
                continue
            if state.tp in errors:
                self._retry_or_fail(state, errors[state.tp])
            elif state.tp in found:
                state.seek(*found[state.tp])
            else:
                state.reset(self._options.reset_to)
        self._on_data()

    async def _reset(self, states: list[PartitionState]) -> None:
        asked = {state: state.generation for state in states}
        clock = self._options.clock
        times = {state.tp: time_of(state.reset_to, clock) for state in states if state.reset_to is not None}
        try:
            found, errors = await list_offsets_once(self._network, times, self._options.isolation_level)
        finally:
            for state in states:
                state.looking_up = False
        for state, generation in asked.items():
            if state.generation != generation:
                continue
            if state.tp in found and found[state.tp].offset >= 0:
                state.seek(found[state.tp].offset)
            elif state.tp in found:
                # Everything is older than the policy asks for, so that it begins with what comes next.
                state.reset(LATEST)
            elif state.tp in errors:
                self._retry_or_fail(state, errors[state.tp])
        self._on_data()

    async def _validate(self, states: list[PartitionState]) -> None:
        # The answers come from those who lead now; nothing is believed any more once somebody else does.
        leaders = {state.tp: self._network.metadata.leader(state.tp) for state in states}
        asked = {state: state.generation for state in states}
        try:
            found, errors = await epoch_ends_once(self._network, {state.tp: state.fetch_epoch for state in states})
        finally:
            for state in states:
                state.looking_up = False
        for state, generation in asked.items():
            if state.generation != generation:
                continue
            error = errors.get(state.tp)
            if isinstance(error, UnsupportedVersionError):
                state.phase = Phase.FETCH
            elif error is not None:
                self._retry_or_fail(state, error)
            else:
                epoch, end_offset = found[state.tp]
                truncation = state.validated(epoch, end_offset)
                if truncation is not None:
                    on_truncation(state, truncation.about(broker=leaders[state.tp]), self._options.reset_to)
                    self._on_data()

    def _retry_or_fail(self, state: PartitionState, error: KafkaError) -> None:
        if not error.retriable:
            self._fail(state, error)
            return
        state.attempts += 1
        wait = self._network.options.backoff.delay(state.attempts, self._network.options.rng)
        state.retry_at = asyncio.get_running_loop().time() + wait
        self._network.request_refresh()

    def _fail(self, state: PartitionState, error: KafkaError) -> None:
        epoch = state.leader_epoch
        state.error = error.about(partition=state.tp, leader_epoch=epoch, attempts=state.attempts + 1)
        self._on_data()

"""What a consumer in a group has besides its positions: subscription, membership, ownership, commits."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from kio.schema.errors import ErrorCode

from ottla.client.consumer.committer import Committer
from ottla.client.consumer.fetcher import CommittedLookup, Fetcher
from ottla.client.consumer.listener import ConsumerRebalanceListener, notify
from ottla.client.coordinator import Coordinator
from ottla.client.errors import FencedInstanceIdError, KafkaError
from ottla.client.group.assignors import Assignor
from ottla.client.group.classic import ClassicMember
from ottla.client.group.classic_wire import ClassicWire
from ottla.client.group.consumer_protocol import ConsumerMember
from ottla.client.group.consumer_wire import ConsumerWire
from ottla.client.group.member import GroupMember, Wire
from ottla.client.group.model import Fenced, Identity, Machine, MemberConfig, Phase
from ottla.client.group.offsets import Committed
from ottla.client.group.protocol import Partitions
from ottla.client.logs import get_logger
from ottla.client.network import Network
from ottla.client.structs import ConsumerGroupMetadata, OffsetAndMetadata, SubscriptionPattern, TopicPartition
from ottla.tasks import start_task, stop_tasks

INTERNAL: Final = frozenset({"__consumer_offsets", "__transaction_state"})
LAST_COMMIT: Final = 5.0
"""Seconds that the commit before partitions are given up may take: the whole group waits for it."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """Times in seconds; `auto_commit` is the interval, None for no automatic commits. Without `assignors` the
    coordinator shares the partitions (KIP-848), by `remote_assignor` if that is given."""

    member: MemberConfig
    assignors: Sequence[Assignor] | None
    remote_assignor: str | None
    auto_commit: float | None
    require_stable: bool


class Grouping:
    """The group side of one consumer. `fetcher` reads what it says; `on_news` wakes whoever waits for records."""

    def __init__(self, network: Network, settings: GroupSettings, on_news: Callable[[], None]) -> None:
        self.topics: frozenset[str] = frozenset()
        self._network = network
        self._settings = settings
        self._on_news = on_news
        self._coordinator = Coordinator(network, settings.member.group_id)
        self.committer = Committer(network, self._coordinator, settings.member.group_id, self)
        self._fetcher: Fetcher | None = None
        self._listener: ConsumerRebalanceListener | None = None
        self._pattern: re.Pattern[str] | None = None
        self._remote = ""
        self._member: GroupMember | None = None
        self._error: Exception | None = None
        self._crash: BaseException | None = None
        self._holdings: dict[TopicPartition, int] = {}
        self._serial = itertools.count()
        self._committing: asyncio.Task[None] | None = None
        self._running = False

    @property
    def fetcher(self) -> Fetcher:
        assert self._fetcher is not None
        return self._fetcher

    @fetcher.setter
    def fetcher(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher

    @property
    def subscribed(self) -> bool:
        return bool(self.topics or self._remote) or self._pattern is not None

    # -- life ----------------------------------------------------------------------------------------------

    async def start(self, timeout: float) -> None:
        """Join, if there is a subscription, and wait for the first assignment, though not for ever."""
        self._running = True
        self._network.on_change(self._look_at_metadata)
        if self._settings.auto_commit is not None:
            self._committing = start_task(self._commit_now_and_then(self._settings.auto_commit), "auto commit")
        if self._pattern is not None:
            await self._network.refreshed()
        if self.subscribed:
            self._join()
        if self._member is not None:
            await self._member.settled(timeout)
            self._raise()

    async def stop(self, timeout: float, *, finished: bool) -> None:
        """Commit, leave. `finished` says that whatever was handed out is processed."""
        if self._committing is not None:
            await stop_tasks([self._committing])
        if finished:
            self.fetcher.note_done()
        if self._member is not None:
            await self._member.stop(timeout)
        if self._running and self._fetcher is not None:
            await self._auto_commit(self.fetcher.states, min(timeout, LAST_COMMIT))
        self._running = False
        await self._coordinator.close()

    # -- subscription --------------------------------------------------------------------------------------

    def subscribe(
        self,
        topics: Iterable[str],
        pattern: str | SubscriptionPattern | None,
        listener: ConsumerRebalanceListener | None,
    ) -> None:
        """Exactly these topics, or all that match, from now on."""
        remote = pattern.pattern if isinstance(pattern, SubscriptionPattern) else ""
        if remote and self._settings.assignors is not None:
            raise ValueError("a SubscriptionPattern is resolved by the broker, which needs group_protocol='consumer'")
        try:
            compiled = re.compile(pattern) if isinstance(pattern, str) else None
        except re.error as error:
            raise ValueError(f"pattern {pattern!r}: {error}") from error
        self._listener, self._pattern, self._remote = listener, compiled, remote
        self._network.all_topics = pattern is not None
        self.topics = self._matching() if self._pattern is not None else frozenset(topics)
        self._network.topics |= self.topics
        if self._running:
            self._network.request_refresh()
            self._join()

    def unsubscribe(self) -> None:
        """Leave the group; the partitions go at once."""
        self._pattern, self._remote, self.topics = None, "", frozenset()
        self._network.all_topics = False
        if self._member is not None:
            self._member.subscribe(frozenset())

    def subscription(self) -> frozenset[str]:
        return frozenset(tp.topic for tp in self._holdings) if self._remote else self.topics

    def _matching(self) -> frozenset[str]:
        pattern = self._pattern
        names = self._network.metadata.topics.items()
        return frozenset(
            name
            for name, topic in names
            if pattern is not None and pattern.match(name) and name not in INTERNAL and topic.partitions
        )

    def _join(self) -> None:
        if self._member is None and (self.topics or self._remote):
            self._member = GroupMember(self._settings.member.group_id, *self._protocol(), self, self._backoff)
        self._network.topics |= self.topics
        if self._member is not None:
            self._member.subscribe(self.topics, self._remote)

    def _protocol(self) -> tuple[Machine, Wire]:
        config, assignors = self._settings.member, self._settings.assignors
        if assignors is None:
            member_id = str(UUID(int=self._network.options.rng.getrandbits(128), version=4))
            machine = ConsumerMember(config, member_id, self._backoff, self._settings.remote_assignor)
            return machine, ConsumerWire(self._network, self._coordinator, config)
        wire = ClassicWire(self._network, self._coordinator, config, assignors)
        return ClassicMember(config, assignors, self._backoff), wire

    def _backoff(self, attempt: int) -> float:
        options = self._network.options
        return options.backoff.delay(attempt, options.rng)

    def _look_at_metadata(self) -> None:
        if self._pattern is not None:
            topics = self._matching()
            if topics != self.topics:
                self.topics = topics
                self._join()
        if self._member is not None:
            self._member.look_at_metadata()

    # -- the program ---------------------------------------------------------------------------------------

    def polled(self) -> None:
        """The program asks for records. Raises what it has to know of the group."""
        self._raise()
        if self._member is not None:
            self._member.polled()

    def _raise(self) -> None:
        if self._crash is not None:
            raise KafkaError(f"the consumer failed: {self._crash!r}") from self._crash
        if self._error is not None:
            error, self._error = self._error, None
            if isinstance(error, FencedInstanceIdError):
                # The other one stays: there is nothing to go on with.
                self._error = error
            raise error

    def waiting(self) -> None:
        """The program waits for records."""
        if self._member is not None:
            self._member.waiting()

    # -- ownership (committer.Owner) -----------------------------------------------------------------------

    @property
    def takes_part(self) -> bool:
        """Whether the group decides what is read."""
        return self.subscribed or (self._member is not None and self._member.phase is not Phase.OUT)

    def identity(self) -> Identity:
        return self._member.identity if self._member is not None and self.takes_part else Identity()

    def metadata(self) -> ConsumerGroupMetadata:
        identity, config = self.identity(), self._settings.member
        return ConsumerGroupMetadata(config.group_id, identity.generation, identity.member_id, config.instance_id)

    def holding(self, tp: TopicPartition) -> int | None:
        # Who assigns itself its partitions may commit whatever it likes.
        return self._holdings.get(tp) if self.takes_part else 0

    def fenced(self, code: ErrorCode, identity: Identity) -> None:
        if self._member is not None:
            self._member.tell(Fenced(code, identity))

    # -- what the group decides (member.Host) --------------------------------------------------------------

    async def give_up(self, partitions: Partitions, lost: bool) -> None:
        going = frozenset(partitions)
        states = self.fetcher.states
        for tp in going & states.keys():
            states[tp].held = True
        if lost:
            self._drop(going)
        else:
            await self._auto_commit(partitions, min(LAST_COMMIT, self._network.options.request_timeout))
        try:
            if self._listener is not None:
                told = self._listener.on_partitions_lost if lost else self._listener.on_partitions_revoked
                await notify(told, set(going))
        except Exception as error:  # noqa: BLE001  the program's own, and handed back to it
            self._report(error)
        finally:
            self._drop(going)
            self._on_news()

    def _drop(self, going: frozenset[TopicPartition]) -> None:
        for tp in going:
            self._holdings.pop(tp, None)
            self.committer.latest.pop(tp, None)
        self.fetcher.assign([tp for tp in self.fetcher.states if tp not in going])

    async def take_over(self, owned: Partitions, added: Partitions) -> None:
        for tp in added:
            self._holdings[tp] = next(self._serial)
            self.committer.latest.pop(tp, None)
        self._network.topics |= {tp.topic for tp in added}
        if any(self._network.metadata.leader(tp) is None for tp in added):
            self._network.request_refresh()
        self.fetcher.assign(owned)
        new = [self.fetcher.states[tp] for tp in added]
        for state in new:
            state.held = True
        try:
            if self._listener is not None:
                await notify(self._listener.on_partitions_assigned, set(added))
        except Exception as error:  # noqa: BLE001  the program's own, and handed back to it
            self._report(error)
        finally:
            for state in new:
                state.held = False
            self.fetcher.wake()
            self._on_news()

    def failed(self, error: KafkaError) -> None:
        self._error = error
        self._on_news()

    def crashed(self, error: BaseException) -> None:
        log.error("group_member_crashed", group=self._settings.member.group_id, error=repr(error))
        self._crash = error
        self._on_news()

    def _report(self, error: Exception) -> None:
        """A listener has failed: its program hears of it when it reads next."""
        log.error("rebalance_listener_failed", group=self._settings.member.group_id, error=repr(error))
        self._error = error

    # -- positions -----------------------------------------------------------------------------------------

    async def lookup(self, partitions: list[TopicPartition]) -> CommittedLookup:
        """Where the group is, for the fetcher: offset and epoch."""
        found, errors = await self.committer.fetch(partitions, require_stable=self._settings.require_stable)
        for tp, place in found.items():
            if tp in partitions:
                self.committer.latest.setdefault(tp, place)
        return {tp: (place.offset, place.leader_epoch) for tp, place in found.items()}, errors

    def consumed(self) -> Committed:
        """Up to where the program was handed out records."""
        return {
            tp: OffsetAndMetadata(state.position, "", state.position_epoch)
            for tp, state in self.fetcher.states.items()
            if state.position >= 0
        }

    def _done(self, partitions: Iterable[TopicPartition]) -> Committed:
        """Up to where the program has surely processed them, as far as that is not committed yet."""
        states = self.fetcher.states
        done = {
            tp: OffsetAndMetadata(states[tp].done, "", states[tp].done_epoch)
            for tp in partitions
            if tp in states and states[tp].done >= 0
        }
        latest = self.committer.latest
        return {tp: place for tp, place in done.items() if tp not in latest or latest[tp].offset != place.offset}

    async def _auto_commit(self, partitions: Iterable[TopicPartition], timeout: float) -> None:
        if self._settings.auto_commit is None:
            return
        offsets = self._done(list(partitions))
        if not offsets:
            return
        try:
            await self.committer.commit(offsets, timeout)
        except KafkaError as error:
            # The records after the last commit will be handed out once more, to whoever is next.
            log.warning("auto_commit_failed", group=self._settings.member.group_id, error=str(error))

    async def _commit_now_and_then(self, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            await self._auto_commit(self.fetcher.states, max(interval, LAST_COMMIT))

"""A member under the classic protocol: join, sync, stable, and again. A state machine without I/O.

Eager members (KIP-62) give everything up before they join; cooperative ones (KIP-429) keep what they own, learn from
the assignment what has to move, give that up, and join once more. What a member owns holds for one generation: an
answer that says the generation is over makes it lost, and nothing of it is committed any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kio.schema.errors import ErrorCode

from ottla.client.errors import KafkaError, error_for
from ottla.client.group.assignors import Assignor
from ottla.client.group.classic_requests import (
    AGAIN,
    GENERATION_OVER,
    HEARTBEAT,
    JOIN,
    LEAVE,
    STILL_A_MEMBER,
    SYNC,
    Joined,
    heartbeat_values,
    join_values,
    leave_values,
    metadata_of,
    sync_values,
)
from ottla.client.group.model import (
    Answered,
    Done,
    Effects,
    Event,
    Fail,
    Fenced,
    GiveUp,
    Identity,
    MemberConfig,
    Note,
    Phase,
    Polled,
    Refused,
    Rejoin,
    Send,
    Subscribe,
    TakeOver,
    Tick,
    Unreachable,
)
from ottla.client.group.protocol import Partitions


class ClassicMember:
    """`backoff` gives the seconds to wait after so many failures. All times are those of the loop, in seconds."""

    def __init__(self, config: MemberConfig, assignors: Sequence[Assignor], backoff: Callable[[int], float]) -> None:
        self.config = config
        self.assignors = tuple(assignors)
        # Only where every rule is cooperative may one be chosen that lets members keep what they own.
        self.cooperative = all(each.cooperative for each in assignors)
        self.topics: frozenset[str] = frozenset()
        self.member_id = ""
        self.generation = -1
        self.protocol = ""
        self.phase = Phase.OUT
        self.owned: Partitions = ()
        self.failure: KafkaError | None = None
        self._previous: tuple[Partitions, int] = ((), -1)
        self._backoff = backoff
        self._rejoin: str | None = None
        self._lost = False
        self._incoming: Partitions | None = None
        self._asked: str | None = None
        self._attempts = 0
        self._retry_at = 0.0
        self._beating = False
        self._beat_at = 0.0
        self._beat_attempts = 0
        self._idle = False
        self._check_at = 0.0

    @property
    def identity(self) -> Identity:
        return Identity(self.member_id, self.generation, self.config.instance_id)

    def step(self, event: Event, now: float) -> Effects:
        """What has to be done now that this has happened."""
        fx = Effects()
        match event:
            case Subscribe():
                self._subscribe(event.topics, now)
            case Rejoin():
                self._want(event.reason)
            case Answered():
                self._answered(event, now, fx)
            case Unreachable():
                self._unreachable(event.kind, now)
            case Refused():
                self._refused(event, fx)
            case Fenced():
                self._fenced(event)
            case Done():
                self._done()
            case Polled():
                self._polled(now)
            case Tick():
                self._check_idle(event.busy_since, now, fx)
        self._go_on(now, fx)
        self._beat(now, fx)
        self._wake(now, fx)
        return fx

    # -- what happened -------------------------------------------------------------------------------------

    def _subscribe(self, topics: frozenset[str], now: float) -> None:
        if topics == self.topics:
            return
        self.topics = topics
        self._want("the subscription has changed")
        if not topics:
            # Whatever was asked, the answer is of no use any more.
            self._asked, self._incoming, self._idle = None, None, False
            self._retry_at = now
            if self.phase in (Phase.JOINING, Phase.SYNCING):
                self.phase = Phase.STABLE if self.generation >= 0 else Phase.OUT

    def _want(self, reason: str) -> None:
        self._rejoin = self._rejoin or reason

    def _answered(self, event: Answered, now: float, fx: Effects) -> None:
        if event.kind == HEARTBEAT:
            self._on_heartbeat(event, now, fx)
        elif event.kind != self._asked:
            return
        elif event.kind == LEAVE:
            self._left()
        elif event.kind == JOIN:
            self._asked = None
            self._on_join(event, now, fx)
        else:
            self._asked = None
            self._on_sync(event, now, fx)

    def _on_join(self, event: Answered, now: float, fx: Effects) -> None:
        code, body = event.code, event.body
        if code is ErrorCode.none:
            joined: Joined = body
            self.member_id, self.generation, self.protocol = joined.member_id, joined.generation, joined.protocol
            self._attempts, self._beating, self._beat_attempts = 0, False, 0
            self._beat_at = now + self.config.heartbeat_interval
            values = sync_values(self.config, self.identity, self.protocol)
            self._ask(Send(SYNC, values, joined if joined.assigns else None), Phase.SYNCING, fx)
            return
        self._want(f"JoinGroup was answered {code.name}")
        if code is ErrorCode.member_id_required:
            self.member_id = body.member_id
            self._retry_at = now
        else:
            self._failed(event, now, fx)

    def _on_sync(self, event: Answered, now: float, fx: Effects) -> None:
        code, body = event.code, event.body
        if code is ErrorCode.none:
            self._attempts = 0
            self._incoming = body
            fx.actions.append(Note("group_synced", {"generation": self.generation, "partitions": len(body)}))
        else:
            self._want(f"SyncGroup was answered {code.name}")
            self._failed(event, now, fx)

    def _on_heartbeat(self, event: Answered, now: float, fx: Effects) -> None:
        if event.body != self.identity:
            # It speaks of a generation that is over anyway.
            return
        self._beating, code = False, event.code
        if code in STILL_A_MEMBER:
            self._beat_attempts = 0
            if code is ErrorCode.rebalance_in_progress and self.phase not in (Phase.JOINING, Phase.SYNCING):
                self._want("the group rebalances")
        elif code in GENERATION_OVER:
            self._generation_over(code)
        elif code in AGAIN:
            self._beat_later(now)
        else:
            self._fail(event, fx)

    def _unreachable(self, kind: str, now: float) -> None:
        if kind == HEARTBEAT:
            self._beating = False
            self._beat_later(now)
        elif kind == self._asked == LEAVE:
            self._left()
        elif kind == self._asked:
            self._asked = None
            self._want(f"no answer to {kind}")
            self._retry(now)

    def _refused(self, event: Refused, fx: Effects) -> None:
        if event.kind == HEARTBEAT:
            self._beating = False
        elif event.kind == self._asked == LEAVE:
            self._left()
            return
        elif event.kind == self._asked:
            self._asked = None
        else:
            return
        self._break(fx, event.error)

    def _fenced(self, event: Fenced) -> None:
        if event.identity == self.identity and self.generation >= 0 and event.code in GENERATION_OVER:
            self._generation_over(event.code)

    def _done(self) -> None:
        if self.phase in (Phase.GIVING_UP, Phase.TAKING_OVER):
            self.phase = Phase.STABLE

    def _polled(self, now: float) -> None:
        self._idle = False
        if self.phase is Phase.FAILED and not self._fenced_for_good:
            self.phase, self.failure = Phase.OUT, None
            self._retry(now)
        elif self.phase is Phase.IDLE:
            self.phase = Phase.OUT
        self._beat_at = min(self._beat_at, now)

    def _check_idle(self, busy_since: float | None, now: float, fx: Effects) -> None:
        """KIP-62: who does not read for too long is no use to the group, though it lives."""
        limit = self.config.max_poll_interval
        self._check_at = (now if busy_since is None else busy_since) + limit
        if self._idle or self.phase is not Phase.STABLE or busy_since is None or now - busy_since < limit:
            return
        self._idle = True
        facts = {"seconds": limit, "static": self.config.instance_id is not None}
        fx.actions.append(Note("group_member_idle", facts))
        # A static member keeps its place until its session ends: it only stops its heartbeats.
        if self.config.instance_id is None:
            fx.actions.append(Send(LEAVE, leave_values(self.config, self.identity, "max.poll.interval.ms exceeded")))
            self._generation_over(ErrorCode.unknown_member_id)

    # -- failures ------------------------------------------------------------------------------------------

    def _failed(self, event: Answered, now: float, fx: Effects) -> None:
        """A join or sync was refused."""
        code = event.code
        if code in GENERATION_OVER:
            self._generation_over(code)
            self._retry(now)
        elif code in AGAIN:
            self._retry(now)
        else:
            self._fail(event, fx)

    def _generation_over(self, code: ErrorCode) -> None:
        self._want(f"{code.name}")
        self._lost = True
        self.generation, self._incoming = -1, None
        if code is ErrorCode.unknown_member_id:
            self.member_id = ""

    def _retry(self, now: float) -> None:
        self._attempts += 1
        self._retry_at = now + (self._backoff(self._attempts) if self._attempts > 1 else 0.0)

    def _beat_later(self, now: float) -> None:
        self._beat_attempts += 1
        self._beat_at = now + min(self._backoff(self._beat_attempts), self.config.heartbeat_interval)

    def _fail(self, event: Answered, fx: Effects) -> None:
        error = error_for(
            event.code,
            f"member {self.member_id!r}",
            group_id=self.config.group_id,
            generation=self.generation,
            broker=event.broker,
            attempts=self._attempts + 1,
        )
        self._break(fx, error)

    def _break(self, fx: Effects, error: KafkaError) -> None:
        self.failure = error
        self._generation_over(ErrorCode.illegal_generation)
        fx.actions.append(Fail(error))

    @property
    def _fenced_for_good(self) -> bool:
        """Another process has this instance id: to join again would only fence that one in turn."""
        return getattr(self.failure, "code", None) is ErrorCode.fenced_instance_id

    # -- what is next --------------------------------------------------------------------------------------

    def _go_on(self, now: float, fx: Effects) -> None:
        if self.phase in (Phase.GIVING_UP, Phase.TAKING_OVER):
            return
        if self._lost:
            self._lost = False
            self._asked = None
            if self.owned:
                self._give_up(self.owned, fx, lost=True)
                return
        if not self.topics:
            self._get_out(fx)
        elif self.failure is not None:
            self.phase = Phase.FAILED
        elif self._idle and self.config.instance_id is None:
            self.phase = Phase.IDLE
        elif self._asked is not None:
            pass
        elif self._incoming is not None:
            self._change_hands(self._incoming, fx)
        elif self._rejoin is not None:
            self._join(now, fx)
        else:
            self.phase = Phase.STABLE

    def _get_out(self, fx: Effects) -> None:
        if self._asked == LEAVE:
            return
        if self.owned:
            self._give_up(self.owned, fx, lost=self.generation < 0)
        elif self.member_id and self.config.instance_id is None:
            values = leave_values(self.config, self.identity, "the consumer unsubscribed or was closed")
            self._ask(Send(LEAVE, values), Phase.LEAVING, fx)
        else:
            self._left()

    def _left(self) -> None:
        self._asked = None
        self.phase, self.generation = Phase.OUT, -1
        if self.config.instance_id is None:
            self.member_id = ""
        self._previous = ((), -1)
        self._attempts, self._retry_at = 0, 0.0

    def _change_hands(self, incoming: Partitions, fx: Effects) -> None:
        mine = frozenset(incoming)
        gone = tuple(tp for tp in self.owned if tp not in mine)
        if gone:
            # It can be given to its next owner only once nobody has it (KIP-429).
            self._want("partitions were given up")
            self._give_up(gone, fx, lost=False)
            return
        had = frozenset(self.owned)
        self._incoming = None
        self.owned = incoming
        self._previous = (incoming, self.generation)
        self.phase = Phase.TAKING_OVER
        fx.actions.append(TakeOver(incoming, tuple(tp for tp in incoming if tp not in had)))

    def _give_up(self, partitions: Partitions, fx: Effects, *, lost: bool) -> None:
        gone = frozenset(partitions)
        self.owned = tuple(tp for tp in self.owned if tp not in gone)
        self.phase = Phase.GIVING_UP
        fx.actions.append(GiveUp(partitions, lost))

    def _join(self, now: float, fx: Effects) -> None:
        if self.cooperative:
            give_up = tuple(tp for tp in self.owned if tp.topic not in self.topics)
        else:
            give_up = self.owned
        if give_up:
            self._give_up(give_up, fx, lost=False)
            return
        self.phase = Phase.JOINING
        if self._retry_at <= now:
            reason, self._rejoin = self._rejoin or "", None
            fx.actions.append(Note("group_joining", {"reason": reason, "generation": self.generation}))
            owned = self.owned if self.cooperative else ()
            protocols = metadata_of(self.assignors, self.topics, owned, self._previous, self.config.rack)
            values = join_values(self.config, self.member_id, protocols, reason)
            self._ask(Send(JOIN, values), Phase.JOINING, fx)

    def _ask(self, send: Send, phase: Phase, fx: Effects) -> None:
        self._asked, self.phase = send.kind, phase
        fx.actions.append(send)

    def _beat(self, now: float, fx: Effects) -> None:
        """A member that has synced lives by its heartbeats, also while its program is busy with an assignment."""
        if self._beats and not self._beating and self._beat_at <= now:
            self._beating = True
            self._beat_at = now + self.config.heartbeat_interval
            fx.actions.append(Send(HEARTBEAT, heartbeat_values(self.config, self.identity), self.identity))

    @property
    def _beats(self) -> bool:
        settled = self.phase in (Phase.STABLE, Phase.GIVING_UP, Phase.TAKING_OVER)
        return settled and self.generation >= 0 and not self._idle

    @property
    def waits_for_poll(self) -> bool:
        """Nothing goes on before the program reads again."""
        return self._idle or self.phase is Phase.FAILED

    def _wake(self, now: float, fx: Effects) -> None:
        times = []
        if self._beats and not self._beating:
            times.append(self._beat_at)
        if self.phase is Phase.JOINING and self._asked is None:
            times.append(self._retry_at)
        if self.phase is Phase.STABLE and not self._idle:
            if self._check_at <= now:
                self._check_at = now + self.config.max_poll_interval
            times.append(self._check_at)
        fx.wake_at = min(times, default=None)

"""A member under KIP-848: with one kind of request it joins, lives, says what it has and learns what it is to have.

The coordinator decides; the member moves from what it owns to its target, gives up before it takes over, and says so.
Until it said that it gave something up nobody else gets it. A state machine without I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple
from uuid import UUID

from kio.schema.errors import ErrorCode

from ottla.client.errors import KafkaError, error_for
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

BEAT: Final = "beat"
LEAVE: Final = "leave"
JOINING_EPOCH: Final = 0
LEAVING_EPOCH: Final = -1
AWAY_EPOCH: Final = -2
"""A static member goes, and will be back (KIP-345)."""

_AGAIN: Final = frozenset(
    {
        ErrorCode.coordinator_load_in_progress,
        ErrorCode.coordinator_not_available,
        ErrorCode.not_coordinator,
        ErrorCode.request_timed_out,
        ErrorCode.network_exception,
        ErrorCode.unknown_server_error,
    }
)
_OUT: Final = frozenset({ErrorCode.fenced_member_epoch, ErrorCode.unknown_member_id, ErrorCode.illegal_generation})
_BEATING: Final = frozenset({Phase.JOINING, Phase.STABLE, Phase.GIVING_UP, Phase.TAKING_OVER})
_TELLING: Final = frozenset({Phase.GIVING_UP, Phase.TAKING_OVER})


class Beaten(NamedTuple):
    """What an answer says. `interval` in seconds; `target` of None: as it was told before."""

    member_id: str
    epoch: int
    interval: float
    target: Partitions | None = None
    ids: Mapping[str, UUID] = {}
    message: str | None = None


class ConsumerMember:
    """`member_id` is drawn by the shell, and stays; `backoff` gives the seconds to wait after so many failures."""

    def __init__(
        self, config: MemberConfig, member_id: str, backoff: Callable[[int], float], assignor: str | None = None
    ) -> None:
        self.config = config
        self.assignor = assignor
        self.topics: frozenset[str] = frozenset()
        self.regex = ""
        self.member_id = member_id
        self.epoch = -1
        self.phase = Phase.OUT
        self.owned: Partitions = ()
        self.failure: KafkaError | None = None
        self._backoff = backoff
        self._target: Partitions | None = None
        self._ids: dict[str, UUID] = {}
        self._going: Partitions = ()
        self._asked: str | None = None
        self._everything = True
        self._urgent = False
        self._beat_at = 0.0
        self._interval = config.heartbeat_interval
        self._attempts = 0
        self._lost = False
        self._idle = False
        self._check_at = 0.0

    @property
    def identity(self) -> Identity:
        """The member epoch stands where the classic protocol has the generation."""
        return Identity(self.member_id, self.epoch if self.epoch > 0 else -1, self.config.instance_id)

    @property
    def waits_for_poll(self) -> bool:
        """Nothing goes on before the program reads again."""
        return self._idle or self.phase is Phase.FAILED

    def step(self, event: Event, now: float) -> Effects:
        """What has to be done now that this has happened."""
        fx = Effects()
        match event:
            case Subscribe():
                self._subscribe(event.topics, event.regex)
            case Answered():
                self._answered(event, now, fx)
            case Unreachable():
                self._unanswered(event.kind, now)
            case Refused():
                if event.kind == self._asked == BEAT:
                    self._break(event.error, fx)
                else:
                    self._unanswered(event.kind, now)
            case Fenced():
                if event.identity == self.identity and self.epoch > 0 and event.code in _OUT:
                    self._out()
            case Done():
                self._done()
            case Polled():
                self._polled(now)
            case Tick():
                self._check_idle(event.busy_since, now, fx)
            case Rejoin():
                # The coordinator looks after that.
                pass
        self._go_on(fx)
        self._beat(now, fx)
        self._wake(now, fx)
        return fx

    # -- what happened -------------------------------------------------------------------------------------

    @property
    def subscribed(self) -> bool:
        return bool(self.topics or self.regex)

    def _subscribe(self, topics: frozenset[str], regex: str) -> None:
        if (topics, regex) == (self.topics, self.regex):
            return
        self.topics, self.regex = topics, regex
        self._everything = self._urgent = True
        self._idle = self._idle and self.subscribed

    def _answered(self, event: Answered, now: float, fx: Effects) -> None:
        if event.kind != self._asked:
            return
        self._asked = None
        if event.kind == LEAVE:
            self._left()
        elif event.code is ErrorCode.none:
            self._take_in(event.body, now, fx)
        elif event.code in _OUT:
            self._out()
        elif event.code in _AGAIN:
            self._later(now)
        else:
            message = event.body.message if isinstance(event.body, Beaten) else None
            error = error_for(
                event.code,
                f"member {self.member_id!r}" + (f": {message}" if message else ""),
                group_id=self.config.group_id,
                generation=self.epoch,
                broker=event.broker,
                attempts=self._attempts + 1,
            )
            self._break(error, fx)

    def _take_in(self, told: Beaten, now: float, fx: Effects) -> None:
        if told.epoch != self.epoch:
            fx.actions.append(Note("group_member_epoch", {"epoch": told.epoch, "previous": self.epoch}))
        self._attempts = 0
        self.epoch, self._interval = told.epoch, told.interval
        self.member_id = told.member_id or self.member_id
        # While the program is told something the next step waits, and is then made towards the newest target.
        self._beat_at = now + told.interval
        if told.target is not None:
            self._target = told.target
            self._ids.update(told.ids)

    def _unanswered(self, kind: str, now: float) -> None:
        if kind != self._asked:
            return
        self._asked = None
        if kind == LEAVE:
            self._left()
        else:
            self._later(now)

    def _later(self, now: float) -> None:
        self._attempts += 1
        # Nobody knows what the coordinator has taken in, so that everything is said again.
        self._everything = True
        self._beat_at = now + min(self._backoff(self._attempts), self._interval)

    def _done(self) -> None:
        if self.phase in _TELLING:
            # What was given up is said at once: somebody waits for it.
            self._going = ()
            self._everything = self._urgent = True
            self.phase = Phase.JOINING

    def _polled(self, now: float) -> None:
        self._idle = False
        if self.phase is Phase.FAILED and getattr(self.failure, "code", None) is not ErrorCode.fenced_instance_id:
            self.failure = None
            self._attempts += 1
            self._beat_at = now + self._backoff(self._attempts)
        if self.phase is Phase.IDLE:
            self._urgent = True

    def _check_idle(self, busy_since: float | None, now: float, fx: Effects) -> None:
        """KIP-62: who does not read for too long is no use to the group, though it lives."""
        limit = self.config.max_poll_interval
        self._check_at = (now if busy_since is None else busy_since) + limit
        if self._idle or self.phase is not Phase.STABLE or busy_since is None or now - busy_since < limit:
            return
        self._idle = True
        fx.actions.append(Note("group_member_idle", {"seconds": limit}))
        fx.actions.append(Send(LEAVE, self._leave_values()))
        self._out()

    def _out(self) -> None:
        """The coordinator has given the member up, or it has itself: it begins anew, with nothing."""
        self._lost = True
        self._asked, self._target = None, None
        self.epoch = -1
        self._everything = self._urgent = True

    def _break(self, error: KafkaError, fx: Effects) -> None:
        self.failure = error
        self._out()
        fx.actions.append(Fail(error))

    # -- what is next --------------------------------------------------------------------------------------

    def _go_on(self, fx: Effects) -> None:
        if self.phase in _TELLING:
            return
        if self._lost:
            self._lost = False
            if self.owned:
                self._give_up(self.owned, fx, lost=True)
                return
        if not self.subscribed:
            self._get_out(fx)
        elif self.failure is not None:
            self.phase = Phase.FAILED
        elif self._idle:
            self.phase = Phase.IDLE
        elif self._asked == LEAVE:
            pass
        elif self._target is not None and frozenset(self._target) != frozenset(self.owned):
            self._change_hands(self._target, fx)
        else:
            self.phase = Phase.JOINING if self._target is None else Phase.STABLE

    def _change_hands(self, target: Partitions, fx: Effects) -> None:
        wanted, had = frozenset(target), frozenset(self.owned)
        gone = tuple(tp for tp in self.owned if tp not in wanted)
        if gone:
            self._give_up(gone, fx, lost=False)
            return
        self.owned = target
        self.phase = Phase.TAKING_OVER
        fx.actions.append(TakeOver(target, tuple(tp for tp in target if tp not in had)))

    def _give_up(self, partitions: Partitions, fx: Effects, *, lost: bool) -> None:
        gone = frozenset(partitions)
        self._going = () if lost else partitions
        self.owned = tuple(tp for tp in self.owned if tp not in gone)
        self.phase = Phase.GIVING_UP
        fx.actions.append(GiveUp(partitions, lost))

    def _get_out(self, fx: Effects) -> None:
        if self._asked == LEAVE:
            return
        self._target = None
        if self.owned:
            self._give_up(self.owned, fx, lost=self.epoch < 0)
        elif self.epoch > 0 or self._asked == BEAT:
            self._asked, self.phase = LEAVE, Phase.LEAVING
            fx.actions.append(Send(LEAVE, self._leave_values()))
        else:
            self._left()

    def _left(self) -> None:
        self._asked = None
        self.phase, self.epoch = Phase.OUT, -1
        self._everything = self._urgent = True
        self._attempts, self._beat_at = 0, 0.0

    def _beat(self, now: float, fx: Effects) -> None:
        waits = self._attempts > 0 or not self._urgent
        if not self._beats or self._asked is not None or (waits and self._beat_at > now):
            return
        self._asked, self._urgent = BEAT, False
        self._beat_at = now + self._interval
        fx.actions.append(Send(BEAT, self._values(), self.identity))
        # What changes while this is under way has to be said after it.
        self._everything = False

    @property
    def _beats(self) -> bool:
        # A member that begins anew has to be done with what it had first: it says that it has nothing.
        able = self.phase in _BEATING and not (self.phase in _TELLING and self.epoch <= 0)
        return able and self.subscribed and self.failure is None and not self._idle

    def _wake(self, now: float, fx: Effects) -> None:
        times = []
        if self._beats and self._asked is None:
            times.append(self._beat_at)
        if self.phase is Phase.STABLE:
            if self._check_at <= now:
                self._check_at = now + self.config.max_poll_interval
            times.append(self._check_at)
        fx.wake_at = min(times, default=None)

    # -- requests ------------------------------------------------------------------------------------------

    def _values(self) -> dict[str, Any]:
        joins = self.epoch <= 0
        values: dict[str, Any] = {
            "group_id": self.config.group_id,
            "member_id": self.member_id,
            "member_epoch": JOINING_EPOCH if joins else self.epoch,
            "instance_id": self.config.instance_id,
            "rack_id": self.config.rack,
            "rebalance_timeout": -1,
            "subscribed_topic_names": None,
            "subscribed_topic_regex": None,
            "server_assignor": None,
            "topic_partitions": None,
        }
        if joins or self._everything:
            values["rebalance_timeout"] = round(self.config.max_poll_interval * 1000)
            values["subscribed_topic_names"] = sorted(self.topics)
            values["subscribed_topic_regex"] = self.regex
            values["server_assignor"] = self.assignor
            values["topic_partitions"] = [] if joins else self._had()
        return values

    def _had(self) -> list[dict[str, Any]]:
        """What the member owns, and what it is still about to give up."""
        topics: dict[str, list[int]] = {}
        for topic, index in sorted({*self.owned, *self._going}):
            topics.setdefault(topic, []).append(index)
        return [{"topic_id": self._ids[topic], "partitions": indexes} for topic, indexes in topics.items()]

    def _leave_values(self) -> dict[str, Any]:
        static = self.config.instance_id is not None and not self._idle
        return {**self._values(), "member_epoch": AWAY_EPOCH if static else LEAVING_EPOCH}

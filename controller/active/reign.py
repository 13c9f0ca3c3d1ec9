"""One reign: what an active controller knows and does while it leads in one Raft term."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import structlog

from ottla.controller.active.consensus import Consensus
from ottla.controller.active.log_reports import LogReports
from ottla.controller.active.sessions import Sessions
from ottla.controller.metadata import MetadataImage, Policy, Record, apply, encode_records, fence
from ottla.controller.raft import NotLeader, Overloaded, RaftStopped
from ottla.controller.view import MetadataView

if TYPE_CHECKING:
    from random import Random

log = structlog.get_logger(__name__)

RETRY_S = 0.05
MAX_PENDING = 1024


class Reign:
    """Decides on an image that includes what it has proposed and Raft has not committed yet, so that decisions need
    not wait for each other's commit.

    That is safe because entries are in the log in the order proposed: an entry can only be committed if all that it
    was based on are. The image is given up with the leadership; the next reign begins from what was committed.

    Events are handled one at a time: every method here runs to its end without awaiting.
    """

    def __init__(self, term: int, consensus: Consensus, view: MetadataView, policy: Policy, rng: "Random") -> None:
        self.term = term
        self.policy = policy
        self.rng = rng
        self.sessions = Sessions(policy.session_timeout_ms / 1000)
        self.reports = LogReports(policy.session_timeout_ms / 1000)
        self._consensus = consensus
        self._view = view
        self._loop = asyncio.get_running_loop()
        self._ahead: MetadataImage | None = None
        self._pending = 0
        self._last: asyncio.Future[int] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._not_before = 0.0
        self._over = False

    # What is decided on

    @property
    def image(self) -> MetadataImage:
        """The metadata with everything that this reign has proposed."""
        return self._view.image if self._ahead is None else self._ahead

    @property
    def over(self) -> bool:
        return self._over

    def now(self) -> float:
        return self._loop.time()

    # Proposing

    def submit(self, records: Sequence[Record]) -> asyncio.Future[int]:
        """Propose these as one entry. Raises NotLeader, Overloaded, RaftStopped having written nothing, and
        BrokenInvariant when the records do not fit the image that they were decided on."""
        if self._over:
            raise NotLeader(self._consensus.leader_id)
        if self._pending >= MAX_PENDING:
            raise Overloaded(f"{self._pending} decisions wait to be committed")
        image = self.image
        ahead, _ = apply(image, records, image.offset + 1)
        future = self._consensus.submit(encode_records(records))
        self._ahead = ahead
        self._pending += 1
        self._last = future
        future.add_done_callback(self._settled)
        return future

    def pending(self) -> asyncio.Future[int] | None:
        """The last proposal if it is not settled yet: whoever tells what `image` says has to wait for it."""
        return self._last if self._pending else None

    def _settled(self, future: "asyncio.Future[int]") -> None:
        self._pending -= 1
        if future.cancelled() or future.exception() is not None:
            # The image ahead holds what may never come to pass: nothing more may be decided on it.
            self.end()
        elif self._pending == 0:
            self._ahead = None

    def end(self) -> None:
        """Leadership is lost. What is proposed may still be committed, by the next leader."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Sessions

    def begin(self, dead: Iterable[int]) -> None:
        """Every unfenced broker gets a whole session, except those that there is evidence against."""
        unfenced = [broker.id for broker in self.image.brokers.values() if not broker.fenced]
        self.sessions.take_over(unfenced, self.now())
        self.suspect(dead)

    def heard(self, broker_id: int) -> None:
        self.sessions.touch(broker_id, self.now())
        self._arm()

    def suspect(self, broker_ids: Iterable[int]) -> None:
        """Evidence that these processes are gone: their sessions end at once."""
        self.sessions.expire((broker_id for broker_id in broker_ids if broker_id in self.image.brokers), self.now())
        self._end_sessions("evidence of death")

    def _end_sessions(self, reason: str) -> None:
        """One entry for all that have expired. When it cannot be proposed now it is tried again a little later."""
        expired = self.sessions.expired(self.now())
        try:
            self._fence(expired, reason)
        except Overloaded as error:
            self._not_before = self.now() + RETRY_S
            log.warning("fencing_delayed", brokers=expired, reason=str(error))
        except (NotLeader, RaftStopped):
            self.end()
        else:
            self.sessions.end(expired)
        self._arm()

    def _fence(self, broker_ids: Sequence[int], reason: str) -> None:
        records = fence(self.image, self.policy, broker_ids)
        if records:
            self.submit(records)
            log.warning("broker_fenced", brokers=list(broker_ids), reason=reason, records=len(records), term=self.term)

    def _arm(self) -> None:
        """Wake up when the next session expires."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self.sessions.next_deadline()
        if deadline is not None and not self._over:
            at = max(deadline, self._not_before)
            self._timer = self._loop.call_at(at, self._end_sessions, "session timeout")

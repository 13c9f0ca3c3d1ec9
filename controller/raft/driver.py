"""The asyncio shell around the Raft core: does what each Ready asks for, in its order, and nothing else.

One task takes a Ready, makes it durable off the loop (what gathered meanwhile is one group commit), then lets its
messages leave and applies what is committed. Messages and proposals go straight into the core at any time.

What needs no disk, as heartbeats and their answers, is done in the callback that brought it while the task has nothing
under way: most of what an idle quorum does is that, and waking a task costs more than the work.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import structlog

from ottla.controller.raft.config import RaftConfig, Ready, Role
from ottla.controller.raft.core import NOTHING, RaftCore
from ottla.controller.raft.errors import RaftInvariantError, Refusal
from ottla.controller.raft.messages import Entry, Message
from ottla.controller.raft.storage import Storage
from ottla.controller.raft.voter_set import VoterNode, VoterSet, is_voter_set
from ottla.controller.raft.waiters import ChangeRefused, NotLeader, Overloaded, RaftStatus, RaftStopped, Waiters

log = structlog.get_logger(__name__)

SETTLE_S = 1.0  # after the last write

RunBlocking = Callable[[Callable[[], Any]], Coroutine[Any, Any, Any]]
FindVoters = Callable[[], Coroutine[Any, Any, Mapping[int, tuple[str, int]]]]


class Transport(Protocol):
    def send(self, to: int, message: Message) -> None:
        """Best effort, never blocking, in order per peer; a bounded queue per peer that drops when full."""


class RaftDriver:
    """``on_apply`` gets committed entries in order, each once per process life; ``on_snapshot(data, index, term)``
    replaces the state; ``on_voters`` gets every set of voters that comes into force, the first one at the start, and
    ``on_hint`` those that another node says are, which tells no more than where they may be found. They run on the loop
    and must not fail. ``find_voters`` is awaited at the start when neither the settings nor the log have any.
    ``snapshot_source`` captures the state as applied (on the loop) and returns the function that encodes it (run off
    the loop).

    ``failed`` gets an exception when storage fails or an invariant breaks: the node has to end then.
    """

    def __init__(
        self,
        config: RaftConfig,
        storage: Storage,
        transport: Transport,
        rng: random.Random,
        *,
        run_blocking: RunBlocking,
        on_apply: Callable[[Sequence[Entry]], None],
        on_snapshot: Callable[[bytes, int, int], None],
        on_voters: Callable[[VoterSet], None] | None = None,
        on_hint: Callable[[VoterSet], None] | None = None,
        find_voters: FindVoters | None = None,
        snapshot_source: Callable[[], Callable[[], bytes]] | None = None,
        snapshot_entries: int = 10_000,
        snapshot_bytes: int = 8 * 1024 * 1024,
    ) -> None:
        self._config = config
        self._storage = storage
        self._transport = transport
        self._rng = rng
        self._run_blocking = run_blocking
        self._on_apply = on_apply
        self._on_snapshot = on_snapshot
        self._on_voters = on_voters
        self._on_hint = on_hint
        self._find_voters = find_voters
        self._voters: VoterSet | None = None  # as told
        self._hinted: VoterSet | None = None
        self._snapshot_source = snapshot_source
        self._snapshot_entries = snapshot_entries
        self._snapshot_bytes = snapshot_bytes
        self._core: RaftCore | None = None
        self._waiters = Waiters()
        self._wake = asyncio.Event()
        self._idle = False  # the task waits for `_wake`, which is not set
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._task: asyncio.Task[None] | None = None
        self._snapshot_task: asyncio.Task[None] | None = None
        self._listeners: list[Callable[[RaftStatus], None]] = []
        self._applied = 0
        self._bytes_since_snapshot = 0
        self._settle_at = float("inf")  # when storage may be told that nothing more is written for the moment
        self._status = RaftStatus(Role.FOLLOWER, 0, None, False)
        self.failed: asyncio.Future[None] | None = None

    # -- life

    async def start(self) -> None:
        """Load what storage has, replay its snapshot, begin to take part."""
        self._loop = asyncio.get_running_loop()
        self.failed = self._loop.create_future()
        state = await self._run_blocking(self._storage.load)
        if not self._config.voters and self._find_voters is not None and not state.has_voters:
            found = await self._find_voters()
            self._config = replace(self._config, voters=frozenset(found), addresses=found)
        self._core = RaftCore(self._config, self._rng, state, self._loop.time())
        self._tell_voters(self._core)
        if state.snapshot is not None:
            self._replace_state(state.snapshot.data, state.snapshot.index, state.snapshot.term)
        self._task = self._loop.create_task(self._run(self._core), name=f"raft-{self._config.node_id}")

    async def stop(self) -> None:
        """End without handing over (see transfer_leadership); what is being written is finished first."""
        for task in (self._snapshot_task, self._task):
            if task is not None and not task.done():
                self._stopping = True
                self._rouse()
                await asyncio.wait([task])
        if self._timer is not None:
            self._timer.cancel()
        self._waiters.fail_all(RaftStopped)
        await self._run_blocking(self._storage.close)

    _stopping = False

    # -- what others see

    @property
    def core(self) -> RaftCore:
        if self._core is None:
            raise RaftStopped("the Raft node has not started")
        return self._core

    @property
    def status(self) -> RaftStatus:
        return self._status

    @property
    def role(self) -> Role:
        return self.core.role

    @property
    def leader_id(self) -> int | None:
        return self.core.leader_id

    @property
    def term(self) -> int:
        return self.core.term

    @property
    def commit_index(self) -> int:
        return self.core.commit

    @property
    def applied_index(self) -> int:
        """The last entry that ``on_apply`` or ``on_snapshot`` has seen."""
        return self._applied

    def subscribe(self, listener: Callable[[RaftStatus], None]) -> None:
        """``listener`` is called on the loop after every change of role, term, leader, or of being ready to lead."""
        self._listeners.append(listener)

    # -- what others ask for

    def receive(self, sender: int, message: Message) -> None:
        """A message from the transport, whose sender is authenticated. Dropped when the node is not running."""
        if self._core is None or self._task is None or self._task.done():
            return
        now = self._loop.time()
        try:
            self._core.step(sender, message, now)
        except RaftInvariantError as error:
            self._fail(error)
        if self._idle:
            self._advance(self._core, now)

    def submit(self, data: bytes) -> asyncio.Future[int]:
        """Propose one entry; entries are in the log in the order of the calls. The future becomes its index once it is
        committed and applied here. Raises, at once or through the future, NotLeader (definitely not in the log),
        OutcomeUnknown (leadership was lost on the way), Overloaded, RaftStopped."""
        core = self.core
        if self._stopping or self._task is None or self._task.done():
            raise RaftStopped("the Raft node is stopping")
        index = core.propose([data])
        if index is None:
            if core.leading is None or core.leading.transfer_to is not None:
                raise NotLeader(core.leader_id if core.leading is None else None)
            raise Overloaded("too many bytes wait to be committed")
        self._rouse()
        return self._waiters.proposal(index, core.term, self._loop)

    async def propose(self, data: bytes) -> int:
        """``submit`` and wait."""
        return await self.submit(data)

    async def read_barrier(self) -> int:
        """Returns once this node has proved that it still led after the call began, and has applied everything
        committed before (thesis 6.4). Raises NotLeader."""
        token, confirmed = self._waiters.barrier(self._loop)
        if not self.core.read_barrier(token, self._loop.time()):
            self._waiters.forget_barrier(token)
            raise NotLeader(self.leader_id)
        self._rouse()
        return await confirmed

    def suspect(self, node: int) -> None:
        """Evidence that ``node`` is dead: see RaftCore.suspect."""
        self.core.suspect(node, self._loop.time())
        self._rouse()

    def hint(self, voters: VoterSet) -> None:
        """See RaftCore.hint."""
        self.core.hint(voters)
        self._rouse()

    def trust(self, node: int) -> None:
        self.core.trust(node)

    async def transfer_leadership(self, to: int | None = None) -> bool:
        """Hand over to ``to``, or to the most complete voter; True once this node does not lead any more."""
        leading = self.core.leading
        if leading is None:
            return True
        candidates = [(p.match, p.contact, n) for n, p in leading.peers.items() if p.voter and not p.recovering]
        if to is None and candidates:
            to = max(candidates)[2]
        if to is None or not self.core.transfer_leadership(to, self._loop.time()):
            return False
        gone: asyncio.Future[None] = self._loop.create_future()
        self._waiters.on_step_down(gone)
        self._rouse()
        done, _ = await asyncio.wait([gone], timeout=self._config.election_timeout)
        return bool(done)

    async def add_voter(self, node: VoterNode) -> int:
        """Let a learner vote once it has caught up; the index of the entry that did it. Raises ChangeRefused,
        NotLeader, OutcomeUnknown, RaftStopped."""
        token, done = self._waiters.change(self._loop)
        refusal = self.core.add_voter(token, node, self._loop.time())
        if refusal is not None:
            self._waiters.forget_change(token)
            raise self._refused(refusal)
        self._rouse()
        return await done

    async def remove_voter(self, node_id: int, directory_id: str = "") -> int:
        """Take the vote from a node; as add_voter."""
        core = self.core
        outcome = core.remove_voter(node_id, directory_id, self._loop.time())
        if isinstance(outcome, Refusal):
            raise self._refused(outcome)
        self._rouse()
        return await self._waiters.proposal(outcome, core.term, self._loop)

    def _refused(self, refusal: Refusal) -> Exception:
        return NotLeader(self.leader_id) if refusal is Refusal.NOT_LEADER else ChangeRefused(refusal)

    def take_snapshot(self, data: bytes, index: int) -> bool:
        """Keep ``data`` as the state after ``index`` and drop the log behind it. False if there is a newer one."""
        taken = self.core.compact(index, data)
        self._rouse()
        return taken

    # -- the loop

    def _rouse(self) -> None:
        """Let the task look at the core in its next turn."""
        self._idle = False
        self._wake.set()

    async def _run(self, core: RaftCore) -> None:
        try:
            while not self._stopping:
                self._wake.clear()
                now = self._loop.time()
                if now >= core.deadline:
                    core.tick(now)
                ready = core.ready(now)
                if ready:
                    await self._perform(core, ready)
                self._publish(core)
                if not ready and now >= self._settle_at:
                    self._settle_at = float("inf")
                    await self._run_blocking(self._storage.settle)
                elif not ready and not self._wake.is_set():
                    self._arm(core)
                    self._idle = True
                    await self._wake.wait()
        except Exception as error:  # noqa: BLE001  # nothing may be acknowledged after a failed write
            self._fail(error)
        finally:
            self._idle = False

    def _advance(self, core: RaftCore, now: float) -> None:
        """The task is idle: do here what needs no disk, and leave the rest to it."""
        self._idle = False  # so that nothing that is called from here comes back to here
        try:
            news = True
            while news:
                if core.must_persist:
                    self._wake.set()
                    return
                ready = core.ready(now)
                if ready is not NOTHING:
                    early = self._announce(core, ready)
                    self._conclude(core, ready, early=early)
                    self._snapshot_if_due(core)
                self._publish(core)
                # Messages that leave change nothing here: only who was told something may have asked for more.
                news = bool(ready.committed or ready.barriers or ready.changes)
            if not self._wake.is_set():
                self._arm(core)
                self._idle = True
        except Exception as error:  # noqa: BLE001  # as in _run
            self._fail(error)

    def _arm(self, core: RaftCore) -> None:
        """A timer for what is due next. One that fires too early arms itself again: most deadlines only move away."""
        due = min(core.deadline, self._settle_at)
        if self._timer_at <= due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._loop.call_at(due, self._due)

    def _due(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        core = self.core
        now = self._loop.time()
        if not self._idle:
            return  # the task arms it again before it waits
        if now >= self._settle_at:
            self._rouse()
            return
        try:
            if now >= core.deadline:
                core.tick(now)
        except RaftInvariantError as error:
            self._fail(error)
            return
        self._advance(core, now)

    async def _perform(self, core: RaftCore, ready: Ready) -> None:
        early = self._announce(core, ready)
        if ready.must_persist:
            await self._run_blocking(lambda: self._storage.persist(ready))
            self._settle_at = self._loop.time() + SETTLE_S
        self._conclude(core, ready, early=early)
        if ready.snapshot is not None:
            first = core.log.first_index
            await self._run_blocking(lambda: self._storage.compact(first))
        self._snapshot_if_due(core)

    def _announce(self, core: RaftCore, ready: Ready) -> bool:
        """What does not wait until this is durable; True if what is committed has been applied with it."""
        for to, message in ready.urgent:
            self._transport.send(to, message)
        # Entries that are durable here already need not wait for the fsync of newer ones.
        if not ready.committed or ready.install or ready.committed[-1].index > core.log.stable:
            return False
        self._apply(ready.committed)
        return True

    def _conclude(self, core: RaftCore, ready: Ready, *, early: bool) -> None:
        """What has to wait until everything in this is durable, as it is now."""
        for to, message in ready.messages:
            self._transport.send(to, message)
        if ready.must_persist:
            core.persisted(ready, self._loop.time())
        if ready.installed is not None:
            self._replace_state(ready.installed.data, ready.installed.index, ready.installed.term)
        if ready.committed and not early:
            self._apply(ready.committed)
        for token, index in ready.barriers:
            self._waiters.confirm_barrier(token, index, self._applied)
        for token, outcome in ready.changes:
            self._waiters.changed(token, outcome, core.term)

    def _apply(self, entries: Sequence[Entry]) -> None:
        self._on_apply([replace(each, data=b"") if is_voter_set(each.data) else each for each in entries])
        self._applied = entries[-1].index
        self._bytes_since_snapshot += sum(len(entry.data) for entry in entries)
        self._waiters.applied(entries)

    def _replace_state(self, data: bytes, index: int, term: int) -> None:
        self._on_snapshot(data, index, term)
        self._applied = index
        self._bytes_since_snapshot = 0
        log.info("raft_snapshot_loaded", node=self._config.node_id, index=index, term=term, bytes=len(data))

    def _tell_voters(self, core: RaftCore) -> None:
        self._voters = core.voter_set
        log.info("raft_voters", node=self._config.node_id, voters=sorted(core.voters), index=core.log.voters_index)
        if self._on_voters is not None:
            self._on_voters(core.voter_set)

    def _publish(self, core: RaftCore) -> None:
        if core.voter_set is not self._voters:
            self._tell_voters(core)
        if core.hinted is not self._hinted:
            self._hinted = core.hinted
            if self._on_hint is not None and core.hinted is not None:
                self._on_hint(core.hinted)
        leading = core.leading is not None and self._applied >= core.leading.first_index
        was = self._status
        if (
            was.role is core.role
            and was.term == core.term
            and was.leader_id == core.leader_id
            and was.leading == leading
        ):
            return
        status = RaftStatus(core.role, core.term, core.leader_id, leading)
        previous, self._status = self._status, status
        if previous.role is Role.LEADER and (status.role is not Role.LEADER or status.term != previous.term):
            self._waiters.step_down(status.leader_id)
        log.info(
            "raft_state", node=self._config.node_id, role=status.role, term=status.term, leader=status.leader_id,
            leading=status.leading,
        )  # fmt: skip
        for listener in self._listeners:
            listener(status)

    def _snapshot_if_due(self, core: RaftCore) -> None:
        if self._snapshot_source is None or (self._snapshot_task is not None and not self._snapshot_task.done()):
            return
        since = self._applied - (core.snapshot.index if core.snapshot else 0)
        if since < self._snapshot_entries and (since == 0 or self._bytes_since_snapshot < self._snapshot_bytes):
            return
        self._bytes_since_snapshot = 0
        self._snapshot_task = self._loop.create_task(self._make_snapshot(self._snapshot_source(), self._applied))

    async def _make_snapshot(self, encode: Callable[[], bytes], index: int) -> None:
        try:
            data = await self._run_blocking(encode)
        except Exception as error:  # noqa: BLE001  # a state that cannot be encoded is a broken invariant
            self._fail(error)
            return
        if self.take_snapshot(data, index):
            log.info("raft_snapshot_taken", node=self._config.node_id, index=index, bytes=len(data))

    def _fail(self, error: Exception) -> None:
        """Stop taking part: after a failed write or a broken invariant nothing may be promised any more."""
        self._stopping = True
        self._rouse()
        log.error("raft_failed", node=self._config.node_id, error=repr(error), exc_info=error)
        self._waiters.fail_all(RaftStopped)
        if self.failed is not None and not self.failed.done():
            self.failed.set_exception(error)

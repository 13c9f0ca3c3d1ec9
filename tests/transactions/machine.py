"""One transactional id without I/O: a coordinator that moves, records that fail, and producers whose requests are held
back, repeated and delivered late.

The model knows what the coordinator cannot: which transaction of which producer a request was made for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kio.schema.errors import ErrorCode

from ottla.broker.transactions import IDLE, VERSION_1, VERSION_2, Decision, Producer, State, Transaction, decisions
from ottla.broker.transactions.model import MAX_EPOCH, NO_PRODUCER, PREPARED
from ottla.broker.transactions.records import Entry, decode, encode
from ottla.broker.transactions.table import TransactionTable

ID = "tid"
TIMEOUT_MS = 1000
NONE = ErrorCode.none
AGAIN = ErrorCode.concurrent_transactions


class Owner(NamedTuple):
    """A transaction as its producer counts: instance, and its how-manieth."""

    instance: int
    number: int


@dataclass(eq=False)
class Instance:
    """A producer process. `unanswered` is what it asks for at present; what comes for an older question is thrown
    away. `over` when it was told that it is fenced, or has lost track."""

    id: int
    version: int
    producer: Producer | None = None
    number: int = 0
    added: bool = False
    unanswered: Request | None = None
    over: bool = False

    @property
    def owner(self) -> Owner:
        return Owner(self.id, self.number)


@dataclass(eq=False)
class Request:
    """What an instance asks, and for which of its transactions."""

    instance: Instance
    kind: str
    owner: Owner
    producer: Producer
    decide: Callable[[Transaction | None, int | None], Decision]


@dataclass(eq=False)
class Write:
    """A record on its way."""

    entry: Entry
    told: Callable[[ErrorCode], None]


@dataclass(eq=False)
class Machine:
    """Call `check` after every step."""

    version: int = VERSION_2
    now_ms: int = 0
    log: list[Entry] = field(default_factory=list)
    table: TransactionTable = field(default_factory=TransactionTable)
    write: Write | None = None
    wire: list[Request] = field(default_factory=list)
    instances: list[Instance] = field(default_factory=list)
    owner: Owner | None = None
    last_start: Instance | None = None
    outcomes: dict[Owner, State] = field(default_factory=dict)
    told: dict[Owner, bool] = field(default_factory=dict)
    given: dict[Producer, int] = field(default_factory=dict)
    next_id: int = 1

    @classmethod
    def at_epoch(cls, epoch: int | None, version: int) -> Machine:
        made = cls(version=version)
        made.table.live = True
        if epoch is not None:
            made.next_id = 2
            made._commit(Entry(ID, Transaction(Producer(1, epoch), State.EMPTY, TIMEOUT_MS, 0)))
        return made

    @property
    def transaction(self) -> Transaction | None:
        return self.table.get(ID)

    # Producers

    def start(self, version: int) -> Instance:
        instance = Instance(len(self.instances), version)
        self.instances.append(instance)
        self._init(instance, None)
        return instance

    def _init(self, instance: Instance, expected: Producer | None) -> None:
        def decide(transaction: Transaction | None, fresh: int | None) -> Decision:
            return decisions.initialise(transaction, expected, TIMEOUT_MS, self.now_ms, fresh, self.version)

        self._ask(instance, "init" if expected is None else "resume", expected or NO_PRODUCER, decide)

    def resume(self, instance: Instance) -> None:
        """After an error (KIP-360): in the next epoch its transaction is over, whatever became of it."""
        if instance.producer is not None and not instance.over:
            self._init(instance, instance.producer)

    def add(self, instance: Instance, partition: int) -> None:
        producer, version = instance.producer, instance.version
        if producer is None or instance.over:
            return

        def decide(transaction: Transaction | None, _fresh: int | None) -> Decision:
            return decisions.add(transaction, producer, {("t", partition)}, version, self.now_ms)

        self._ask(instance, "add", producer, decide)

    def end(self, instance: Instance, commit: bool) -> None:
        producer, version = instance.producer, instance.version
        if producer is None or instance.over or (instance.unanswered and instance.unanswered.kind != "add"):
            return
        if commit and not instance.added:
            return

        def decide(transaction: Transaction | None, fresh: int | None) -> Decision:
            return decisions.end(transaction, producer, commit, version, self.now_ms, fresh)

        self._ask(instance, "commit" if commit else "abort", producer, decide)

    def _ask(self, instance: Instance, kind: str, producer: Producer, decide: Any) -> None:
        instance.unanswered = Request(instance, kind, instance.owner, producer, decide)
        self.wire.append(instance.unanswered)

    # The wire

    def repeat(self, instance: Instance) -> None:
        """It has waited long enough, and asks again; the first one may come yet."""
        unanswered = instance.unanswered
        if unanswered is None or instance.over:
            return
        if unanswered.kind != "init" or unanswered not in self.wire:
            # (Of two starts the later one fences the earlier, whichever is answered.)
            self.wire.append(unanswered)

    def deliver(self, place: int) -> None:
        if self.write is None and self.wire:
            self._handle(self.wire.pop(place % len(self.wire)))

    def lose(self, place: int) -> None:
        if self.wire:
            self.wire.pop(place % len(self.wire))

    def _handle(self, request: Request) -> None:
        before = self.transaction
        decision = self._decided(request.decide)
        if decision.record is None:
            self._answer(request, decision.error, decision.producer)
            return
        self._check_right(request, before)

        def told(error: ErrorCode) -> None:
            if error is NONE:
                if request.kind == "init":
                    self.last_start = request.instance
                self._answer(request, decision.error, decision.producer)
            else:
                self._answer(request, error, NO_PRODUCER)

        self.write = Write(Entry(ID, decision.record), told)
        if before is not None and before.state in IDLE and decision.record.state is State.ONGOING:
            self.owner = request.owner

    def _decided(self, decide: Callable[[Transaction | None, int | None], Decision]) -> Decision:
        decision = decide(self.transaction, None)
        if not decision.needs_id:
            return decision
        self.next_id += 1
        decision = decide(self.transaction, self.next_id - 1)
        assert not decision.needs_id
        return decision

    def _check_right(self, request: Request, before: Transaction | None) -> None:
        """Nobody changes a transaction that is not the one that they mean, nor any after another has started."""
        if before is None or request.kind == "init":
            return
        assert self.last_start in (None, request.instance), f"{request.kind} of {request.owner}, which is fenced"
        if request.kind == "resume":
            return
        if before.state is State.ONGOING:
            assert self.owner is not None
            mine = self.owner if request.instance.version == VERSION_2 else self.owner._replace(number=-1)
            meant = request.owner if request.instance.version == VERSION_2 else request.owner._replace(number=-1)
            assert meant == mine, f"{request.kind} for {meant} changed {mine}"
        elif request.instance.version == VERSION_2:
            assert request.owner.number == request.instance.number, f"{request.kind} of {request.owner} came late"

    def _answer(self, request: Request, error: ErrorCode, producer: Producer) -> None:
        instance = request.instance
        if instance.over or instance.unanswered is not request or request.owner != instance.owner:
            return
        if error in (AGAIN, ErrorCode.coordinator_not_available, ErrorCode.not_coordinator):
            return
        instance.unanswered = None
        if error is not NONE:
            instance.over = error is not ErrorCode.invalid_txn_state or instance.version == VERSION_2
            return
        if request.kind in ("init", "resume"):
            instance.number += request.kind == "resume"
            instance.added = False
            self._give(instance, producer)
        elif request.kind == "add":
            instance.added = True
        else:
            self.told[request.owner] = request.kind == "commit"
            instance.number += 1
            instance.added = False
            if instance.version == VERSION_2:
                self._give(instance, producer)

    def _give(self, instance: Instance, producer: Producer) -> None:
        assert 0 <= producer.epoch < MAX_EPOCH
        assert self.given.setdefault(producer, instance.id) == instance.id, f"{producer} was given to two"
        instance.producer = producer

    # The coordinator

    def commit(self) -> None:
        """The record that is on its way is replicated."""
        write, self.write = self.write, None
        if write is not None:
            self._commit(write.entry)
            write.told(NONE)

    def fail(self) -> None:
        """It never gets into the log."""
        write, self.write = self.write, None
        if write is not None:
            write.told(ErrorCode.coordinator_not_available)

    def move(self, *, committed: bool) -> None:
        """Another broker coordinates from now on; it may find the record in its log. Nobody is told."""
        write, self.write = self.write, None
        if write is not None and committed:
            self._commit(write.entry)
        present, self.table = self.transaction, self.replayed()
        self.table.live = True
        assert self.transaction == present
        self.last_start = None if write is not None else self.last_start

    def _commit(self, entry: Entry) -> None:
        before = self.transaction
        self.table.replay(entry)
        self.log.append(entry)
        assert entry.value is not None
        if entry.value.state in PREPARED and before is not None and before.state is State.ONGOING:
            assert self.owner is not None
            # By v1 a request that came late can begin a transaction again that has ended: they have one epoch.
            assert self.owner not in self.outcomes or self.instances[self.owner.instance].version == VERSION_1
            self.outcomes[self.owner] = entry.value.state

    def markers(self) -> None:
        """All partitions know the outcome."""
        transaction = self.transaction
        if self.write is None and transaction is not None and transaction.state in PREPARED:
            self.write = Write(Entry(ID, decisions.complete(transaction, self.now_ms)), lambda _: None)

    def pass_time(self, ms: int) -> None:
        self.now_ms += ms
        transaction = self.transaction
        if self.write is not None or transaction is None:
            return
        decision = decisions.time_out(transaction, self.now_ms, None, self.version)
        if decision is not None and decision.needs_id:
            self.next_id += 1
            decision = decisions.time_out(transaction, self.now_ms, self.next_id - 1, self.version)
        if decision is not None and decision.record is not None:
            self.write = Write(Entry(ID, decision.record), lambda _: None)

    def replayed(self) -> TransactionTable:
        """What a new coordinator makes of the log, through its bytes."""
        table = TransactionTable()
        for entry in self.log:
            read = decode(*encode(entry))
            assert read is not None
            table.replay(read)
        return table

    def check(self) -> None:
        if self.log:
            assert decode(*encode(self.log[-1])) == Entry(ID, self.transaction)
        for owner, commit in self.told.items():
            if self.instances[owner.instance].version == VERSION_1:
                continue
            outcome = self.outcomes.get(owner)
            if commit:
                assert outcome is State.PREPARE_COMMIT, f"{owner} was told of a commit: {outcome}"
            else:
                assert outcome is not State.PREPARE_COMMIT, f"{owner} was told of an abort"

    def settle(self) -> None:
        """Nothing fails any more."""
        self.wire.clear()
        for _ in range(3):
            self.commit()
            self.markers()
            self.commit()

"""A producer's transactions without I/O: what to ask the coordinators, when, and what each answer means.

The shell (`transactor`) calls `next` whenever something has changed, carries out the one request that it gives, and
hands the answer to `on_answer`, or tells `on_lost`; never two at a time. The records themselves go through the
producer's core, for those partitions that are `admitted`.

By the second version of the protocol (KIP-890) nothing is asked before a partition is written to, and the answer to
EndTxn has the epoch of the next transaction: what is still on its way of an earlier one is refused for its epoch.
By the first one partitions are added before, and the epoch stays, unless the brokers may have lost track of sequences.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from kio.schema.errors import ErrorCode

from ottla.client.backoff import IN_THE_WAY, Backoff
from ottla.client.errors import (
    AbortableTransactionError,
    BrokerResponseError,
    FatalTransactionError,
    IllegalStateError,
    KafkaError,
)
from ottla.client.producer.batch import ProducerIdentity
from ottla.client.producer.transactions.failures import error_of, is_fatal_for_producer
from ottla.client.producer.transactions.model import (
    SECOND,
    TRANSITIONS,
    UNTOUCHED,
    AddOffsets,
    AddPartitions,
    Answer,
    CommitOffsets,
    EndTxn,
    InitProducerId,
    Meaning,
    Request,
    State,
    meaning,
)
from ottla.client.structs import ConsumerGroupMetadata, OffsetAndMetadata, TopicPartition

if TYPE_CHECKING:
    import random

Offsets = Mapping[TopicPartition, OffsetAndMetadata]


class Next(NamedTuple):
    """How to go on: `wait` seconds before the next request; `moved`: the coordinator has to be looked up again."""

    wait: float = 0.0
    moved: bool = False


class TransactionCore:
    """One transactional producer.

    `error` is why the transaction, or the producer, can do no more. `attempts` and `last_error` are about the request
    under way.
    """

    def __init__(self, transactional_id: str, backoff: Backoff, rng: random.Random) -> None:
        self.transactional_id = transactional_id
        self.state = State.UNINITIALIZED
        self.identity: ProducerIdentity | None = None
        self.error: AbortableTransactionError | FatalTransactionError | None = None
        self.attempts = 0
        self.last_error: ErrorCode | None = None
        self.level = 0
        """The finalised transaction.version by which the present transaction goes; another one counts from the next."""
        self._next_level = 0
        self._backoff = backoff
        self._rng = rng
        self._bump = False
        self._settled = False
        self._maybe_ended = False
        self._forget()

    def _forget(self) -> None:
        """Nothing belongs to the transaction."""
        self._started = False
        self._joining: dict[TopicPartition, None] = {}
        self._joined: set[TopicPartition] = set()
        # Of what was asked and not answered nobody knows whether the transaction has it.
        self._asked: set[TopicPartition] = set()
        self._asked_group: str | None = None
        self._group: ConsumerGroupMetadata | None = None
        self._groups: set[str] = set()
        self._offsets: dict[TopicPartition, OffsetAndMetadata] = {}
        self._settled = False
        self._maybe_ended = False

    # -- what the program wants

    @property
    def second(self) -> bool:
        """Whether the present transaction goes by the second version of the protocol."""
        return self.level >= SECOND

    def initialise(self, level: int) -> None:
        """Get a producer id. Asked again while that is under way, it changes nothing."""
        if self.state is State.INITIALIZING:
            return
        self._move(State.INITIALIZING, "initialised")
        self.level = self._next_level = level

    def begin(self) -> None:
        """Raises FatalTransactionError, IllegalStateError."""
        self._fail_if(State.FATAL_ERROR)
        self._move(State.IN_TRANSACTION, "begun")

    def join(self, tp: TopicPartition) -> bool:
        """A record for the partition is about to be sent. True if there is something to be asked first.

        Raises AbortableTransactionError, FatalTransactionError, IllegalStateError.
        """
        if self.state is not State.IN_TRANSACTION:
            self._refuse("written to")
        if tp in self._joined or tp in self._joining:
            return False
        if self.second:
            self._joined.add(tp)
            self._started = True
            return False
        self._joining[tp] = None
        return True

    def admitted(self, tp: TopicPartition) -> bool:
        """Whether records of the partition may be sent now."""
        return tp in self._joined and self.state in (State.IN_TRANSACTION, State.COMMITTING)

    def add_offsets(self, group: ConsumerGroupMetadata, offsets: Offsets) -> None:
        """These offsets are committed with the transaction. They are on their way until `offsets_pending` is false.

        Raises AbortableTransactionError, FatalTransactionError, IllegalStateError.
        """
        if self.state is not State.IN_TRANSACTION:
            self._refuse("given offsets")
        if self._offsets and self._group is not None and self._group.group_id != group.group_id:
            raise IllegalStateError(f"the offsets of group {self._group.group_id!r} are not taken in yet")
        self._group = group
        self._offsets.update(offsets)
        self._started |= self.second and bool(offsets)

    @property
    def offsets_pending(self) -> bool:
        return bool(self._offsets)

    def end(self, commit: bool, level: int) -> None:
        """Commit or abort; EndTxn waits for `settled`. Asked again while that is under way, it changes nothing.

        Raises FatalTransactionError, AbortableTransactionError (for a commit), IllegalStateError.
        """
        self._fail_if(State.FATAL_ERROR)
        wanted = State.COMMITTING if commit else State.ABORTING
        if self.state is wanted:
            return
        if commit:
            self._fail_if(State.ABORTABLE_ERROR)
        self._move(wanted, "committed" if commit else "aborted")
        self._next_level = level
        if not commit:
            self._drop()

    def settled(self, *, gap: bool) -> None:
        """No record of the transaction is on its way any more. `gap`: sequences were given out that no log may have."""
        self._settled = True
        self._bump |= gap

    def failed(self, cause: KafkaError) -> None:
        """A record of the transaction was given up."""
        if is_fatal_for_producer(cause):
            self._fatal(cause)
        elif self.state in (State.IN_TRANSACTION, State.COMMITTING):
            self._abortable(cause)

    # -- what to ask, and what the answers mean

    def next(self) -> Request | None:
        """The request to be made now. A transaction that never came to anybody's knowledge ends here."""
        if self.state is State.INITIALIZING:
            return InitProducerId(self.identity)
        identity = self.identity
        if identity is None or self.state not in (State.IN_TRANSACTION, State.COMMITTING, State.ABORTING):
            return None
        if self._joining:
            return AddPartitions(identity, tuple(self._joining))
        if self._asked_group is not None:
            return AddOffsets(identity, self._asked_group)
        if self._offsets and self._group is not None:
            if not self.second and self._group.group_id not in self._groups:
                return AddOffsets(identity, self._group.group_id)
            return CommitOffsets(identity, self._group, dict(self._offsets), self.second)
        if self.state is State.IN_TRANSACTION or not self._settled:
            return None
        if self._started:
            return EndTxn(identity, self.state is State.COMMITTING, self.second)
        self._over()
        return self.next()

    def on_lost(self, request: Request, code: ErrorCode = ErrorCode.network_exception) -> Next:
        """Nobody knows what became of the request."""
        return self._again(request, code, moved=True)

    def on_sent(self, request: Request) -> None:
        """The request is about to leave."""
        self.attempts += 1
        if isinstance(request, AddPartitions):
            self._asked.update(request.partitions)
        elif isinstance(request, AddOffsets):
            self._asked_group = request.group_id

    def on_answer(self, request: Request, answer: Answer) -> Next:
        """A coordinator has answered."""
        if isinstance(request, CommitOffsets):
            for tp, code in answer.codes.items():
                if code is ErrorCode.none and tp is not None:
                    self._offsets.pop(tp, None)
        tp, code = max(answer.codes.items(), key=lambda row: meaning(request, row[1]).value)
        means = meaning(request, code)
        if code is ErrorCode.unknown_topic_or_partition and self.state is State.ABORTING:
            # It need not come into being for a transaction that is aborted.
            means = Meaning.ABORT
        if means in (Meaning.AGAIN, Meaning.MOVED):
            return self._again(request, code, moved=means is Meaning.MOVED)
        if means is Meaning.DONE:
            self.attempts, self.last_error = 0, None
            self._done(request, answer)
            return Next()
        error = error_of(request, self.transactional_id, code, means, answer.broker, tp, self.attempts)
        self.attempts, self.last_error = 0, None
        self._give_up(request, error, means)
        return Next()

    def on_refused(self, request: Request, error: KafkaError) -> None:
        """The request cannot be made at all: the brokers do not have its version, or do not let us look for the
        coordinator."""
        means = meaning(request, error.code) if isinstance(error, BrokerResponseError) else Meaning.FATAL
        self.attempts, self.last_error = 0, None
        self._give_up(request, error, means)

    def _give_up(self, request: Request, error: KafkaError, means: Meaning) -> None:
        if means is Meaning.BUMP:
            self._bump = True
        if means not in (Meaning.ABORT, Meaning.BUMP) or isinstance(request, InitProducerId):
            self._fatal(error)
        elif self.state is not State.ABORTING:
            self._abortable(error)
        elif isinstance(request, EndTxn):
            self._fatal(error)
        elif isinstance(request, AddPartitions):
            self._joining.clear()
        else:
            self._asked_group = None

    def _again(self, request: Request, code: ErrorCode, *, moved: bool) -> Next:
        self.last_error = code
        if isinstance(request, EndTxn) and code not in UNTOUCHED:
            self._maybe_ended = True
        backoff = IN_THE_WAY if code is ErrorCode.concurrent_transactions else self._backoff
        return Next(backoff.delay(self.attempts, self._rng), moved)

    def _done(self, request: Request, answer: Answer) -> None:
        match request:
            case InitProducerId():
                self.identity = answer.identity
                self._bump = False
                self._move(State.READY, "ready")
            case AddPartitions():
                self._started = True
                for tp in request.partitions:
                    self._joining.pop(tp, None)
                    self._joined.add(tp)
            case AddOffsets():
                self._started = True
                self._asked_group = None
                self._groups.add(request.group_id)
            case CommitOffsets():
                pass
            case EndTxn():
                if answer.identity is not None:
                    self.identity = answer.identity
                    self._bump = False
                self._over()

    def _over(self) -> None:
        """The transaction is committed or aborted."""
        # Whatever is still on its way by the first version must not be taken for a part of one by the second.
        changed = self._next_level >= SECOND > self.level
        self.error = None
        self.level = self._next_level
        self._forget()
        if self._bump or changed:
            self._move(State.INITIALIZING, "ended")
        else:
            self._move(State.READY, "ended")

    # -- states

    def _abortable(self, cause: KafkaError) -> None:
        if self.state in (State.ABORTABLE_ERROR, State.FATAL_ERROR):
            return
        error = AbortableTransactionError(f"the transaction has to be aborted: {cause.text}", **cause.fields)
        error.__cause__, error.definite = cause, not self._maybe_ended
        self._drop()
        self.error = error
        self._move(State.ABORTABLE_ERROR, "failed")

    def _fatal(self, cause: KafkaError) -> None:
        if self.state is State.FATAL_ERROR:
            return
        if isinstance(cause, FatalTransactionError):
            error = cause
        else:
            error = FatalTransactionError(f"the producer can do no more: {cause.text}", **cause.fields)
            error.__cause__ = cause
        error.definite = not self._maybe_ended
        self._drop()
        self.error = error
        self._move(State.FATAL_ERROR, "failed")

    def _drop(self) -> None:
        """What was not asked for yet need not be. An EndTxn for what nobody knows of would be refused, so the rest has
        to be asked for again, until it is known."""
        self._joining = {tp: None for tp in self._joining if tp in self._asked}
        self._offsets.clear()

    def _fail_if(self, state: State) -> None:
        if self.state is state and self.error is not None:
            raise self.error

    def _refuse(self, what: str) -> None:
        self._fail_if(State.ABORTABLE_ERROR)
        self._fail_if(State.FATAL_ERROR)
        raise IllegalStateError(f"a producer that is {self.state.value} cannot be {what}: there is no transaction")

    def _move(self, to: State, what: str) -> None:
        if to not in TRANSITIONS[self.state]:
            raise IllegalStateError(f"a transaction cannot be {what} while the producer is {self.state.value}")
        self.state = to

"""A transaction coordinator as plain data, with Kafka's rules of both versions of the protocol (KIP-98, 360, 890).

One for all brokers: what is written down here is durable. The tests lose its answers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from kio.schema.errors import ErrorCode

from ottla.client import TopicPartition
from ottla.client.producer.batch import ProducerIdentity

NONE = ErrorCode.none


class TxnState(Enum):
    EMPTY = "Empty"
    ONGOING = "Ongoing"
    COMMITTED = "CompleteCommit"
    ABORTED = "CompleteAbort"


@dataclass
class Txn:
    identity: ProducerIdentity
    state: TxnState = TxnState.EMPTY
    partitions: set[TopicPartition] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    offsets: dict[tuple[str, TopicPartition], int] = field(default_factory=dict)


@dataclass
class Ended:
    """A transaction that is over: markers go to these partitions under this identity."""

    transactional_id: str
    identity: ProducerIdentity
    commit: bool
    partitions: frozenset[TopicPartition]


class ModelCoordinator:
    """`ended` are the transactions that are over, in order; `begun` counts those that ever began; `committed` has the
    offsets by group."""

    def __init__(self) -> None:
        self.txns: dict[str, Txn] = {}
        self.ended: list[Ended] = []
        self.begun = 0
        self.committed: dict[tuple[str, TopicPartition], int] = {}
        self._ids = 0

    def init(self, name: str, given: ProducerIdentity | None) -> tuple[ErrorCode, ProducerIdentity | None]:
        txn = self.txns.get(name)
        if txn is None:
            txn = self.txns[name] = Txn(self._fresh())
            return NONE, txn.identity
        if given is not None and given not in (txn.identity, self._before(txn)):
            return ErrorCode.producer_fenced, None
        if given is not None and given == self._before(txn) and txn.state is TxnState.EMPTY:
            return NONE, txn.identity  # a repetition (KIP-360)
        if txn.state is TxnState.ONGOING:
            self._end(name, txn, commit=False)
        self._bump(txn)
        txn.state = TxnState.EMPTY
        return NONE, txn.identity

    def add(self, name: str, who: ProducerIdentity, partitions: set[TopicPartition]) -> ErrorCode:
        """AddPartitionsToTxn of a client, or of a broker on its behalf."""
        txn, code = self._find(name, who)
        if txn is None:
            return code
        if txn.state is not TxnState.ONGOING:
            self.begun += 1
            txn.state, txn.partitions, txn.groups, txn.offsets = TxnState.ONGOING, set(), set(), {}
        txn.partitions |= partitions
        return NONE

    def verify(self, name: str, who: ProducerIdentity, tp: TopicPartition) -> ErrorCode:
        """Before a write by the first version of the protocol."""
        txn, code = self._find(name, who)
        if txn is None:
            return code
        known = txn.state is TxnState.ONGOING and tp in txn.partitions
        return NONE if known else ErrorCode.invalid_txn_state

    def add_group(self, name: str, who: ProducerIdentity, group: str) -> ErrorCode:
        code = self.add(name, who, set())
        if code is NONE:
            self.txns[name].groups.add(group)
        return code

    def commit_offsets(
        self, name: str, who: ProducerIdentity, group: str, offsets: dict[TopicPartition, int], *, second: bool
    ) -> ErrorCode:
        code = self.add_group(name, who, group) if second else self._find(name, who)[1]
        txn = self.txns[name]
        if code is NONE and group not in txn.groups:
            code = ErrorCode.invalid_txn_state
        if code is NONE:
            txn.offsets.update({(group, tp): offset for tp, offset in offsets.items()})
        return code

    def end(
        self, name: str, who: ProducerIdentity, *, commit: bool, second: bool
    ) -> tuple[ErrorCode, ProducerIdentity | None]:
        txn = self.txns.get(name)
        done = TxnState.COMMITTED if commit else TxnState.ABORTED
        if txn is None:
            return ErrorCode.invalid_producer_id_mapping, None
        if second and who == self._before(txn) and txn.state in (TxnState.COMMITTED, TxnState.ABORTED):
            repeated = txn.state is done
            return (NONE, txn.identity) if repeated else (ErrorCode.invalid_txn_state, None)
        if who != txn.identity:
            return ErrorCode.producer_fenced, None
        if txn.state is TxnState.ONGOING:
            if second:
                self._bump(txn)
            self._end(name, txn, commit=commit)
        elif second and not commit:
            self._bump(txn)
            txn.state = done
        elif txn.state is not done or second:
            return ErrorCode.invalid_txn_state, None
        return NONE, txn.identity if second else None

    def time_out(self, name: str) -> None:
        """The transaction took too long."""
        txn = self.txns[name]
        if txn.state is TxnState.ONGOING:
            txn.identity = ProducerIdentity(txn.identity.producer_id, txn.identity.epoch + 2)
            self._end(name, txn, commit=False)

    def _find(self, name: str, who: ProducerIdentity) -> tuple[Txn | None, ErrorCode]:
        txn = self.txns.get(name)
        if txn is None:
            return None, ErrorCode.invalid_producer_id_mapping
        return (txn, NONE) if txn.identity == who else (None, ErrorCode.invalid_producer_epoch)

    def _end(self, name: str, txn: Txn, *, commit: bool) -> None:
        txn.state = TxnState.COMMITTED if commit else TxnState.ABORTED
        if commit:
            self.committed.update(txn.offsets)
        self.ended.append(Ended(name, txn.identity, commit, frozenset(txn.partitions)))

    def _bump(self, txn: Txn) -> None:
        txn.identity = ProducerIdentity(txn.identity.producer_id, txn.identity.epoch + 1)

    @staticmethod
    def _before(txn: Txn) -> ProducerIdentity:
        return ProducerIdentity(txn.identity.producer_id, txn.identity.epoch - 1)

    def _fresh(self) -> ProducerIdentity:
        self._ids += 1
        return ProducerIdentity(7000 + self._ids, 0)

"""transaction-states.md and producer-states.md: both sides of a transaction."""

from __future__ import annotations

from collections.abc import Iterator

from docs.pages.text import diagram, item, prose
from ottla.broker.transactions import TRANSITIONS as TRANSACTION_TRANSITIONS
from ottla.broker.transactions import State as TransactionState
from ottla.client.producer.transactions import TRANSITIONS as PRODUCER_TRANSITIONS
from ottla.client.producer.transactions import State as ProducerState


def transaction_states() -> Iterator[str]:
    yield "# The states of a transactional id\n"
    yield from prose(
        "From the table that the coordinator itself goes by: a record that would be any other step ends the node. The "
        "numbers are those in `__transaction_state`."
    )
    steps = [(one.label, after.label) for one, all_of in TRANSACTION_TRANSITIONS.items() for after in sorted(all_of)]
    yield from diagram([("[*]", "Empty"), *steps, ("Dead", "[*]")])
    for transaction_state, meaning in TRANSACTION_STATES.items():
        yield from item(f"{transaction_state.value} *{transaction_state.label}*: {meaning}")


TRANSACTION_STATES = {
    TransactionState.EMPTY: "it has a producer, which has begun no transaction in its present epoch.",
    TransactionState.ONGOING: "partitions are in the transaction; it may last for the producer's timeout.",
    TransactionState.PREPARE_COMMIT: "the commit is decided and stands, whoever coordinates; the partitions are told.",
    TransactionState.PREPARE_ABORT: "the abort is decided; the partitions are told.",
    TransactionState.COMPLETE_COMMIT: "every partition knows of the commit.",
    TransactionState.COMPLETE_ABORT: "every partition knows of the abort.",
    TransactionState.DEAD: "given up after `transactional.id.expiration.ms`; in the log that is a tombstone.",
    TransactionState.PREPARE_EPOCH_FENCE: (
        "the producer is fenced by another one, or has taken too long; never in the log, because the abort that "
        "follows is the same record."
    ),
}


def producer_states() -> Iterator[str]:
    yield "# The states of a transactional producer\n"
    yield from prose(
        "From the table that the client library goes by, with KafkaProducer's names; any other step is an "
        "IllegalStateError of the program."
    )
    order = list(ProducerState).index
    steps = [
        (one.value, after.value) for one, all_of in PRODUCER_TRANSITIONS.items() for after in sorted(all_of, key=order)
    ]
    first, last = ("[*]", ProducerState.UNINITIALIZED.value), (ProducerState.FATAL_ERROR.value, "[*]")
    yield from diagram([first, *steps, last])
    for state, meaning in PRODUCER_STATES.items():
        yield from item(f"*{state.value}*: {meaning}")


PRODUCER_STATES = {
    ProducerState.UNINITIALIZED: "not started.",
    ProducerState.INITIALIZING: (
        "asks for a producer id, or, after a transaction, for its next epoch: sequences were lost, or the next "
        "transaction is the first one by version 2."
    ),
    ProducerState.READY: "can begin a transaction.",
    ProducerState.IN_TRANSACTION: "takes records and offsets.",
    ProducerState.COMMITTING: "sends what is buffered, then EndTxn.",
    ProducerState.ABORTING: (
        "gives up what is buffered, then sends EndTxn; by version 1 only when nothing is on its way any more."
    ),
    ProducerState.ABORTABLE_ERROR: "something of the transaction failed, and all that can be done is to abort it.",
    ProducerState.FATAL_ERROR: "the producer is fenced, or nothing is sure any more; it can only be stopped.",
}

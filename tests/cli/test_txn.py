"""`ottla txn` against a node of our own: the verbs and columns of kafka-transactions.sh."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest
import pytest_asyncio

from ottla.client import Admin, NewTopic, Producer
from tests.cli import running

pytestmark = pytest.mark.asyncio(loop_scope="module")
SETTINGS = {"offsets.topic.num.partitions": 1, "transaction.state.log.num.partitions": 1}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with running.serving(tmp_path_factory.mktemp("cli"), nodes=1, settings=SETTINGS) as servers:
        yield servers


@pytest_asyncio.fixture(loop_scope="module")
async def producer(bootstrap: str, request: pytest.FixtureRequest) -> AsyncIterator[Producer]:
    """One whose id and topic have the test's name, with a record in an open transaction."""
    name = request.node.name
    async with Admin(bootstrap_servers=bootstrap) as admin:
        await admin.create_topics([NewTopic(name, 1, 1)])
    async with Producer(bootstrap_servers=bootstrap, transactional_id=name, linger_ms=0) as producer:
        async with producer.transaction():
            await producer.send(name, b"before", partition=0)
        await producer.begin_transaction()
        await producer.send_and_wait(name, b"open", partition=0, timestamp_ms=1_700_000_000_000)
        yield producer


def ottla(*words: str, bootstrap: str) -> Coroutine[Any, Any, tuple[int, str, str]]:
    return running.ottla("txn", *words, bootstrap=bootstrap)


def asked(*words: str, bootstrap: str) -> Coroutine[Any, Any, Any]:
    return running.asked("txn", *words, bootstrap=bootstrap)


async def test_list_and_describe(bootstrap: str, producer: Producer) -> None:
    name = "test_list_and_describe"
    (row,) = [each for each in await asked("list", bootstrap=bootstrap) if each["transactional_id"] == name]
    assert (row["coordinator"], row["transaction_state"]) == (1, "Ongoing")
    assert await asked("list", "--state", "Empty", bootstrap=bootstrap) == []
    (described,) = await asked("describe", name, bootstrap=bootstrap)
    assert described["producer_id"] == row["producer_id"]
    assert (described["transaction_timeout_ms"], described["topic_partitions"]) == (60000, f"{name}-0")
    assert 0 <= described["transaction_duration_ms"] < 60000
    await producer.abort_transaction()
    (described,) = await asked("describe", name, bootstrap=bootstrap)
    assert described["transaction_state"] == "CompleteAbort" and described["topic_partitions"] == ""
    status, out, _ = await ottla("list", bootstrap=bootstrap)
    assert status == 0 and out.split()[:4] == ["TransactionalId", "Coordinator", "ProducerId", "TransactionState"]


async def test_describe_producers(bootstrap: str, producer: Producer) -> None:
    name = "test_describe_producers"
    (row,) = await asked("describe-producers", "--topic", name, "--partition", "0", bootstrap=bootstrap)
    assert (row["last_sequence"], row["current_transaction_start_offset"]) == (0, 2)
    assert (row["last_timestamp"], row["latest_coordinator_epoch"]) == (1_700_000_000_000, 0)
    _, out, _ = await ottla("describe-producers", "--topic", name, "--partition", "0", bootstrap=bootstrap)
    assert out.split()[:2] == ["ProducerId", "ProducerEpoch"] and out.split()[5] == "CurrentTransactionStartOffset"


async def test_find_hanging_knows_who_will_be_ended(bootstrap: str, producer: Producer) -> None:
    """Its last record is years old by its timestamp, and its coordinator knows of it all the same."""
    name = "test_find_hanging_knows_who_will_be_ended"
    assert await asked("find-hanging", "--topic", name, bootstrap=bootstrap) == []
    _, out, _ = await ottla("find-hanging", "--broker-id", "1", bootstrap=bootstrap)
    assert out.split() == [
        *("Topic", "Partition", "ProducerId", "ProducerEpoch"),
        *("CoordinatorEpoch", "StartOffset", "LastTimestamp", "Duration(min)"),
    ]


async def test_abort(bootstrap: str, producer: Producer) -> None:
    where = ("--topic", "test_abort", "--partition", "0")
    status, _, err = await ottla("abort", *where, "--start-offset", "1", bootstrap=bootstrap)
    assert status == 1 and "no transaction that is open in test_abort-0 begins at offset 1" in err
    status, out, err = await ottla("abort", *where, "--start-offset", "2", bootstrap=bootstrap)
    assert (status, err) == (0, "") and out.startswith("Aborted the transaction of producer ")
    (row,) = await asked("describe-producers", *where, bootstrap=bootstrap)
    assert row["current_transaction_start_offset"] is None


@pytest.mark.parametrize(
    "words",
    [
        ("abort", "--topic", "t", "--partition", "0"),
        ("abort", "--topic", "t", "--partition", "0", "--producer-id", "1"),
        ("find-hanging",),
        ("find-hanging", "--partition", "0", "--broker-id", "1"),
    ],
)
async def test_wrong_usage(words: tuple[str, ...], bootstrap: str) -> None:
    assert (await ottla(*words, bootstrap=bootstrap))[0] == 2


async def test_what_is_not_there(bootstrap: str) -> None:
    status, _, err = await ottla("describe", "nobody", bootstrap=bootstrap)
    assert status == 1 and "TRANSACTIONAL_ID_NOT_FOUND" in err


async def test_an_id_without_a_transaction_is_described_too(bootstrap: str) -> None:
    async with Producer(bootstrap_servers=bootstrap, transactional_id="idle"):
        (described,) = await asked("describe", "idle", bootstrap=bootstrap)
    assert (described["transaction_state"], described["topic_partitions"]) == ("Empty", "")
    assert described["current_transaction_start_time_ms"] is None and described["transaction_duration_ms"] is None

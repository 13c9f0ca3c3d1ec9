"""Looking after transactions: what coordinators and partitions know, and what neither of them is going to end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from ottla.client import (
    Admin,
    OpenTransaction,
    Producer,
    ProducerState,
    TopicPartition,
    TransactionalIdNotFoundError,
    TransactionDescription,
    TransactionListing,
)
from ottla.client.producer.batch import ProducerIdentity
from tests.client.fake import FakeCluster

P, Q = TopicPartition("t", 0), TopicPartition("u", 0)
NOW = 10_000_000


@pytest_asyncio.fixture
async def admin(cluster: FakeCluster) -> AsyncIterator[Admin]:
    """Of a cluster with one transaction that is open in P."""
    cluster.create("t")
    cluster.create("u", leader=2)
    async with (
        Admin(bootstrap_servers=cluster.bootstrap, clock=lambda: NOW) as admin,
        Producer(bootstrap_servers=cluster.bootstrap, transactional_id="x", linger_ms=0) as producer,
    ):
        async with producer.transaction():
            await producer.send("t", b"a", partition=0, timestamp_ms=1000)
            await producer.send("u", b"a", partition=0, timestamp_ms=1000)
        await producer.begin_transaction()
        await producer.send_and_wait("t", b"b", partition=0, timestamp_ms=2000)
        yield admin


async def test_what_coordinators_know(cluster: FakeCluster, admin: Admin) -> None:
    who = cluster.transactions.model.txns["x"].identity
    assert await admin.list_transactions() == [TransactionListing("x", 1, who.producer_id, "Ongoing")]
    assert await admin.list_transactions(states=["Empty"]) == []
    assert await admin.list_transactions(producer_ids=[who.producer_id + 1]) == []
    with pytest.raises(ValueError, match="Nowhere"):
        await admin.list_transactions(states=["Nowhere"])
    cluster.transactions.leader = 2
    described = TransactionDescription("x", 2, "Ongoing", *who, 60000, 1_700_000_000_000, (P,))
    assert await admin.describe_transactions(["x"]) == {"x": described}
    with pytest.raises(TransactionalIdNotFoundError, match="'y'"):
        await admin.describe_transactions(["y"])


async def test_what_partitions_know(cluster: FakeCluster, admin: Admin) -> None:
    who = cluster.transactions.model.txns["x"].identity
    assert await admin.describe_producers([P, Q]) == {
        P: [ProducerState(*who, 0, 2000, 0, 2)],
        Q: [ProducerState(*who, 0, 1000, 0, None)],
    }
    assert (await admin.describe_producers([P], broker_id=1))[P][0].transaction_start_offset == 2
    cluster.elect(P, 2)
    async with asyncio.timeout(5):
        assert len((await admin.describe_producers([P]))[P]) == 1


async def test_a_transaction_that_somebody_will_end_does_not_hang(admin: Admin) -> None:
    assert await admin.find_hanging_transactions(max_transaction_timeout_ms=1) == []


async def test_a_transaction_that_no_coordinator_knows_of_hangs_until_it_is_aborted(
    cluster: FakeCluster, admin: Admin
) -> None:
    del cluster.transactions.model.txns["x"]
    (found,) = await admin.find_hanging_transactions(max_transaction_timeout_ms=NOW - 2001)
    assert isinstance(found, OpenTransaction) and found.partition == P and found.producer.transaction_start_offset == 2
    assert await admin.find_hanging_transactions(max_transaction_timeout_ms=NOW - 2000) == [], "it may take so long"
    assert await admin.find_hanging_transactions([Q], max_transaction_timeout_ms=1) == []
    producer = found.producer
    await admin.abort_transaction(
        P, producer_id=producer.producer_id, producer_epoch=producer.producer_epoch, coordinator_epoch=0
    )
    assert await admin.find_hanging_transactions(max_transaction_timeout_ms=1) == []


async def test_a_partition_that_is_no_part_of_the_transaction_hangs(cluster: FakeCluster, admin: Admin) -> None:
    """A write that came after the end of its transaction (KIP-890)."""
    cluster.transactions.model.txns["x"].partitions = {Q}
    (found,) = await admin.find_hanging_transactions(max_transaction_timeout_ms=1)
    assert found.partition == P


async def test_fencing_aborts(cluster: FakeCluster, admin: Admin) -> None:
    before = cluster.transactions.model.txns["x"].identity
    assert await admin.fence_producers(["x"]) == {"x": ProducerIdentity(before.producer_id, before.epoch + 1)}
    assert not cluster.transactions.model.ended[-1].commit


async def test_a_transaction_is_terminated_by_force(cluster: FakeCluster, admin: Admin) -> None:
    """KIP-939's way for a transaction that its program will not end."""
    before = cluster.transactions.model.txns["x"].identity
    await admin.force_terminate_transaction("x")
    assert cluster.transactions.model.txns["x"].identity.epoch == before.epoch + 1
    assert not cluster.transactions.model.ended[-1].commit

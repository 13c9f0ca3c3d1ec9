"""The ledger under failover: a whole cluster inside of each test, in virtual time.

`pytest examples/ledger` runs them; `--simulation-seed 7` gives every test the world of one seed.
"""

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager

import pytest

from ledger.ledger import GROUP, Ledger
from ottla import Producer
from ottla.client import FatalTransactionError, TopicPartition
from ottla.simulation import controller, leader_of

PARTITIONS = 2
ACCOUNTS = ("ada", "grace", "edsger", "barbara", "donald")
SETTINGS = {
    "group.initial.rebalance.delay.ms": "100",
    "offsets.topic.num.partitions": "2",
    "transaction.state.log.num.partitions": "2",
}


class Bank:
    """The cluster, and those who work with it."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.transfers = 0

    async def open(self):
        await self.cluster.create_topic("transfers", PARTITIONS)
        await self.cluster.create_topic("entries", PARTITIONS)
        return self

    async def transfer(self, count):
        async with Producer(bootstrap_servers=self.cluster.bootstrap) as producer:
            for number in range(self.transfers, self.transfers + count):
                there, here = ACCOUNTS[number % 5], ACCOUNTS[(number + 1 + number // 5 % 4) % 5]
                transfer = {"id": number, "from": there, "to": here, "cents": 100 + number}
                await producer.send("transfers", json.dumps(transfer).encode(), key=there.encode())
        self.transfers += count

    @asynccontextmanager
    async def ledger(self, name):
        """One that is started again whenever it gives up, until it is killed at the end of the block."""

        async def keep_running():
            while True:
                try:
                    await Ledger(self.cluster.bootstrap, name).run()
                except Exception:  # noqa: BLE001  whatever it was, the next one begins where the group has committed
                    await asyncio.sleep(0.5)

        task = asyncio.create_task(keep_running())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def entries(self):
        """What an auditor sees who reads what is committed, once every transfer is booked."""
        found = []
        async with self.cluster.consumer(auto_offset_reset="earliest", isolation_level="read_committed") as auditor:
            auditor.assign([TopicPartition("entries", partition) for partition in range(PARTITIONS)])
            while len({entry["transfer"] for entry in found}) < self.transfers:
                for records in (await auditor.getmany(timeout_ms=1000)).values():
                    found += [json.loads(record.value) for record in records]
            for records in (await auditor.getmany(timeout_ms=2000)).values():
                found += [json.loads(record.value) for record in records]
        return found

    async def is_sound(self):
        entries = await self.entries()
        assert sum(entry["cents"] for entry in entries) == 0
        booked = Counter((entry["transfer"], entry["cents"] > 0) for entry in entries)
        assert booked == Counter({(number, side): 1 for number in range(self.transfers) for side in (True, False)})


@pytest.mark.simulation(seeds=3, settings=SETTINGS, limit=300)
async def test_every_transfer_is_booked_once_whoever_dies(simulated_cluster):
    bank = await Bank(simulated_cluster).open()
    async with bank.ledger("one"), bank.ledger("two"):
        await bank.transfer(20)
        killed = simulated_cluster.kill(leader_of("entries", 0))
        await bank.transfer(20)
        simulated_cluster.start(killed)
        await simulated_cluster.until(lambda: simulated_cluster.full("entries"), "every replica is in sync")
        simulated_cluster.isolate(controller, clients=True)
        await bank.transfer(20)
        await simulated_cluster.advance(5)
        simulated_cluster.heal()
        await bank.is_sound()


@pytest.mark.simulation(settings=SETTINGS, limit=300)
async def test_a_ledger_that_is_killed_leaves_nothing_behind(simulated_cluster):
    bank = await Bank(simulated_cluster).open()
    for _ in range(4):
        async with bank.ledger("one"):
            await bank.transfer(10)
            await asyncio.sleep(1.3)
    async with bank.ledger("one"):
        await bank.is_sound()


@pytest.mark.simulation(settings=SETTINGS, limit=300)
async def test_of_two_ledgers_of_one_name_the_older_one_is_told_to_stop(simulated_cluster):
    bank = await Bank(simulated_cluster).open()
    old = asyncio.create_task(Ledger(simulated_cluster.bootstrap, "one").run())
    await bank.transfer(10)
    await bank.is_sound()
    async with bank.ledger("one"):
        while not old.done():
            await bank.transfer(1)
            await asyncio.sleep(0.5)
        with pytest.raises(FatalTransactionError):
            await old
        await bank.is_sound()
    async with simulated_cluster.admin() as admin:
        assert await admin.list_consumer_group_offsets(GROUP)

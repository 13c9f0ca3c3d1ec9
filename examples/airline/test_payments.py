"""The payments under failover: a whole cluster inside of each test, in virtual time, in a fraction of a second.

`pytest examples/airline` runs them; `--simulation-seed 7` gives every test the world of one seed.
"""

import asyncio
import json
from contextlib import asynccontextmanager, suppress

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from airline.payments import DAILY_LIMIT, Payments
from ottla.simulation import controller, leader_of

PARTITIONS = 2


class Airline:
    """The application, and those around it: who pays, who gets the mails, who reads the decisions."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.mails = []

    async def mail(self, user, text):
        self.mails.append(user)

    @asynccontextmanager
    async def running(self):
        """The application runs, until it is killed at the end of the block."""
        task = asyncio.create_task(Payments(self.cluster.bootstrap, PARTITIONS, self.mail).run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def pay(self, user, *ids):
        async with AIOKafkaProducer(
            bootstrap_servers=self.cluster.bootstrap, acks="all", enable_idempotence=True
        ) as to:
            for number in ids:
                await to.send_and_wait("transactions", json.dumps({"id": number}).encode(), key=user.encode())

    async def decided(self, count):
        """The first so many decisions, as (user, id, accepted)."""
        reader = AIOKafkaConsumer(bootstrap_servers=self.cluster.bootstrap, auto_offset_reset="earliest")
        await reader.start()
        reader.assign([TopicPartition("decisions", partition) for partition in range(PARTITIONS)])
        found = []
        while len(found) < count:
            record = await reader.getone()
            decision = json.loads(record.value)
            found.append((record.key.decode(), decision["id"], decision["accepted"]))
        with suppress(asyncio.CancelledError):  # aiokafka's, when it is waiting to try a dead node again
            await reader.stop()
        return found


@pytest.fixture
def airline(simulated_cluster):
    return Airline(simulated_cluster)


async def topics(cluster):
    await cluster.create_topic("transactions", PARTITIONS)
    await cluster.create_topic("decisions", PARTITIONS)


@pytest.mark.simulation(seeds=5)
async def test_nobody_gets_an_eleventh_and_one_mail_is_sent_whichever_leader_dies(simulated_cluster, airline):
    await topics(simulated_cluster)
    async with airline.running():
        await airline.pay("grace", *range(3))
        await airline.pay("ada", *range(5))
        killed = simulated_cluster.kill(leader_of("transactions", 0))
        await airline.pay("ada", *range(5, 9))
        simulated_cluster.start(killed)
        await simulated_cluster.until(lambda: simulated_cluster.full("decisions"), "every replica is in sync")
        simulated_cluster.isolate(leader_of("decisions", 1), clients=True)
        await airline.pay("ada", *range(9, 13))
        simulated_cluster.heal()
        decided = await airline.decided(16)
    assert sorted(id for user, id, accepted in decided if user == "ada" and accepted) == list(range(DAILY_LIMIT))
    assert sorted(id for user, id, accepted in decided if user == "ada" and not accepted) == [10, 11, 12]
    assert [id for user, id, accepted in decided if user == "grace" and accepted] == [0, 1, 2]
    assert airline.mails == ["ada"]


async def test_an_application_that_is_killed_remembers(simulated_cluster, airline):
    await topics(simulated_cluster)
    async with airline.running():
        await airline.pay("ada", *range(8))
        await airline.decided(8)
    simulated_cluster.kill(controller)
    await airline.pay("ada", 8, 9, 10)
    async with airline.running():
        decided = await airline.decided(11)
    assert [accepted for _, _, accepted in decided] == [True] * 10 + [False]
    assert airline.mails == ["ada"]


async def test_without_a_majority_nothing_is_decided_and_afterwards_everything(simulated_cluster, airline):
    await topics(simulated_cluster)
    async with airline.running():
        await airline.pay("ada", 0)
        await airline.decided(1)
        simulated_cluster.kill(1)
        simulated_cluster.kill(2)
        paying = asyncio.create_task(airline.pay("ada", 1))
        await simulated_cluster.advance(20)
        assert not paying.done()
        simulated_cluster.start(1)
        simulated_cluster.start(2)
        await paying
        assert await airline.decided(2) == [("ada", 0, True), ("ada", 1, True)]

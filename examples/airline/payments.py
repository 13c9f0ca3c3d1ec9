"""An airline's payments: every user may make ten transactions a day, and gets a mail at the first one over that.

It is an ordinary application of aiokafka, and knows nothing of Ottla or of simulations. It reads the topic
`transactions` (the key is the user, the value JSON) and writes one decision for each to the same partition of
`decisions`. Its memory is that second topic: it reads it when it starts, so it can be killed at any moment.
"""

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

DAILY_LIMIT = 10

Mail = Callable[[str, str], Awaitable[None]]
"""Sends a text to a user."""


class Payments:
    """`mail` may be called twice for one day of one user if the application is killed in between; never not at all."""

    def __init__(self, bootstrap_servers: str, partitions: int, mail: Mail) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._partitions = partitions
        self._mail = mail
        self._made: Counter[tuple[str, str]] = Counter()  # by user and day
        self._next = dict.fromkeys(range(partitions), 0)  # the offset of the next transaction, by partition

    async def run(self) -> None:
        """Decide, for ever."""
        await self._remember()
        todo = AIOKafkaConsumer(bootstrap_servers=self._bootstrap_servers, auto_offset_reset="earliest")
        decisions = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap_servers, acks="all", enable_idempotence=True, linger_ms=0
        )
        async with todo, decisions:
            todo.assign([TopicPartition("transactions", partition) for partition in self._next])
            for partition, offset in self._next.items():
                todo.seek(TopicPartition("transactions", partition), offset)
            async for transaction in todo:
                await self._decide(transaction, decisions)

    async def _decide(self, transaction, decisions: AIOKafkaProducer) -> None:
        user = transaction.key.decode()
        day = datetime.fromtimestamp(transaction.timestamp / 1000, UTC).date().isoformat()
        made = self._made[user, day] + 1
        if made == DAILY_LIMIT + 1:
            await self._mail(user, f"You have made {DAILY_LIMIT} transactions on {day}: no more until tomorrow.")
        decision = {
            "id": json.loads(transaction.value)["id"],
            "day": day,
            "accepted": made <= DAILY_LIMIT,
            "transaction": transaction.offset,
        }
        await decisions.send_and_wait(
            "decisions", json.dumps(decision).encode(), key=transaction.key, partition=transaction.partition
        )
        self._made[user, day] = made

    async def _remember(self) -> None:
        past = AIOKafkaConsumer(bootstrap_servers=self._bootstrap_servers, auto_offset_reset="earliest")
        async with past:
            where = [TopicPartition("decisions", partition) for partition in self._next]
            past.assign(where)
            for partition, end in (await past.end_offsets(where)).items():
                while await past.position(partition) < end:
                    record = await past.getone(partition)
                    decision = json.loads(record.value)
                    self._made[record.key.decode(), decision["day"]] += 1
                    self._next[record.partition] = decision["transaction"] + 1

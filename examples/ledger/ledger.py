"""A ledger: for every transfer of money an entry in the account that it leaves, and one in that which it reaches.

It consumes, transforms and produces in transactions. The topic `transfers` has JSON such as {"id": 7, "from": "ada",
"to": "grace", "cents": 250}. For each of them two entries go to the topic `entries`, by account, so mostly to different
partitions. Both of them and the ledger's place in `transfers` are one transaction: whoever reads what is committed sees
each transfer exactly once and as a whole, whenever a ledger or a broker dies. Several ledgers share the work.
"""

import json
from collections.abc import Mapping, Sequence

from ottla import Consumer, Producer
from ottla.client import AbortableTransactionError, ConsumerRecord, TopicPartition

GROUP = "ledger"


class Ledger:
    """`name` is unique among the ledgers that run, and stays the same when one is started again: the new one fences the
    old one, and what that left open is aborted."""

    def __init__(self, bootstrap_servers: str, name: str) -> None:
        self._transfers = Consumer(
            "transfers",
            bootstrap_servers=bootstrap_servers,
            group_id=GROUP,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,  # offsets are committed with the entries, or not at all
            session_timeout_ms=6000,
            heartbeat_interval_ms=1000,
        )
        self._entries = Producer(
            bootstrap_servers=bootstrap_servers, transactional_id=f"{GROUP}-{name}", transaction_timeout_ms=10000
        )

    async def run(self) -> None:
        """Book, for ever.

        Raises FatalTransactionError when another ledger has taken this one's name, KafkaTimeoutError when nobody tells
        what became of a transaction: whoever runs it starts a new one then, which begins where the group has committed.
        """
        async with self._transfers, self._entries:
            while True:
                transfers = await self._transfers.getmany(timeout_ms=1000, max_records=100)
                if not transfers:
                    continue
                try:
                    await self._book(transfers)
                except AbortableTransactionError:
                    # All of it is undone, so it has to be read again, by whoever has the partitions now.
                    await self._transfers.seek_to_committed()

    async def _book(self, transfers: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> None:
        # The group at this moment: should the partitions go to another ledger before the end, the offsets are refused.
        group = self._transfers.group_metadata()
        async with self._entries.transaction():
            for records in transfers.values():
                for record in records:
                    transfer = json.loads(record.value)
                    await self._enter(transfer, transfer["from"], -transfer["cents"])
                    await self._enter(transfer, transfer["to"], transfer["cents"])
            places = {partition: records[-1].offset + 1 for partition, records in transfers.items()}
            await self._entries.send_offsets_to_transaction(places, group)

    async def _enter(self, transfer: dict, account: str, cents: int) -> None:
        entry = {"transfer": transfer["id"], "account": account, "cents": cents}
        await self._entries.send("entries", json.dumps(entry).encode(), key=account.encode())

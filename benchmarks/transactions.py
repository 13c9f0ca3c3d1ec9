"""Transactions of 100 ms against none: 1 KB records, three nodes, acks=all, by librdkafka and by our own client.

Run by hand: ``python benchmarks/transactions.py [RECORDS] [ROUNDS]``. The two take turns, so that noise hits both.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable

from common import cluster, load, make_topic, megabytes, show

from ottla.client import Producer

LENGTH_MS = 100
PARTITIONS = 4
SIZE = 1024
OURS = 3
"""Our own client sends a third of the records: it is Python."""

Run = Callable[[str, int], Awaitable[dict[str, float]]]


async def main(records: int, rounds: int) -> None:
    """Measure and print."""
    rows = []
    async with cluster(3) as supervisor:
        bootstrap = supervisor.layout.bootstrap
        await make_topic(supervisor, "load", PARTITIONS, 3)
        for name, plain, transactional, count in (
            ("librdkafka", _plain, _transactional, records),
            ("ottla", _ours, _ours_in_transactions, records // OURS),
        ):
            # Whoever is first makes the coordinators' topic, too.
            await transactional(bootstrap, min(count, 5_000))
            await plain(bootstrap, min(count, 5_000))
            results = [(await plain(bootstrap, count), await transactional(bootstrap, count)) for _ in range(rounds)]
            rows.append([name, *_summary(results)])
    show(
        f"Three nodes, RF 3, acks=all, idempotent, 4 partitions, {records:,} records of 1 KiB "
        f"(ottla: {records // OURS:,}), median of {rounds}",
        ["client", "plain MB/s", f"transactions of {LENGTH_MS} ms MB/s", "ratio", "ms a transaction"],
        rows,
    )


def _summary(results: list[tuple[dict[str, float], dict[str, float]]]) -> list[str]:
    plain = statistics.median(megabytes(one) for one, _ in results)
    transactional = statistics.median(megabytes(other) for _, other in results)
    ratio = statistics.median(megabytes(other) / megabytes(one) for one, other in results)
    length = statistics.median(other["seconds"] / other["transactions"] * 1000 for _, other in results)
    return [f"{plain:.1f}", f"{transactional:.1f}", f"{ratio:.0%}", f"{length:.0f}"]


async def _plain(bootstrap: str, records: int) -> dict[str, float]:
    return await load(bootstrap, "load", records, "all", "--idempotent")


async def _transactional(bootstrap: str, records: int) -> dict[str, float]:
    return await load(bootstrap, "load", records, "all", "--transactions", str(LENGTH_MS))


async def _ours(bootstrap: str, records: int) -> dict[str, float]:
    async with Producer(bootstrap_servers=bootstrap, max_batch_size=100_000) as producer:
        await _send(producer, PARTITIONS * 100, float("inf"))
        await producer.flush()
        began = time.perf_counter()
        await _send(producer, records, float("inf"))
        await producer.flush()
        return {"records": records, "seconds": time.perf_counter() - began, "transactions": 0}


async def _ours_in_transactions(bootstrap: str, records: int) -> dict[str, float]:
    async with Producer(bootstrap_servers=bootstrap, max_batch_size=100_000, transactional_id="ours") as producer:
        async with producer.transaction():
            await _send(producer, PARTITIONS * 100, float("inf"))
        began = time.perf_counter()
        sent = count = 0
        while sent < records:
            async with producer.transaction():
                sent += await _send(producer, records - sent, time.perf_counter() + LENGTH_MS / 1000)
            count += 1
        return {"records": records, "seconds": time.perf_counter() - began, "transactions": count}


async def _send(producer: Producer, records: int, until: float) -> int:
    value = bytes(SIZE)
    for number in range(records):
        await producer.send("load", value, partition=number // 100 % PARTITIONS)
        if number % 100 == 0:
            await asyncio.sleep(0)
            if time.perf_counter() > until:
                return number + 1
    return records


if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[1:]]
    asyncio.run(main(*(arguments + [200_000, 3][len(arguments) :])))

"""Whether every input was copied once, by what copiers say of their transactions and by what a reader saw."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

from ottla.client import Consumer, TopicPartition
from tests.failover.application import Told

FIRST = 5
"""So many of each kind of mistake are named."""


def mistakes(inputs: Iterable[tuple[int, int]], seen: Iterable[bytes], told: Mapping[str, Told]) -> list[str]:
    """What is wrong with the copies `seen` of the `inputs` (partition, number); nothing, if nothing is.

    A transaction is seen as a whole or not at all. It is seen if its copier knows that it was committed, and it is not
    if its copier never tried that, or knows that it was aborted.
    """
    copied: Counter[tuple[int, int]] = Counter()
    authors: Counter[str] = Counter()
    for value in seen:
        what, author = value.decode().split()
        partition, number = what.split("/")
        copied[int(partition), int(number)] += 1
        authors[author] += 1
    wanted = set(inputs)
    kinds = {
        "not copied": [str(each) for each in sorted(wanted - copied.keys())],
        "copied more than once": [f"{each}: {times} times" for each, times in sorted(copied.items()) if times > 1],
        "copied from nothing": [str(each) for each in sorted(copied.keys() - wanted)],
        "of an unknown transaction": sorted(authors.keys() - told.keys()),
    }
    for key, transaction in told.items():
        fault = _fault(transaction, authors[key])
        if fault:
            kinds.setdefault(fault, []).append(
                f"{key}: {authors[key]} of {transaction.records} ({transaction.outcome})"
            )
    return [f"{kind}: {len(rows)}, {rows[:FIRST]}" for kind, rows in kinds.items() if rows]


def _fault(transaction: Told, seen: int) -> str:
    if transaction.outcome == "aborted" or transaction.records is None:
        return "aborted and read" if seen else ""
    if seen == transaction.records:
        return ""
    if transaction.outcome == "committed":
        return "committed and not read"
    return "torn" if seen else ""


class Copies:
    """Reads what is committed in a topic, from the beginning, as it comes. Use as an async context manager."""

    def __init__(self, bootstrap: str, topic: str, partitions: int) -> None:
        self.seen: list[bytes] = []
        self.places = dict.fromkeys(range(partitions), 0)
        self._topic = topic
        self._consumer = Consumer(
            bootstrap_servers=bootstrap, isolation_level="read_committed", auto_offset_reset="earliest"
        )
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        self._consumer.assign([TopicPartition(self._topic, partition) for partition in self.places])
        self._task = asyncio.create_task(self._read(), name=f"reader of {self._topic}")
        self._task.add_done_callback(lambda _: self._news.set())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._consumer.stop()

    async def _read(self) -> None:
        while True:
            for tp, records in (await self._consumer.getmany(timeout_ms=500)).items():
                for record in records:
                    assert record.offset >= self.places[tp.partition], f"{tp}: {record.offset} after {self.places}"
                    self.places[tp.partition] = record.offset + 1
                    self.seen.append(record.value)
            for partition in self.places:
                # Behind the markers, too.
                place = await self._consumer.position(TopicPartition(self._topic, partition))
                self.places[partition] = max(self.places[partition], place)
            self._news.set()

    async def count(self, count: int, within: float) -> None:
        """Wait until so many were seen. Raises AssertionError when none has come for `within` seconds."""
        while len(self.seen) < count:
            before = len(self.seen)
            await self._until(lambda before=before: len(self.seen) > before, f"one more of {count} copies", within)  # type: ignore[misc]

    async def reach(self, ends: Sequence[int], within: float) -> None:
        """Wait until all below these offsets was read. Raises AssertionError if that takes longer than `within`."""
        await self._until(
            lambda: all(self.places[partition] >= end for partition, end in enumerate(ends)), f"read to {ends}", within
        )

    async def _until(self, holds: Callable[[], bool], what: str, within: float) -> None:
        assert self._task is not None
        try:
            async with asyncio.timeout(within):
                while not holds():
                    if self._task.done():
                        self._task.result()
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(
                f"not within {within:g} s: {what}; {len(self.seen)} copies, read to {self.places}"
            ) from None

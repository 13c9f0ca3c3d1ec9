"""What a copier is told, what it decides, and what it tells: everything but the client library."""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Final

GIVES_UP: Final = 0.15
"""How often a transaction is aborted although nothing is wrong with it."""
MOST_RECORDS: Final = 20
SESSION_MS: Final = 2000
HEARTBEAT_MS: Final = 300
TRANSACTION_MS: Final = 10_000
BLOCKED_MS: Final = 20_000

HOLDS: Final = ("before the records", "before the offsets", "before the commit")


class GivenUp(Exception):
    """This transaction is to be aborted."""


@dataclass(slots=True)
class Job:
    """One run of a copier.

    Attributes:
        name: the transactional id, and the consumer's group instance id if it has one. Every instance has the same.
        instance: the number of this one.
        protocol: the protocol of the group, where the library lets one choose.
        busy: it starts, or has a transaction.
        hold: where in its second transaction it waits for a line on its standard input; None for nowhere.
    """

    bootstrap: str
    source: str
    target: str
    partitions: int
    group: str
    name: str
    instance: int
    protocol: str = "classic"
    hold: str | None = None
    attempt: int = 0
    busy: bool = True
    stopping: bool = False
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(f"{self.name} {self.instance}")

    def say(self, what: str, **more: Any) -> None:
        """One line, written whole: what is said before a kill is heard after it."""
        self.busy = what in ("begun", "going on", "committing")
        os.write(1, json.dumps({"said": what, "attempt": self.attempt, **more}).encode() + b"\n")

    def most(self) -> int:
        """How many records to take at a time."""
        return self.rng.randint(1, MOST_RECORDS)

    def begin(self) -> None:
        self.attempt += 1
        self.say("begun")

    def copy(self, partition: int, offset: int, value: bytes | None) -> tuple[int, bytes]:
        """The partition that a record's copy belongs to, and the copy, which tells what of, and who made it."""
        number = int(value or b"")
        made = f"{partition}/{number} {self.name}.{self.instance}.{self.attempt}"
        return (partition + offset) % self.partitions, made.encode()

    def wait(self, where: str) -> None:
        """Stand still there, if that was asked for."""
        if self.hold == where and self.attempt == 2:
            self.say("holding")
            sys.stdin.readline()
            self.say("going on")

    def watch(self, patience_s: int) -> None:
        """End the process when it has been busy with one thing for so many seconds in which it was not stopped."""
        thread = threading.Thread(target=self._watch, args=(patience_s,), daemon=True)
        thread.start()

    def _watch(self, patience_s: int) -> None:
        attempt, seconds = self.attempt, 0
        while seconds < patience_s:
            time.sleep(1.0)
            seconds = seconds + 1 if self.busy and self.attempt == attempt else 0
            attempt = self.attempt
        self.say("gave up", error=f"nothing for {patience_s} s")
        os._exit(1)

    def end(self, records: int) -> None:
        """The transaction has so many records and would be committed now. Raises GivenUp if it is not to be."""
        self.wait("before the commit")
        if self.rng.random() < GIVES_UP:
            raise GivenUp
        self.say("committing", records=records)

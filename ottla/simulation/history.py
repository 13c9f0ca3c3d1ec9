"""What clients asked for and what they were told: the record that the checker judges, one JSON object a line.

The shape is that of Jepsen's kafka workload. Every operation has an `invoke` entry and, when its client learned the
outcome, an entry of type ok, fail (it surely had no effect) or info (nobody knows). One process does one operation
after the other; after an info it is never heard of again.

Keys name partitions ("orders-0"); values are integers, unique per key. By `f`, the value of an entry is:

* send, poll, txn: a list of micro-operations, ``["send", key, [offset | null, value]]`` and
  ``["poll", {key: [[offset, value], ...]}]`` (empty when invoked). A txn is one transaction from its begin to its end:
  ok when it is committed, fail when it is aborted or surely will be. Who writes transactions reads only what is
  committed, and so do all readers of a history that has some;
* assign: ``{key: offset | null}``, all keys that are read from now on; null keeps the position;
* subscribe: a list of topics; crash: null;
* ends: ``{key: [end offset, leader epoch]}``, what ListOffsets answers for the latest offset (a list of keys when
  invoked);
* leads: ``{key: leader epoch}``, noted by somebody who looks into all nodes (process 0) before the next outcome: no
  later epoch has begun by then. Keys that stay as they were need not be named;
* epochs: ``{key: [[leader epoch, its first offset], ...]}``, seen by somebody who has read everything.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

from kio.schema.errors import ErrorCode

from ottla.client import BrokerResponseError, KafkaError

Kind = Literal["invoke", "ok", "fail", "info"]
Function = Literal["send", "poll", "txn", "assign", "subscribe", "crash", "ends", "leads", "epochs"]

CRASHED: Final = "the client crashed"
"""The error of an operation that its own client did not live to see the end of."""

DEFINITE: Final = frozenset(
    {
        ErrorCode.topic_authorization_failed,
        ErrorCode.group_authorization_failed,
        ErrorCode.cluster_authorization_failed,
        ErrorCode.transactional_id_authorization_failed,
        ErrorCode.invalid_topic_exception,
        ErrorCode.unknown_topic_or_partition,
        ErrorCode.out_of_order_sequence_number,
        ErrorCode.producer_fenced,
        ErrorCode.invalid_producer_epoch,
        ErrorCode.invalid_txn_state,
    }
)
"""Answers that say of a write that it is not in the log and never will be, if nothing else is known about it."""


# Not frozen, which would make it take four times as long to make: every operation of a client has two.
@dataclass(slots=True)
class Entry:
    """One line of a history. `t_mono_ns` is the time of the loop; `node` is the broker that answered, if one is
    known; `rebalance_log` has a list of keys for every rebalance that happened during the operation."""

    index: int
    t_mono_ns: int
    process: int
    node: int | None
    type: Kind
    f: Function
    value: Any
    error: str | None = None
    rebalance_log: list[list[str]] | None = None


_FIELDS: Final = tuple(field.name for field in fields(Entry))


class History:
    """Entries in the order in which they happened. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = lambda: 0.0) -> None:
        self.entries: list[Entry] = []
        self._clock = clock

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def invoke(self, process: int, f: Function, value: Any) -> Entry:
        """A client begins an operation."""
        return self._add(process, None, "invoke", f, value, None)

    def complete(
        self, invoked: Entry, kind: Kind, value: Any, *, error: str | None = None, node: int | None = None
    ) -> Entry:
        """The client was told how it ended."""
        return self._add(invoked.process, node, kind, invoked.f, value, error)

    def counts(self) -> dict[str, int]:
        """How many operations ended as ok, fail and info. One that has not ended counts as info."""
        kinds = Counter(entry.type for entry in self.entries)
        return {"ok": kinds["ok"], "fail": kinds["fail"], "info": kinds["invoke"] - kinds["ok"] - kinds["fail"]}

    def dumps(self) -> str:
        """JSONL; the same history always gives the same bytes."""
        return "".join(dump(entry) + "\n" for entry in self.entries)

    @classmethod
    def loads(cls, text: str) -> History:
        """What `dumps` wrote. Raises ValueError for anything else."""
        history = cls()
        history.entries = list(load(text.splitlines()))
        return history

    def _add(self, process: int, node: int | None, kind: Kind, f: Function, value: Any, error: str | None) -> Entry:
        entry = Entry(len(self.entries), round(self._clock() * 1e9), process, node, kind, f, value, error)
        self.entries.append(entry)
        return entry


def dump(entry: Entry) -> str:
    """One line of JSONL, without its end. Keys come in the order of the fields."""
    return json.dumps({name: getattr(entry, name) for name in _FIELDS}, separators=(",", ":"))


def load(lines: Iterable[str]) -> Iterator[Entry]:
    """Entries of a history in JSONL. Raises ValueError when a line is none, or out of order."""
    for number, line in enumerate(lines):
        fields = json.loads(line)
        if not isinstance(fields, dict) or tuple(fields) != _FIELDS or fields["index"] != number:
            raise ValueError(f"line {number + 1} is not entry {number} of a history: {line[:200]!r}")
        yield Entry(**fields)


def classify(error: KafkaError) -> Literal["fail", "info"]:
    """What an error says about a write: `fail` if it surely is in no log, `info` if it may be in one.

    Our producer knows, since it saw every attempt. Where it says nothing, the error code has to do:
    NOT_LEADER_OR_FOLLOWER is not definite (KAFKA-13574), nor is a timeout, a lost connection or UNKNOWN_SERVER_ERROR.
    """
    if error.definite is not None:
        return "fail" if error.definite else "info"
    return "fail" if isinstance(error, BrokerResponseError) and error.code in DEFINITE else "info"

"""What the tests want of a client library, in words that are none of the libraries' own.

Each library has an adapter (``confluent.py``, ``aio.py``, ``kafka_python.py``) that does nothing but translate, with
the library's default settings except where a test is about another one and for deadlines. Errors come as Kafka's codes.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

Codec = Literal["none", "gzip", "snappy", "lz4", "zstd"]
CODECS: tuple[Codec, ...] = ("none", "gzip", "snappy", "lz4", "zstd")
Headers = tuple[tuple[str, bytes | None], ...]

DELIVERY_S = 40
MAX_REQUEST = 16 << 20
MAX_OUTSTANDING = 100


@dataclass(frozen=True, slots=True)
class Message:
    """A record to be written; ``timestamp`` in ms, None to have the library take the time."""

    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    timestamp: int | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A record as a library handed it out. ``timestamp_type`` is 0 (created) or 1 (appended to the log)."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to one written message: its offset, or Kafka's error code (negative: the library's own error)."""

    offset: int
    error: int = 0
    text: str = ""


class Refused(Exception):
    """The library raised what a broker answered."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


@dataclass(frozen=True, slots=True)
class PartitionSeen:
    leader: int
    replicas: tuple[int, ...]
    isr: frozenset[int]


@dataclass(frozen=True, slots=True)
class ClusterSeen:
    cluster_id: str
    controller: int
    brokers: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class How:
    """How a writer writes."""

    acks: int | Literal["all"] = "all"
    codec: Codec = "none"
    idempotent: bool = False
    linger_ms: int = 5
    batch_bytes: int = 16384
    settings: Mapping[str, object] = field(default_factory=dict)


Answered = Callable[[int, Result], None]


def nobody(index: int, result: Result) -> None:
    """For writers whose answers are only wanted at the end."""


class Reader(ABC):
    """One partition, from the beginning until told otherwise."""

    @abstractmethod
    def poll(self, most: int, within: float) -> list[Seen]:
        """The next records, at most ``most``; none when there are none for ``within`` seconds. Raises Refused."""

    @abstractmethod
    def seek(self, offset: int) -> None: ...
    @abstractmethod
    def seek_to_end(self) -> None: ...
    @abstractmethod
    def bounds(self) -> tuple[int, int]:
        """The first offset and the one after the last."""

    @abstractmethod
    def offset_at(self, timestamp: int) -> int | None:
        """The first offset whose record is not older than ``timestamp``; None when there is none."""

    def take(self, count: int, within: float = 30.0) -> list[Seen]:
        """The next ``count`` records; AssertionError when they do not come."""
        taken: list[Seen] = []
        deadline = time.monotonic() + within
        while len(taken) < count:
            assert time.monotonic() < deadline, f"{len(taken)} of {count} records"
            taken += self.poll(count - len(taken), 0.5)
        return taken


class Admin(Protocol):
    """Topic administration. Every method raises Refused."""

    def create(
        self,
        topic: str,
        partitions: int = 1,
        replicas: int = 3,
        *,
        assignment: Sequence[Sequence[int]] | None = None,
        configs: Mapping[str, str] | None = None,
    ) -> None: ...
    def delete(self, topic: str) -> None: ...
    def topics(self) -> set[str]: ...
    def describe(self, topic: str) -> dict[int, PartitionSeen]: ...
    def add_partitions(self, topic: str, total: int) -> None: ...
    def configs(self, topic: str) -> dict[str, str | None]: ...
    def cluster(self) -> ClusterSeen: ...


class ConfigEditor(Admin, Protocol):
    """An admin client that speaks IncrementalAlterConfigs."""

    def set_config(self, topic: str, name: str, value: str) -> None: ...
    def unset_config(self, topic: str, name: str) -> None: ...


class Library(Protocol):
    """One client library. ``null_pair``: it writes records with neither key nor value; ``null_header``: headers too."""

    name: str
    null_pair: bool
    null_header: bool

    def write(
        self,
        bootstrap: str,
        topic: str,
        messages: Iterable[Message],
        *,
        partition: int = 0,
        how: How = How(),
        answered: Answered = nobody,
    ) -> list[Result]:
        """Write all messages to one partition and wait for the answer to each; ``answered`` hears them as they come.

        At most MAX_OUTSTANDING messages are unanswered at a time, so that an endless iterable can decide on its end.
        """
        ...

    def reader(self, bootstrap: str, topic: str, partition: int = 0) -> AbstractContextManager[Reader]: ...
    def admin(self, bootstrap: str) -> AbstractContextManager[Admin]: ...

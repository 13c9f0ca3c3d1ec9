"""What happened, in order: every byte that arrived goes into a fingerprint, every log event into a timeline."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import struct
from collections import Counter, deque
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

import structlog

from ottla.simulation.process import OWNER
from ottla.simulation.socket import Socket

_ARRIVAL = struct.Struct(">dI")
# Bytes are digested so many at a time: digesting every message by itself takes longer than its bytes do.
_DIGESTED = 64 * 1024


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of the timeline; `at` is loop time in seconds."""

    at: float
    where: str
    event: str
    fields: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return f"{self.at:12.6f} {self.where:10} {self.event} " + " ".join(
            f"{key}={value}" for key, value in self.fields
        )


class Trace:
    """Keeps the last `keep` happenings; all of them count for the fingerprint, and in `counts`, by event."""

    def __init__(self, now: Callable[[], float], keep: int = 20_000) -> None:
        self._now = now
        self._digest = hashlib.blake2b(digest_size=16)
        self._undigested = bytearray()
        self.happenings: deque[Happening] = deque(maxlen=keep)
        self.counts: Counter[str] = Counter()

    @property
    def fingerprint(self) -> str:
        self._digest_all()
        return self._digest.hexdigest()

    def _digest_all(self) -> None:
        self._digest.update(self._undigested)
        self._undigested.clear()

    def note(self, where: str, event: str, **fields: object) -> None:
        happening = Happening(
            self._now(), where, event, tuple((key, _text(value)) for key, value in sorted(fields.items()))
        )
        self.happenings.append(happening)
        self.counts[event] += 1
        self._undigested += str(happening).encode()
        self._digest_all()

    def carried(self, at: Socket, data: bytes) -> None:
        """Data arrived at a socket."""
        undigested = self._undigested
        undigested += _ARRIVAL.pack(at.network.loop._now, len(data))
        undigested += at._label or at.label
        undigested += data
        if len(undigested) > _DIGESTED:
            self._digest_all()

    def _record(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        owner = OWNER.get(None)
        name = str(event.pop("event", ""))
        self.note("home" if owner is None else owner.name, name, **event)
        raise structlog.DropEvent

    @contextlib.contextmanager
    def logging(self) -> Iterator[None]:
        """Within this, what the nodes log comes here, and nowhere else."""
        before = structlog.get_config()
        structlog.configure(
            processors=[self._record],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            cache_logger_on_first_use=False,
        )
        try:
            yield
        finally:
            structlog.configure(**before)


def _text(value: object) -> str:
    # Sets, and what is inside of exceptions, have no order or address that would be the same in another process.
    if isinstance(value, set | frozenset):
        return "{" + ", ".join(sorted(map(_text, value))) + "}"
    if isinstance(value, str | int | float | bool | bytes | list | tuple | dict) or value is None:
        return str(value)
    return type(value).__name__

"""What other people's clients keep outside of the event loop: a clock read below Python, a counter for the process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

Replacement = tuple[Any, str, Any]


def outside_state(wall: Callable[[], float]) -> list[Replacement]:
    """What to replace for a simulation, as (object, attribute, replacement), in the clients that are imported already.

    `wall` is in seconds since the epoch.
    """
    return _aiokafka(wall)


def _aiokafka(wall: Callable[[], float]) -> list[Replacement]:
    # Its compiled batch builder stamps a record that has no timestamp with gettimeofday(), and its Python twin binds
    # time.time when it is imported. One level above both, a timestamp may be given, in milliseconds.
    accumulator = sys.modules.get("aiokafka.producer.message_accumulator")
    if accumulator is None:
        return []
    builder = accumulator.BatchBuilder
    append = builder.append

    def append_now(self: Any, *, timestamp: int | None, **record: Any) -> Any:
        return append(self, timestamp=int(wall() * 1000) if timestamp is None else timestamp, **record)

    replacements: list[Replacement] = [(builder, "append", append_now)]
    producer = sys.modules.get("aiokafka.producer.producer")
    if producer is not None:
        # Producers are numbered through the whole process: the second simulation in it would send other names.
        replacements.append((producer.AIOKafkaProducer, "_PRODUCER_CLIENT_ID_SEQUENCE", 0))
    return replacements

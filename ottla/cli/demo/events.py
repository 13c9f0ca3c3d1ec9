"""The nodes' own log lines as one stream of events, and what each means to somebody who watches."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

REFRESH_S = 0.05


class Event(NamedTuple):
    """One log line: ``at`` in seconds since the epoch, the node that said it, its name and its fields."""

    at: float
    node: int
    name: str
    fields: dict[str, object]


class EventStream:
    """Follows the log files of all nodes. Files cannot wake a reader, so they are looked at on every refresh."""

    def __init__(self, logs: dict[int, Path], on_event: Callable[[Event], None]) -> None:
        self._logs = logs
        self._on_event = on_event
        self._positions = dict.fromkeys(logs, 0)

    async def follow(self) -> None:
        """Read on until cancelled."""
        while True:
            self.read_on()
            await asyncio.sleep(REFRESH_S)

    def read_on(self) -> None:
        """Hand on what has been written since the last time, in the order of the events' own times."""
        found = [event for node, path in self._logs.items() for event in self._new_lines(node, path)]
        for event in sorted(found):
            self._on_event(event)

    def _new_lines(self, node: int, path: Path) -> Iterator[Event]:
        if not path.exists():
            return
        with path.open("rb") as file:
            file.seek(self._positions[node])
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._positions[node] += len(line)
                event = parse(node, line)
                if event is not None:
                    yield event


def parse(node: int, line: bytes) -> Event | None:
    """The event of one log line; None for a line that is not one of ours."""
    try:
        fields = json.loads(line)
        at = datetime.fromisoformat(fields.pop("timestamp")).timestamp()
        return Event(at, node, str(fields.pop("event")), fields)
    except (ValueError, KeyError, AttributeError):
        return None


def tell(event: Event, topic: str) -> str | None:
    """What an event means, in words; None for one that does not belong to the story."""
    fields = event.fields
    of_topic = fields.get("topic") == topic
    match event.name:
        case "peer_died":
            return f"detected: node {fields['peer']} is gone (connection reset, and refused)"
        case "active_controller":
            return f"elected: node {event.node} is the active controller, term {fields['term']}"
        case "broker_fenced":
            return f"fenced: broker {_list(fields['brokers'])} ({fields['reason']})"
        case "became_leader" if of_topic:
            return f"elected: node {event.node} leads {topic}-{fields['partition']}, epoch {fields['leader_epoch']}"
        case "isr_changed" if of_topic:
            return f"ISR of {topic}-{fields['partition']} is {_list(fields['isr'])}"
        case "node_ready":
            return f"ready: node {event.node}"
    return None


def _list(value: object) -> str:
    return ",".join(str(item) for item in value) if isinstance(value, list) else str(value)

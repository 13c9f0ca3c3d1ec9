"""Ottla: an event-streaming cluster that speaks the Apache Kafka wire protocol."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ottla.client import Admin as Admin
    from ottla.client import Consumer as Consumer
    from ottla.client import Producer as Producer
    from ottla.client import TopicPartition as TopicPartition

__version__ = "0.1.0"

# Looked up on first use: `import ottla` costs nothing, and a client never pays for the server.
_HOMES = {
    "Admin": "ottla.client",
    "Consumer": "ottla.client",
    "Producer": "ottla.client",
    "TopicPartition": "ottla.client",
}

__all__ = ["Admin", "Consumer", "Producer", "TopicPartition"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})

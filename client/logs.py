"""Where the client's log lines go: to structlog where the program has configured it, else to `logging`.

Unconfigured structlog prints, which would put the lines of a library into the output of a program that uses it. By
`logging` the program sees warnings on standard error, and whatever else it asks for: loggers are called like modules.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

import structlog


class ClientLogger:
    """Chooses anew for each line, because programs configure their logging after they have imported this."""

    def __init__(self, name: str) -> None:
        self._configured = structlog.get_logger(name)
        self._plain = structlog.wrap_logger(
            logging.getLogger(name),
            processors=[structlog.stdlib.filter_by_level, _as_text],
            wrapper_class=structlog.stdlib.BoundLogger,
        )

    def __getattr__(self, level: str) -> Any:
        return getattr(self._configured if structlog.is_configured() else self._plain, level)


def get_logger(name: str) -> Any:
    """A logger with structlog's methods."""
    return ClientLogger(name)


def _as_text(_logger: object, _level: str, event: MutableMapping[str, Any]) -> str:
    name = event.pop("event")
    return " ".join([str(name), *(f"{key}={value}" for key, value in sorted(event.items()))])

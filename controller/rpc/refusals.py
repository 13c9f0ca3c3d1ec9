"""One log line per kind of unwelcome visitor, however many come."""

import logging
from collections.abc import Callable

import structlog
from aiohttp.http_exceptions import HttpProcessingError

log = structlog.get_logger(__name__)

_QUIET_S = 10.0
_MAX_KINDS = 64


class Refusals:
    """Logs the first refusal of a kind at once, then at most one line in ten seconds with the number left out."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._seen: dict[str, tuple[float, int]] = {}

    def note(self, kind: str, **fields: object) -> None:
        at, suppressed = self._seen.get(kind, (float("-inf"), 0))
        now = self._now()
        if now - at < _QUIET_S:
            self._seen[kind] = (at, suppressed + 1)
            return
        if kind not in self._seen and len(self._seen) >= _MAX_KINDS:
            self._seen.clear()
        self._seen[kind] = (now, 0)
        log.warning("rpc_refused", kind=kind, suppressed=suppressed, **fields)


class HttpLog(logging.Logger):
    """What aiohttp's server logs through.

    Bytes that are not HTTP are a refusal, and a peer that left before its answer is no event at all (its watch tells);
    everything else is our own bug.
    """

    def __init__(self, refusals: Refusals) -> None:
        super().__init__("ottla.controller.rpc.http", logging.WARNING)
        self._refusals = refusals

    def exception(self, msg: object, *args: object, exc_info: object = True, **kwargs: object) -> None:
        if isinstance(exc_info, HttpProcessingError):
            self._refusals.note("not HTTP", remote=args[0] if args else None, reason=exc_info.message[:100])
            return
        if isinstance(exc_info, ConnectionError):
            return
        log.error("rpc_handler_failed", reason=str(msg), exc_info=exc_info)

    def debug(self, msg: object, *args: object, exc_info: object = None, **kwargs: object) -> None:
        if isinstance(exc_info, HttpProcessingError):
            self.exception(msg, *args, exc_info=exc_info)

"""Resolves the regular expressions of a shard's groups: at once where that is little work, else in portions between
which others get their turns. What was found is kept until a topic comes, goes or grows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from ottla.broker.groups.classic import Now
from ottla.broker.groups.consumer import Matches, Resolving, Topic

AT_ONCE: Final = 100_000
PORTION: Final = 20_000
"""Work in the units of `Resolving.advance`: some ten milliseconds, and a few."""

MAX_KEPT: Final = 1000
"""Expressions whose topics are kept."""


class Host(Protocol):
    def now(self) -> Now: ...
    def topics(self) -> Mapping[str, Topic]: ...
    def topics_version(self) -> int: ...
    @property
    def closed(self) -> bool: ...


class Resolver:
    """`resolved` is called for each group that was told less than everything, once there is more to tell."""

    def __init__(self, host: Host, resolved: Callable[[str], None]) -> None:
        self._host = host
        self._resolved = resolved
        self._topics: object = None
        self._found: dict[str, tuple[str, ...]] = {}
        self._missing: dict[str, None] = {}
        self._waiting: dict[str, None] = {}
        self._resolving: Resolving | None = None

    def matches(self, group_id: str, regexes: frozenset[str]) -> Matches:
        """What is known of these by now."""
        if self._topics is not self._host.topics():
            self._topics = self._host.topics()
            self._found.clear()
            if self._resolving is not None:
                self._begin([*self._resolving.unfinished, *self._missing])
        missing = sorted(regexes - self._found.keys())
        if missing and self._resolving is None and not self._resolve(missing):
            asyncio.get_running_loop().call_soon(self._go_on)
        if missing and self._resolving is not None:
            self._missing.update(dict.fromkeys(missing))
            self._waiting[group_id] = None
        known = {regex: self._found[regex] for regex in regexes & self._found.keys()}
        return Matches(known, self._host.topics_version(), self._host.now().ms)

    def _begin(self, regexes: list[str]) -> Resolving:
        self._missing.clear()
        self._resolving = Resolving(regexes, self._host.topics())
        return self._resolving

    def _resolve(self, regexes: list[str]) -> bool:
        """Begin with these, and say whether that was all of it."""
        return self._take_in(self._begin(regexes), AT_ONCE)

    def _take_in(self, resolving: Resolving, work: int) -> bool:
        if not resolving.advance(work):
            return False
        if len(self._found) + len(resolving.found) > MAX_KEPT:
            self._found.clear()
        self._found.update(resolving.found)
        self._resolving = None
        return True

    def _go_on(self) -> None:
        resolving = self._resolving
        if self._host.closed or resolving is None:
            return
        if self._take_in(resolving, PORTION):
            left = [regex for regex in self._missing if regex not in self._found]
            if not left:
                self._missing.clear()
                waiting, self._waiting = self._waiting, {}
                for group_id in waiting:
                    self._resolved(group_id)
                return
            self._begin(left)
        asyncio.get_running_loop().call_soon(self._go_on)

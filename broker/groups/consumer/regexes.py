"""What the regular expressions of a group's members stand for: topics, which are written down as Kafka does.

Resolving them is work in proportion to the number of topics. It can be done in portions, so that nobody else waits.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Final, NamedTuple, Protocol

from ottla.broker.groups.consumer.group import ConsumerGroup
from ottla.broker.groups.consumer.records import Key, RegexKey, Resolved, Value
from ottla.broker.re2 import compiled


class Matches(NamedTuple):
    """Names by expression, as of a `version` of the metadata (a Raft offset) and a time (ms)."""

    topics: Mapping[str, tuple[str, ...]]
    version: int = -1
    at_ms: int = -1


Find = Callable[[frozenset[str]], Matches]
"""What is known of these expressions."""

NOTHING_FOUND: Final = Matches({})

REFRESH_MS: Final = 10_000
"""A group looks its expressions up again no sooner than so long after the last time (as Kafka does), so that topics
that are made in a row are one rebalance and not one each. A new expression does not wait for that."""


class Draft(Protocol):
    @property
    def group(self) -> ConsumerGroup: ...
    def put(self, key: Key, value: Value | None) -> None: ...


def write_down(draft: Draft, find: Find, existing: Container[str]) -> bool:
    """Put what the expressions that are subscribed to stand for now, if that is due. True if members want other topics
    than before, of those that are `existing`.

    All that is looked up again is written, also where the names are the same: the version and the time say up to when
    that is so, and a coordinator that takes over goes by them. An expression of which nothing is known keeps what it
    stood for.
    """
    group = draft.group
    wanted = group.expressions()
    now = find(frozenset()) if wanted else NOTHING_FOUND
    due = {regex for regex in wanted if regex not in group.regexes} | behind(group, now.version)
    if not _may_refresh(group, now.at_ms):
        due -= group.regexes.keys()
    matches = find(frozenset(due)) if due else NOTHING_FOUND
    changed = False
    for regex in sorted(due & matches.topics.keys()):
        old, names = group.regexes.get(regex), matches.topics[regex]
        before = set() if old is None else {name for name in old.topics if name in existing}
        changed |= before != set(names)
        draft.put(RegexKey(group.id, regex), Resolved(names, matches.version, matches.at_ms))
    for regex in sorted(group.regexes.keys() - wanted):
        draft.put(RegexKey(group.id, regex), None)
    return changed


def behind(group: ConsumerGroup, version: int) -> set[str]:
    """The expressions that are subscribed to and were looked up as of an earlier version of the metadata."""
    regexes = group.regexes
    return {regex for regex in group.expressions() & regexes.keys() if regexes[regex].version < version}


def _may_refresh(group: ConsumerGroup, now_ms: int) -> bool:
    """Not so soon again. A time that is still to come is of a coordinator whose clock was wrong."""
    last = max((each.at_ms for each in group.regexes.values()), default=-1)
    return not last <= now_ms < last + REFRESH_MS


class Resolving:
    """Expressions on their way to be resolved; `found` has those that are. One that is none matches nothing."""

    def __init__(self, regexes: Iterable[str], names: Iterable[str]) -> None:
        self.found: dict[str, tuple[str, ...]] = {}
        self._names = sorted(names)
        self._left = [(regex, compiled(regex)) for regex in sorted(regexes)]
        self._at = 0
        self._matching: list[str] = []

    @property
    def unfinished(self) -> list[str]:
        return [regex for regex, _ in self._left]

    def advance(self, work: int) -> bool:
        """Do about so much (a character against one state of an expression is one); True when nothing is left."""
        while self._left:
            regex, pattern = self._left[-1]
            names = self._names if pattern is not None else []
            while self._at < len(names):
                if work <= 0 or pattern is None:
                    return False
                name = names[self._at]
                self._at += 1
                before = pattern.work
                if pattern.fullmatch(name):
                    self._matching.append(name)
                work -= pattern.work - before
            self.found[regex] = tuple(self._matching)
            self._left.pop()
            self._at, self._matching = 0, []
        return True

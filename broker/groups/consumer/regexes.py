"""What the regular expressions of a group's members stand for: topics, which are written down as Kafka does.

Resolving them is work in proportion to the number of topics. It can be done in portions, so that nobody else waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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


class Draft(Protocol):
    @property
    def group(self) -> ConsumerGroup: ...
    def put(self, key: Key, value: Value | None) -> None: ...


def write_down(draft: Draft, find: Find) -> bool:
    """Put what has changed of the expressions that are subscribed to. True if members want other topics than before.

    An expression of which nothing is known keeps what it stood for.
    """
    group = draft.group
    wanted = group.expressions()
    matches = find(wanted) if wanted else NOTHING_FOUND
    changed = False
    for regex in sorted(wanted & matches.topics.keys()):
        old, names = group.regexes.get(regex), matches.topics[regex]
        if old is None or old.topics != names:
            changed |= bool(names) or old is not None
            draft.put(RegexKey(group.id, regex), Resolved(names, matches.version, matches.at_ms))
    for regex in sorted(group.regexes.keys() - wanted):
        draft.put(RegexKey(group.id, regex), None)
    return changed


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

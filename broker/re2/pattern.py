"""Matching: a program for an automaton without memory, run on all its states at once and remembered as it goes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ottla.broker.re2.nodes import Chars, Choice, Edge, Node, Repeat, Sequence
from ottla.broker.re2.syntax import BadPattern, parse

MAX_LENGTH: Final = 512
MAX_STEPS: Final = 2000
MAX_REMEMBERED: Final = 10_000

_MATCH: Final = 0
_NOTHING, _NEWLINE, _WORD, _OTHER = range(4)


def compiled(pattern: str) -> Pattern | None:
    """To be matched against whole texts; None for what is no expression, or too large a one."""
    try:
        return Pattern(pattern)
    except BadPattern:
        return None


class Pattern:
    """Raises BadPattern. Takes time in proportion to text times pattern, at worst; `work` counts that."""

    def __init__(self, pattern: str) -> None:
        if len(pattern) > MAX_LENGTH:
            raise BadPattern(f"expression of more than {MAX_LENGTH} characters")
        # A step takes a character, or looks at an edge, or goes to several others; each names those that come next.
        self._chars: list[Chars | Edge | None] = [None]
        self._next: list[tuple[int, ...]] = [()]
        self._begin = self._emit(parse(pattern), _MATCH)
        self._edges = any(isinstance(each, Edge) for each in self._chars)
        self.work = 0
        self._remembered: dict[tuple[frozenset[int], int, str], frozenset[int]] = {}

    def fullmatch(self, text: str) -> bool:
        states, before = frozenset((self._begin,)), _NOTHING
        self.work += len(text) + 1
        for char in text:
            key = (states, before, char)
            after = self._remembered.get(key)
            if after is None:
                after = self._step(states, before, char)
                if len(self._remembered) >= MAX_REMEMBERED:
                    self._remembered.clear()
                self._remembered[key] = after
            if not after:
                return False
            states = after
            before = _kind(char) if self._edges else _NOTHING
        return _MATCH in self._reached(states, before, _NOTHING)

    def _step(self, states: Iterable[int], before: int, char: str) -> frozenset[int]:
        after: set[int] = set()
        for state in self._reached(states, before, _kind(char)):
            step = self._chars[state]
            if isinstance(step, Chars) and step.has(char):
                after.update(self._next[state])
        return frozenset(after)

    def _reached(self, states: Iterable[int], before: int, after: int) -> set[int]:
        """All states that can be reached from these without a character."""
        found = set(states)
        todo = list(found)
        while todo:
            state = todo.pop()
            step = self._chars[state]
            if isinstance(step, Chars) or (isinstance(step, Edge) and not _is_at(step, before, after)):
                continue
            for following in self._next[state]:
                if following not in found:
                    found.add(following)
                    todo.append(following)
        self.work += len(found)
        return found

    # Making the program, from its end

    def _new(self, step: Chars | Edge | None, *following: int) -> int:
        if len(self._chars) >= MAX_STEPS:
            raise BadPattern("expression too large")
        self._chars.append(step)
        self._next.append(following)
        return len(self._chars) - 1

    def _emit(self, node: Node, following: int) -> int:
        """The state from which `node` leads to `following`."""
        if isinstance(node, Chars | Edge):
            return self._new(node, following)
        if isinstance(node, Sequence):
            for part in reversed(node.parts):
                following = self._emit(part, following)
            return following
        if isinstance(node, Choice):
            return self._new(None, *(self._emit(part, following) for part in node.parts))
        return self._emit_repeat(node, following)

    def _emit_repeat(self, node: Repeat, following: int) -> int:
        if node.most is None:
            loop = self._new(None)
            self._next[loop] = (self._emit(node.part, loop), following)
            following = loop
        else:
            end = following
            for _ in range(node.most - node.least):
                following = self._new(None, self._emit(node.part, following), end)
        for _ in range(node.least):
            following = self._emit(node.part, following)
        return following


def _kind(char: str) -> int:
    if char == "\n":
        return _NEWLINE
    return _WORD if char == "_" or (char.isascii() and char.isalnum()) else _OTHER


def _is_at(edge: Edge, before: int, after: int) -> bool:
    if edge is Edge.TEXT_BEGINS:
        return before == _NOTHING
    if edge is Edge.TEXT_ENDS:
        return after == _NOTHING
    if edge is Edge.LINE_BEGINS:
        return before in (_NOTHING, _NEWLINE)
    if edge is Edge.LINE_ENDS:
        return after in (_NOTHING, _NEWLINE)
    return ((before == _WORD) is not (after == _WORD)) is (edge is Edge.WORD)

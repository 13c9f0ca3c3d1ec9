"""Parsing the syntax of RE2 (github.com/google/re2/wiki/Syntax), as RE2/J has it by default: that of Perl."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from ottla.broker.re2.classes import ANYTHING, CATEGORIES, NO_NEWLINE, POSIX, folded, perl
from ottla.broker.re2.nodes import Chars, Choice, Edge, Node, Repeat, Sequence

MAX_NESTING: Final = 100
MAX_REPEAT: Final = 1000

_GROUP = re.compile(r"\?(?:P?<(?P<name>[A-Za-z0-9_]+)>|(?P<on>[imsU]*)(?P<off>-[imsU]+)?(?P<end>[:)]))")
_COUNTS = re.compile(r"\{([0-9]+)(,([0-9]*))?\}")
_CONTROLS = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_OCTAL = re.compile(r"[1-7][0-7]{1,2}|0[0-7]{0,2}")
_HEX = re.compile(r"x(?:\{([0-9A-Fa-f]{1,8})\}|([0-9A-Fa-f]{2}))")
_UNICODE = re.compile(r"[pP](?:\{(\^?)([^}]*)\}|(.))")
_EDGES = {"A": Edge.TEXT_BEGINS, "z": Edge.TEXT_ENDS, "b": Edge.WORD, "B": Edge.NO_WORD}


class BadPattern(Exception):
    """It is no regular expression, or none that is taken here; the text says why."""


@dataclass(frozen=True, slots=True)
class _Flags:
    any_case: bool = False
    lines: bool = False
    dot_takes_all: bool = False


def parse(pattern: str) -> Node:
    """Raises BadPattern."""
    parser = _Parser(pattern)
    node = parser.choice(_Flags(), 0)
    if parser.more:
        raise BadPattern("unexpected ): " + pattern)
    return node


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._names: set[str] = set()

    @property
    def more(self) -> bool:
        return self._at < len(self._text)

    def _looking_at(self, what: str) -> bool:
        return self._text.startswith(what, self._at)

    def _take(self, what: str) -> bool:
        found = self._looking_at(what)
        self._at += len(what) if found else 0
        return found

    def _match(self, what: re.Pattern[str]) -> re.Match[str] | None:
        found = what.match(self._text, self._at)
        if found is not None:
            self._at = found.end()
        return found

    def _next(self) -> str:
        if not self.more:
            raise BadPattern("unexpected end: " + self._text)
        self._at += 1
        return self._text[self._at - 1]

    # Structure

    def choice(self, flags: _Flags, depth: int) -> Node:
        """Alternatives, up to the end or to a closing parenthesis, which is left there."""
        if depth > MAX_NESTING:
            raise BadPattern("expression nests too deeply")
        branches: list[Node] = []
        parts: list[Node] = []
        while self.more and not self._looking_at(")"):
            if self._take("|"):
                branches.append(Sequence(tuple(parts)))
                parts = []
            elif self._take("("):
                flags = self._group(parts, flags, depth)
            else:
                self._item(parts, flags)
        branches.append(Sequence(tuple(parts)))
        return branches[0] if len(branches) == 1 else Choice(tuple(branches))

    def _group(self, parts: list[Node], flags: _Flags, depth: int) -> _Flags:
        """After the opening parenthesis; the flags that hold from here on."""
        inner = flags
        if self._looking_at("?"):
            found = self._match(_GROUP)
            if found is None or (found["off"] is None and found["end"] == ")" and not found["on"]):
                raise BadPattern("invalid group syntax: (?" + self._text[self._at + 1 : self._at + 3])
            if found["name"] is not None:
                if found["name"] in self._names:
                    raise BadPattern(f"duplicate group name: {found['name']}")
                self._names.add(found["name"])
            else:
                inner = _changed(flags, found["on"], found["off"] or "")
                if found["end"] == ")":
                    return inner
        node = self.choice(inner, depth + 1)
        if not self._take(")"):
            raise BadPattern("missing ): " + self._text)
        parts.append(self._repeated(node))
        return flags

    def _item(self, parts: list[Node], flags: _Flags) -> None:
        if self._take("\\Q"):
            quoted, found, rest = self._text[self._at :].partition("\\E")
            self._at = len(self._text) - len(rest)
            parts += [_char(char, flags) for char in quoted]
            if quoted and found:
                parts[-1] = self._repeated(parts[-1])
            return
        if self._repetition() is not None:
            raise BadPattern("missing argument to repetition operator: " + self._text)
        char = self._next()
        if char == "[":
            node: Node = self._class(flags)
        elif char == ".":
            node = ANYTHING if flags.dot_takes_all else NO_NEWLINE
        elif char == "^":
            node = Edge.LINE_BEGINS if flags.lines else Edge.TEXT_BEGINS
        elif char == "$":
            node = Edge.LINE_ENDS if flags.lines else Edge.TEXT_ENDS
        elif char == "\\":
            node = self._escaped(flags)
        else:
            node = _char(char, flags)
        parts.append(self._repeated(node))

    def _repeated(self, node: Node) -> Node:
        found = self._repetition()
        if found is None:
            return node
        start = self._at
        if self._repetition() is not None:
            raise BadPattern("invalid nested repetition operator: " + self._text[start - 1 : self._at])
        return Repeat(node, *found)

    def _repetition(self) -> tuple[int, int | None] | None:
        for sign, counts in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take(sign):
                self._take("?")
                return counts
        found = self._match(_COUNTS)
        if found is None:
            return None
        least = int(found[1][:5])
        most = least if found[2] is None else int(found[3][:5]) if found[3] else None
        if least > MAX_REPEAT or (most is not None and not least <= most <= MAX_REPEAT):
            raise BadPattern("invalid repeat count: " + found[0])
        self._take("?")
        return least, most

    # Characters

    def _escaped(self, flags: _Flags) -> Node:
        if self.more and self._text[self._at] in _EDGES:
            return _EDGES[self._next()]
        return self._named() or _char(self._escaped_char(), flags)

    def _named(self) -> Chars | None:
        """A set after a backslash."""
        if self.more and self._text[self._at] in "dDsSwW":
            return perl(self._next())
        start = self._at
        found = self._match(_UNICODE)
        if found is None:
            return None
        name = found[3] or found[2]
        if name != "Any" and name not in CATEGORIES:
            raise BadPattern("invalid character class range: \\" + found[0])
        negated = (self._text[start] == "P") is not bool(found[1])
        return Chars(ANYTHING.ranges if name == "Any" else (), () if name == "Any" else (name,), negated=negated)

    def _escaped_char(self) -> str:
        """The character that a backslash and what follows stand for."""
        found = self._match(_OCTAL)
        if found is not None:
            return chr(int(found[0], 8))
        found_hex = self._match(_HEX)
        if found_hex is not None:
            code = int(found_hex[1] or found_hex[2], 16)
            if code > 0x10FFFF:
                raise BadPattern("invalid escape sequence: \\" + found_hex[0])
            return chr(code)
        if not self.more:
            raise BadPattern("trailing backslash at end of expression")
        char = self._next()
        if char in _CONTROLS:
            return _CONTROLS[char]
        if char.isascii() and not char.isalnum():
            return char
        raise BadPattern("invalid escape sequence: \\" + char)

    # Classes

    def _class(self, flags: _Flags) -> Chars:
        """After the opening bracket."""
        negated = self._take("^")
        ranges: list[tuple[int, int]] = []
        parts: list[Chars] = []
        first = True
        while first or not self._looking_at("]"):
            first = False
            named = self._posix() or self._named_in_class()
            if named is not None:
                parts.append(named)
                continue
            low = high = self._class_char()
            if self._looking_at("-") and not self._looking_at("-]"):
                self._take("-")
                high = self._class_char()
                if high < low:
                    raise BadPattern(f"invalid character class range: {low}-{high}")
            ranges.append((ord(low), ord(high)))
        self._take("]")
        given = tuple(ranges)
        return Chars(folded(given) if flags.any_case else given, (), _folded(parts, flags), negated=negated)

    def _posix(self) -> Chars | None:
        end = self._text.find(":]", self._at + 2)
        if not self._looking_at("[:") or end < 0:
            return None
        name = self._text[self._at + 2 : end]
        if name.removeprefix("^") not in POSIX:
            raise BadPattern(f"invalid character class range: [:{name}:]")
        self._at = end + 2
        return Chars(POSIX[name.removeprefix("^")], negated=name.startswith("^"))

    def _named_in_class(self) -> Chars | None:
        if not self._take("\\"):
            return None
        named = self._named()
        if named is None:
            self._at -= 1
        return named

    def _class_char(self) -> str:
        if not self.more:
            raise BadPattern("missing closing ]: " + self._text)
        return self._escaped_char() if self._take("\\") else self._next()


def _char(char: str, flags: _Flags) -> Chars:
    ranges = ((ord(char), ord(char)),)
    return Chars(folded(ranges) if flags.any_case else ranges)


def _folded(parts: list[Chars], flags: _Flags) -> tuple[Chars, ...]:
    return tuple(replace(part, ranges=folded(part.ranges)) if flags.any_case else part for part in parts)


def _changed(flags: _Flags, on: str, off: str) -> _Flags:
    """U swaps greedy and not, which makes no difference to whether a text matches."""
    names = {"i": "any_case", "m": "lines", "s": "dot_takes_all"}
    changes = {names[flag]: True for flag in on if flag in names} | {names[f]: False for f in off if f in names}
    return replace(flags, **changes)

"""What a regular expression consists of once it is parsed."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

MAX_CHAR = 0x10FFFF


class Edge(Enum):
    """A place between two characters."""

    TEXT_BEGINS = "\\A"
    TEXT_ENDS = "\\z"
    LINE_BEGINS = "(?m)^"
    LINE_ENDS = "(?m)$"
    WORD = "\\b"
    NO_WORD = "\\B"


@dataclass(frozen=True, slots=True)
class Chars:
    """One character out of a set: of any of the ranges of code points, of any of the parts; or, negated, of none.

    `categories` are those of Unicode, or the first letters of such.
    """

    ranges: tuple[tuple[int, int], ...] = ()
    categories: tuple[str, ...] = ()
    parts: tuple[Chars, ...] = ()
    negated: bool = False

    def has(self, char: str) -> bool:
        code = ord(char)
        found = any(low <= code <= high for low, high in self.ranges) or any(part.has(char) for part in self.parts)
        if not found and self.categories:
            found = unicodedata.category(char).startswith(self.categories)
        return found is not self.negated


@dataclass(frozen=True, slots=True)
class Sequence:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """`most` of None: as often as it may be."""

    part: Node
    least: int
    most: int | None


Node: TypeAlias = Chars | Edge | Sequence | Choice | Repeat

"""The named sets of characters, and case that does not matter."""

from __future__ import annotations

from typing import Final

from ottla.broker.re2.nodes import MAX_CHAR, Chars

Ranges = tuple[tuple[int, int], ...]


def _ranges(text: str) -> Ranges:
    """From pairs of first and last characters."""
    return tuple((ord(low), ord(high)) for low, high in zip(text[::2], text[1::2], strict=True))


ANYTHING: Final = Chars(((0, MAX_CHAR),))
NO_NEWLINE: Final = Chars(((ord("\n"), ord("\n")),), negated=True)

PERL: Final = {"d": _ranges("09"), "s": _ranges("\t\n\f\r  "), "w": _ranges("09AZ__az")}
POSIX: Final = {
    "alnum": _ranges("09AZaz"),
    "alpha": _ranges("AZaz"),
    "ascii": _ranges("\x00\x7f"),
    "blank": _ranges("\t\t  "),
    "cntrl": _ranges("\x00\x1f\x7f\x7f"),
    "digit": _ranges("09"),
    "graph": _ranges("!~"),
    "lower": _ranges("az"),
    "print": _ranges(" ~"),
    "punct": _ranges("!/:@[`{~"),
    "space": _ranges("\t\r  "),
    "upper": _ranges("AZ"),
    "word": _ranges("09AZaz__"),
    "xdigit": _ranges("09AFaf"),
}
_LETTERS = {"C": "cfos", "L": "lmotu", "M": "cen", "N": "dlo", "P": "cdefios", "S": "ckmo", "Z": "lps"}
CATEGORIES: Final = frozenset(_LETTERS) | {major + minor for major, all in _LETTERS.items() for minor in all}
_FOLDED_ONE_BY_ONE = 1024


def perl(letter: str) -> Chars:
    return Chars(PERL[letter.lower()], negated=letter.isupper())


def folded(ranges: Ranges) -> Ranges:
    """With the other case of every character. (In large ranges of that of ASCII letters only.)"""
    more: list[tuple[int, int]] = []
    for low, high in ranges:
        codes = range(low, high + 1) if high - low < _FOLDED_ONE_BY_ONE else range(max(low, 65), min(high, 122) + 1)
        for code in codes:
            char = chr(code)
            more += [(ord(other), ord(other)) for other in (char.lower(), char.upper()) if len(other) == 1]
    return ranges + tuple(dict.fromkeys(more))

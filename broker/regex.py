"""Regular expressions of clients, without letting one stop the broker.

Kafka has RE2, which needs time in proportion to the text. Python's engine backtracks, so what could make that explode
is refused: repeated groups, back references, lookaround, and more than three unbounded repeats.
"""

from __future__ import annotations

import re

MAX_LENGTH = 512
MAX_REPEATS = 3
_ESCAPED = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]", re.DOTALL)
_REFUSED = re.compile(r"\)\s*[*+{]|\(\?[^:]|[*+}]\s*[*+{]")
_REPEAT = re.compile(r"[*+]|\{\d*,\d*\}")
_BACKREFERENCE = re.compile(r"\\[1-9]")


def compiled(pattern: str) -> re.Pattern[str] | None:
    """To be matched against whole names; None for what is no expression, or not one that is safe."""
    bare = _ESCAPED.sub("x", pattern)
    if len(pattern) > MAX_LENGTH or _REFUSED.search(bare) or len(_REPEAT.findall(bare)) > MAX_REPEATS:
        return None
    if _BACKREFERENCE.search(pattern):
        return None
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError):
        return None

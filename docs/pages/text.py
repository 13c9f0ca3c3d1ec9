"""How the generated pages are laid out."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

WIDTH = 120
HEAD = "<!-- Made by docs/generate.py from the code; `make docs` makes it anew. -->\n"


def page(lines: Iterable[str]) -> str:
    return HEAD + "\n" + "\n".join(lines).rstrip("\n") + "\n"


def prose(text: str) -> list[str]:
    return [*textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False), ""]


def item(text: str) -> list[str]:
    return textwrap.wrap(f"- {text}", WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def diagram(steps: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield "```mermaid\nstateDiagram-v2"
    for before, after in steps:
        yield f"    {before} --> {after}"
    yield "```\n"

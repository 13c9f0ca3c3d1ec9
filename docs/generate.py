"""Writes the pages of docs/ that are tables of the code: settings, APIs, metrics, the states of the peer
watch, and what a simulation does to a cluster.

`make docs` runs it; a test compares what is committed with what it gives, so that the pages cannot drift from the code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from docs.pages.apis import apis
from docs.pages.configuration import configuration
from docs.pages.faults import faults
from docs.pages.groups import group_states
from docs.pages.metrics import metrics
from docs.pages.peer_watch import peer_watch
from docs.pages.text import page
from docs.pages.transactions import producer_states, transaction_states

FOLDER = Path(__file__).resolve().parent


PAGES: Mapping[str, Callable[[], Iterator[str]]] = {
    "apis.md": apis,
    "configuration.md": configuration,
    "faults.md": faults,
    "metrics.md": metrics,
    "group-states.md": group_states,
    "transaction-states.md": transaction_states,
    "producer-states.md": producer_states,
    "peer-watch.md": peer_watch,
}
"""What each file in docs/ consists of."""


def pages() -> Mapping[str, str]:
    """The generated pages, by file name in docs/."""
    return {name: page(lines()) for name, lines in PAGES.items()}


def main() -> None:
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

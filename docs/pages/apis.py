"""apis.md: what is served of the protocol, and the notes of the handlers."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from docs.pages.text import prose
from ottla.broker import TABLE, Coverage, coverage
from ottla.broker.api import Row


def apis() -> Iterator[str]:
    yield "# APIs\n"
    yield from prose(
        "What a broker serves of Kafka's protocol, against what Kafka 4 has in its own schema (as far as kio, the "
        "codec, knows it), and why the rest is missing. A client uses the largest version that both sides have. `ottla "
        "apis` prints the same, and with `--bootstrap` what any running broker says of itself."
    )
    rows = coverage()
    yield from _coverage_table([row for row in rows if row.for_clients])
    yield "## Between Kafka's servers\n"
    yield from prose(
        "The rest of Kafka's schema passes between Kafka's own brokers and controllers, which here is the business of "
        "the controller listener; no client has a use for it."
    )
    yield from prose(", ".join(f"{row.name} ({row.key})" for row in rows if not row.for_clients) + ".")
    yield "## Version notes and differences from Kafka\n"
    for row in TABLE:
        yield f"### {row.name} ({row.key})\n"
        yield from _notes(row)
    yield "### ApiVersions (18)\n"
    yield from prose(
        "Answered by the registry that dispatches requests. A version that is not known gets the v0 body with "
        "UNSUPPORTED_VERSION and the range of ApiVersions itself (KIP-511)."
    )


def _coverage_table(rows: Iterable[Coverage]) -> Iterator[str]:
    yield "| Key | API | Kafka | Served | Missing | Why |"
    yield "|---:|---|---|---|---|---|"
    for row in rows:
        served = _versions(*row.served) if row.served is not None else "-"
        missing = "all" if row.served is None else ", ".join(f"v{version}" for version in row.missing)
        cells = (row.key, row.name, _versions(*row.kafka), served, missing, row.reason or "")
        yield "| " + " | ".join(map(str, cells)) + " |"
    yield ""


def _notes(row: Row) -> Iterator[str]:
    module = sys.modules[row.handle.__module__]
    assert module.__doc__ is not None, f"{module.__name__} says nothing about its versions"
    for paragraph in module.__doc__.strip().split("\n\n"):
        yield from prose(" ".join(paragraph.split()))


def _versions(low: int, high: int) -> str:
    return f"v{low}" if low == high else f"v{low}-v{high}"

"""faults.md: what a simulation does to a cluster."""

from __future__ import annotations

from collections.abc import Iterator

from docs.pages.text import prose
from ottla.simulation.faults import GROUPS, needs_sync
from ottla.simulation.whims import CHOICES, RATES


def faults() -> Iterator[str]:
    yield "# What a simulation does to a cluster\n"
    yield from prose(
        "The kinds of fault that `ottla simulate` knows, by what they harm (`--faults` takes their names). Each seed "
        "turns a few of them on; how it goes on from there is told in [simulation.md](simulation.md). *Nodes* is the "
        "smallest cluster that a fault makes sense in. *Synced* marks those that no cluster may be expected to take "
        "that acknowledges records before they are on disk: with one of them `ottla.flush` is `synced`. Those in "
        "*italics* are drawn only with the clients that they are about, and strike where they are asked for by name."
    )
    for group, kinds in GROUPS.items():
        yield f"## {group.capitalize()}\n"
        yield "| Fault | Nodes | Synced | What happens |"
        yield "|---|---:|---|---|"
        for name, kind in kinds.items():
            shown = name if kind.usual else f"*{name}*"
            yield f"| {shown} | {kind.nodes} | {'yes' if needs_sync([name]) else ''} | {kind.doc} |"
        yield ""
    yield "## What else a seed decides\n"
    yield from prose(
        "Half of the runs have the first value of a setting, the others any of them: small limits make happen all the "
        "time what is rare otherwise. Clients do "
        + ", ".join(f"{rate:g}" for rate in RATES)
        + " operations per second in all, mostly few."
    )
    yield "| Setting of the nodes | Values |"
    yield "|---|---|"
    for name, values in CHOICES.items():
        yield f"| `{name}` | {', '.join(values)} |"

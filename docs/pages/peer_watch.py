"""peer-watch.md: the table of the watch over a peer."""

from __future__ import annotations

from collections.abc import Iterator

from docs.pages.text import item, prose
from ottla.controller.rpc.watch_state import MAX_PROBES, TRANSITIONS, Sign, Standing


def peer_watch() -> Iterator[str]:
    yield "# The states of the watch over a peer\n"
    yield from prose(
        "Every node keeps a connection to every other one, and concludes from what becomes of it (see "
        "[architecture.md](architecture.md#when-a-node-dies)). Rows are what was known, columns what was seen, cells "
        "what is known then; a dot stands for what cannot occur. Entering *dead* is evidence, and is reported to Raft "
        "and to the active controller, which also hears of each *refused* after that; entering *watching* lifts it."
    )
    yield "| | " + " | ".join(sign.value for sign in Sign) + " |"
    yield "|---" * (len(Sign) + 1) + "|"
    for standing in Standing:
        yield f"| **{standing.value}** | " + " | ".join(_next(standing, sign) for sign in Sign) + " |"
    yield ""
    for sign, meaning in SIGNS.items():
        yield from item(f"*{sign.value}*: {meaning}")
    yield ""
    yield from prose(
        f"After {MAX_PROBES} attempts in a row that prove nothing, *broken* becomes *silent*: nothing is concluded "
        "from silence, and the session timeout decides."
    )


SIGNS = {
    Sign.ESTABLISHED: "the peer accepted the watch.",
    Sign.GOODBYE: "it stops on purpose.",
    Sign.BROKEN: "the connection was closed or reset without a goodbye.",
    Sign.REFUSED: "nobody listens at any of its addresses.",
    Sign.UNRESOLVABLE: "its name does not resolve.",
    Sign.SILENT: "a deadline passed, there is no route, or the peer refuses this node.",
}


def _next(standing: Standing, sign: Sign) -> str:
    after = TRANSITIONS.get((standing, sign))
    return "·" if after is None else after.value

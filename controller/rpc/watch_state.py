"""What a watch on a peer has proven, as a table. Pure.

Evidence of death is what kill -9 looks like from outside: the kernel ends the connection without a goodbye, and nobody
listens at the address any more. Everything that a living but paused, slow or cut-off process can also look like
is silence, and silence proves nothing.
"""

from dataclasses import dataclass
from enum import Enum

# Attempts after a break before its end is put down to silence. A container's name and address outlive its process
# for a moment, so one look is not enough.
MAX_PROBES = 12


class Standing(Enum):
    UNKNOWN = "unknown"  # never reached since this node started
    WATCHING = "watching"  # the connection stands
    BROKEN = "broken"  # it ended without a goodbye; being probed
    SILENT = "silent"  # no proof either way
    DEAD = "dead"  # evidence that the process is gone
    LEFT = "left"  # it said goodbye and has not come back


class Sign(Enum):
    ESTABLISHED = "established"  # the peer accepted the watch
    GOODBYE = "goodbye"
    BROKEN = "broken"  # a connection that had been accepted was closed or reset by the other side
    REFUSED = "refused"  # nobody listens at any address of the peer
    UNRESOLVABLE = "unresolvable"  # its name does not resolve
    SILENT = "silent"  # a deadline passed, no route, or the peer rejects this node


_S, _E = Standing, Sign

# A name that does not resolve counts only right after a break: on a start, or after silence, a missing name may as well
# mean that the peer is not up yet or that this node is the one that is cut off.
TRANSITIONS: dict[tuple[Standing, Sign], Standing] = {
    (_S.UNKNOWN, _E.GOODBYE): _S.LEFT,
    (_S.UNKNOWN, _E.BROKEN): _S.UNKNOWN,
    (_S.UNKNOWN, _E.REFUSED): _S.DEAD,
    (_S.UNKNOWN, _E.UNRESOLVABLE): _S.UNKNOWN,
    (_S.UNKNOWN, _E.SILENT): _S.UNKNOWN,
    (_S.WATCHING, _E.GOODBYE): _S.LEFT,
    (_S.WATCHING, _E.BROKEN): _S.BROKEN,
    (_S.WATCHING, _E.SILENT): _S.SILENT,
    (_S.BROKEN, _E.GOODBYE): _S.LEFT,
    (_S.BROKEN, _E.BROKEN): _S.BROKEN,
    (_S.BROKEN, _E.REFUSED): _S.DEAD,
    (_S.BROKEN, _E.UNRESOLVABLE): _S.DEAD,
    (_S.BROKEN, _E.SILENT): _S.BROKEN,
    (_S.SILENT, _E.GOODBYE): _S.LEFT,
    (_S.SILENT, _E.BROKEN): _S.BROKEN,
    (_S.SILENT, _E.REFUSED): _S.DEAD,
    (_S.SILENT, _E.UNRESOLVABLE): _S.SILENT,
    (_S.SILENT, _E.SILENT): _S.SILENT,
    **{(_S.DEAD, sign): _S.DEAD for sign in _E},
    **{(_S.LEFT, sign): _S.LEFT for sign in _E},
    (_S.DEAD, _E.GOODBYE): _S.LEFT,
    **{(standing, _E.ESTABLISHED): _S.WATCHING for standing in _S},
}

FIRST_DELAY_S = 0.02
MAX_DELAY_S = 0.5
_FIRST_PROBE_DELAY_S = 0.002
_MAX_PROBE_DELAY_S = 0.2


@dataclass(frozen=True, slots=True)
class WatchState:
    """Where the watch stands, and how many attempts in a row have not changed it."""

    standing: Standing = Standing.UNKNOWN
    attempts: int = 0

    def after(self, sign: Sign) -> "WatchState":
        """The state once `sign` was seen. Raises KeyError for a sign that cannot occur (an attempt while watching)."""
        standing = TRANSITIONS[self.standing, sign]
        attempts = self.attempts + 1 if standing is self.standing else 0
        if standing is Standing.BROKEN and attempts >= MAX_PROBES:
            return WatchState(Standing.SILENT)
        return WatchState(standing, attempts)

    @property
    def delay(self) -> float:
        """Seconds to wait before the next attempt: none right after a break, else growing and bounded."""
        if self.standing is Standing.BROKEN:
            return 0.0 if self.attempts == 0 else min(_FIRST_PROBE_DELAY_S * 2.0**self.attempts, _MAX_PROBE_DELAY_S)
        return min(FIRST_DELAY_S * 2.0 ** min(self.attempts, 10), MAX_DELAY_S)

    @property
    def patience(self) -> float:
        """Seconds that one attempt may take. Short after a break: the address may have stopped answering."""
        return 0.3 if self.standing is Standing.BROKEN else 2.0

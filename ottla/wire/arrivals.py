"""How fast connections may come (KIP-612). Pure; times are seconds of one clock.

Each may come at its own moment, one after the other at the rate; ten seconds in which few came can be made up for at
once, as in Kafka's windows.
"""

from typing import Final

BURST_S: Final = 10.0


class Arrivals:
    """The connections of one server."""

    def __init__(self) -> None:
        self._next = float("-inf")

    def wait(self, rate: float, now: float) -> float:
        """For how many seconds a connection that comes now has to stand still, at so many connections a second."""
        moment = max(self._next, now - BURST_S)
        self._next = moment + 1 / rate
        return max(moment - now, 0.0)

"""How long to wait before the next try."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays in seconds. They stay at `base` for the first four tries and then double every four, up to `limit`.

    KIP-580 doubles on each try. A failover is over in a few hundred milliseconds, so doubling from the start
    would add its own delay to every one of them; a long outage ends at the same limit. Jitter is 20% as there.
    """

    base: float = 0.05
    limit: float = 1.0

    def delay(self, attempt: int, rng: random.Random) -> float:
        """Seconds to wait after failed attempt number `attempt` (1 is the first)."""
        doublings = min(max(attempt - 1, 0) // 4, 16)
        return min(self.limit, self.base * float(2**doublings)) * rng.uniform(0.8, 1.2)


IN_THE_WAY = Backoff(0.005, 0.1)
"""After CONCURRENT_TRANSACTIONS: the producer's last transaction is over as soon as its markers are written."""

"""One direction between two machines, and what is wrong with it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ottla.simulation.process import Machine
    from ottla.simulation.socket import Socket

_RETRANSMISSION = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Harm:
    """Something that is wrong with a link for a while; compared by identity. The fields are those of Link."""

    cut: bool = False
    cut_ports: frozenset[int] = frozenset()
    refused: bool = False
    latency: tuple[float, float] = (0.0, 0.0)
    loss: float = 0.0
    bandwidth: float = inf
    resets: float = 0.0

    @property
    def stops(self) -> bool:
        """Whether it keeps anything from getting through, and not only makes it late."""
        return self.cut or bool(self.cut_ports) or self.refused


class Link:
    """One direction between two machines.

    `cut`: everything is silently dropped; `cut_ports`: only what goes to or comes from these. `refused`: nobody seems
    to listen at the other end. `latency` is a range in seconds; `loss` the share of segments repeated; `bandwidth` in
    bytes per second: what is sent waits until what was sent before has left. `resets`: the share of connections that is
    reset, every second.

    All of that is the worst of the harms that are done to it at the moment: one that ends leaves the others.
    """

    def __init__(self, target: Machine, latency: tuple[float, float]) -> None:
        self.target = target
        self.stalled: dict[Socket, None] = {}
        self.cut_at = 0.0
        self.resetting = False  # whether somebody comes every second
        self._healthy = Harm(latency=latency)
        self._harms: list[Harm] = []
        self._free_at = 0.0
        self.settle()

    def settle(self) -> None:
        """Reckon what is read for each segment; to be called when the target has lost its power, or has it again."""
        harms = [self._healthy, *self._harms]
        self.cut = any(harm.cut for harm in harms)
        self.cut_ports = frozenset[int]().union(*(harm.cut_ports for harm in harms))
        # Whether anything is silently dropped.
        self.silences = self.cut or bool(self.cut_ports)
        self.refused = any(harm.refused for harm in harms)
        self.latency = max(harm.latency for harm in harms)
        self.loss = max(harm.loss for harm in harms)
        self.bandwidth = min(harm.bandwidth for harm in harms)
        self.resets = max(harm.resets for harm in harms)
        if self.bandwidth == inf:
            self._free_at = 0.0
        # Nothing is dropped, neither here nor by a machine without power.
        self.clear = not self.silences and self.target.powered
        # Nothing but a delay: the usual case, which does without the arithmetic of the others.
        self.plain = self.bandwidth == inf and not self.loss

    def suffer(self, harm: Harm) -> None:
        """From now on."""
        self._harms.append(harm)
        self.settle()

    def recover(self, which: Callable[[Harm], bool]) -> None:
        """No more of these harms."""
        self._harms = [harm for harm in self._harms if not which(harm)]
        self.settle()

    @property
    def harms(self) -> tuple[Harm, ...]:
        """What is wrong with it at the moment."""
        return tuple(self._harms)

    @property
    def blocked(self) -> bool:
        return self.cut or not self.target.powered

    def drops(self, *ports: int) -> bool:
        """Whether a connection between these ports is cut, though the link may not be."""
        return not self.cut_ports.isdisjoint(ports)

    def carries(self, size: int, now: float, rng: random.Random) -> float:
        """When `size` bytes sent now arrive."""
        if self.bandwidth == inf:
            return now + self.delay(rng)
        self._free_at = max(self._free_at, now) + size / self.bandwidth
        return self._free_at + self.delay(rng)

    def delay(self, rng: random.Random) -> float:
        delay = rng.uniform(*self.latency)
        while self.loss and rng.random() < self.loss:
            delay += _RETRANSMISSION
        return delay

"""The in-sync replicas of a partition as a type (KIP-497): what is committed, and what was asked for.

The high watermark must respect every replica that the controller may by now count as in sync, so it goes by `maximal`;
the promise of min.insync.replicas may only lean on what is committed, so it goes by `committed`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Committed:
    """The controller and we agree."""

    committed: frozenset[int]

    @property
    def maximal(self) -> frozenset[int]:
        return self.committed


@dataclass(frozen=True, slots=True)
class PendingExpand:
    """`added` was proposed: the controller may already elect it, so the high watermark waits for it."""

    committed: frozenset[int]
    added: int

    @property
    def maximal(self) -> frozenset[int]:
        return self.committed | {self.added}

    @property
    def target(self) -> frozenset[int]:
        return self.maximal


@dataclass(frozen=True, slots=True)
class PendingShrink:
    """`removed` were proposed to go: until that is committed the controller may elect them, so they still count."""

    committed: frozenset[int]
    removed: frozenset[int]

    @property
    def maximal(self) -> frozenset[int]:
        return self.committed

    @property
    def target(self) -> frozenset[int]:
        return self.committed - self.removed


Isr = Committed | PendingExpand | PendingShrink

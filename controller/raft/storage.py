"""Where a Raft node keeps what it must not forget."""

from typing import Protocol

from ottla.controller.raft.config import PersistentState, Ready


class Storage(Protocol):
    """All methods block and are called by one caller at a time, off the event loop; each raises on failure, after which
    the node must not go on (a failed fsync is never retried)."""

    def load(self) -> PersistentState:
        """What is there, repaired after a crash. Raises RaftInvariantError when it is damaged beyond a torn tail."""

    def persist(self, ready: Ready) -> None:
        """Make hard state, snapshot and entries of ``ready`` durable, in that order, before returning."""

    def settle(self) -> None:
        """Nothing more is written for the moment: time to note how far the log is durable, if that is not known."""

    def compact(self, first_index: int) -> None:
        """Entries before ``first_index`` are covered by a durable snapshot and may go, older snapshots too."""

    def close(self) -> None:
        """Release files."""

"""What the active controller needs of Raft: the part of RaftDriver that it uses."""

import asyncio
from typing import Protocol


class Consensus(Protocol):
    """`submit` may raise NotLeader, Overloaded or RaftStopped at once, having written nothing."""

    @property
    def leader_id(self) -> int | None: ...

    def submit(self, data: bytes) -> asyncio.Future[int]:
        """Propose one entry; entries are in the log in the order of the calls.

        The future becomes the entry's index once it is committed and applied here, or NotLeader (OutcomeUnknown when
        it may still come to pass).
        """
        ...

"""What a program is told when partitions come and go."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable

from ottla.client.structs import TopicPartition

Answer = Awaitable[None] | None


class ConsumerRebalanceListener:
    """Override what is of interest; each method may be a coroutine function or a plain one.

    Nothing of the partitions in question is handed out while a method runs, and the group waits for it. The consumer's
    own methods may be called: `commit` and `position` of what is revoked, `seek` in what is assigned.
    """

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> Answer:
        """These go to other members next: the last chance to commit. Empty if there are none."""
        return None

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> Answer:
        """These have come: all of them after an eager rebalance, the new ones after a cooperative one."""
        return None

    def on_partitions_lost(self, lost: set[TopicPartition]) -> Answer:
        """These are gone, and may have another owner already: nothing of them can be committed any more (KIP-429)."""
        return self.on_partitions_revoked(lost)


async def notify(method: Callable[[set[TopicPartition]], Answer], partitions: set[TopicPartition]) -> None:
    """Call a listener's method, and wait for it if it is a coroutine."""
    answer = method(partitions)
    if inspect.isawaitable(answer):
        await answer

"""Commits, one after the other, each retried for as long as it may be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final, Protocol

from kio.schema.errors import ErrorCode

from ottla.client.coordinator import Coordinator
from ottla.client.errors import (
    CommitFailedError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    error_for,
)
from ottla.client.group.model import Identity
from ottla.client.group.offsets import Committed, commit_once, fetch_once
from ottla.client.network import Network
from ottla.client.structs import OffsetAndMetadata, TopicPartition

PATIENCE: Final = 5.0
"""Seconds that the coordinator may take over one try."""

_OVER: Final = frozenset({ErrorCode.illegal_generation, ErrorCode.unknown_member_id, ErrorCode.fenced_instance_id})
_STALE: Final = frozenset({ErrorCode.stale_member_epoch, ErrorCode.rebalance_in_progress})


class Owner(Protocol):
    """Who commits, and for which partitions it may."""

    def identity(self) -> Identity: ...
    def holding(self, tp: TopicPartition) -> int | None:
        """A number that changes whenever the partition is lost, even if it comes back; None: not owned."""

    def fenced(self, code: ErrorCode, identity: Identity) -> None: ...


class Committer:
    """One commit at a time: a retry never comes after a later commit, so that committed offsets do not go back.

    `latest` is what was committed last, or found to be committed, by partition.
    """

    def __init__(self, network: Network, coordinator: Coordinator, group_id: str, owner: Owner) -> None:
        self.latest: Committed = {}
        self._network = network
        self._coordinator = coordinator
        self._group_id = group_id
        self._owner = owner
        self._lock = asyncio.Lock()

    async def commit(self, offsets: Committed, timeout: float) -> None:
        """Until every offset is committed, within so many seconds.

        Raises CommitFailedError when a partition is not owned, or not any more; FencedInstanceIdError; the last error
        of a broker, or KafkaTimeoutError, when the time is over; at once what trying again will not change.
        """
        held = {tp: self._holding(tp) for tp in offsets}
        trying = _Trying(dict(offsets))
        try:
            async with asyncio.timeout(timeout), self._lock:
                await self._commit(trying, held)
        except TimeoutError:
            if trying.error is not None:
                raise trying.error from None
            text = f"offsets of group {self._group_id!r} were not committed within {timeout:g} s"
            raise KafkaTimeoutError(f"{text}, after {trying.attempts} attempts") from None

    async def _commit(self, trying: _Trying, held: dict[TopicPartition, int]) -> None:
        options = self._network.options
        while trying.left:
            for tp in trying.left:
                if self._owner.holding(tp) != held[tp]:
                    raise self._failed(ErrorCode.illegal_generation, "lost before its offset was committed", tp)
            trying.attempts += 1
            identity = self._owner.identity()
            try:
                told, node = await commit_once(
                    self._coordinator, self._group_id, identity, trying.left, min(PATIENCE, options.request_timeout)
                )
            except (KafkaConnectionError, KafkaTimeoutError) as error:
                trying.error = error
            else:
                self._take_in(trying, told, identity, node)
            if trying.left:
                await asyncio.sleep(options.backoff.delay(trying.attempts, options.rng))

    def _take_in(self, trying: _Trying, told: dict[TopicPartition, ErrorCode], identity: Identity, node: int) -> None:
        for tp, code in told.items():
            if code is ErrorCode.none:
                self.latest[tp] = trying.left.pop(tp)
                continue
            if code in _OVER and identity == self._owner.identity():
                self._owner.fenced(code, identity)
                raise self._failed(code, None, tp, node, trying.attempts)
            trying.error = self._failed(code, None, tp, node, trying.attempts)
            # Refused under an identity that has been followed by another: the partition is still held, so try as that.
            if not (code.retriable or code in _OVER or code in _STALE):
                raise trying.error

    def _holding(self, tp: TopicPartition) -> int:
        holding = self._owner.holding(tp)
        if holding is None:
            raise self._failed(ErrorCode.illegal_generation, "not owned by this member", tp)
        return holding

    def _failed(
        self,
        code: ErrorCode,
        reason: str | None,
        tp: TopicPartition,
        node: int | None = None,
        attempts: int | None = None,
    ) -> KafkaError:
        text = f"group {self._group_id!r}" + (f": {reason}" if reason else "")
        over = code in _STALE or (code in _OVER and code is not ErrorCode.fenced_instance_id)
        if not over:
            return error_for(code, text, broker=node, partition=tp, attempts=attempts)
        return CommitFailedError(code, text, broker=node, partition=tp, attempts=attempts)

    async def fetch(
        self, partitions: Iterable[TopicPartition], *, require_stable: bool
    ) -> tuple[Committed, dict[TopicPartition, KafkaError]]:
        """Ask once where the group is in some partitions. Raises as `fetch_once` does."""
        timeout = min(PATIENCE, self._network.options.request_timeout)
        found, codes = await fetch_once(
            self._coordinator, self._group_id, partitions, timeout, require_stable=require_stable
        )
        text = f"group {self._group_id!r}"
        return found, {tp: error_for(code, text, partition=tp) for tp, code in codes.items()}

    async def committed(self, tp: TopicPartition, timeout: float, *, require_stable: bool) -> OffsetAndMetadata | None:
        """Where the group is in a partition, None if nothing is committed. Raises the last error in the end."""
        options = self._network.options
        last: KafkaError | None = None
        attempts = 0
        try:
            async with asyncio.timeout(timeout):
                while True:
                    attempts += 1
                    try:
                        found, errors = await self.fetch([tp], require_stable=require_stable)
                        if tp not in errors:
                            return found.get(tp)
                        last = errors[tp]
                    except KafkaError as error:
                        last = error
                    if not last.retriable:
                        raise last
                    await asyncio.sleep(options.backoff.delay(attempts, options.rng))
        except TimeoutError:
            text = f"no offsets of group {self._group_id!r} within {timeout:g} s, after {attempts} attempts"
            raise (last or KafkaTimeoutError(text)) from None


class _Trying:
    """What is left to commit, and how it went so far."""

    def __init__(self, left: Committed) -> None:
        self.left = left
        self.attempts = 0
        self.error: KafkaError | None = None

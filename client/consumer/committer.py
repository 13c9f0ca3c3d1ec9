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
        trying = _Trying(dict(offsets), self._owner.identity())
        try:
            held = {tp: self._holding(tp) for tp in offsets}
            async with asyncio.timeout(timeout), self._lock:
                await self._commit(trying, held)
        except TimeoutError:
            error = trying.error or KafkaTimeoutError(f"the offsets were not committed within {timeout:g} s")
            raise self._explained(error, trying) from None
        except KafkaError as error:
            raise self._explained(error, trying) from error.__cause__

    def _explained(self, error: KafkaError, trying: _Trying) -> KafkaError:
        if error.partition is None:
            error = error.about(partitions=tuple(trying.left), broker=error.broker or self._coordinator.asked)
        else:
            error = error.about(leader_epoch=trying.offsets[error.partition].leader_epoch)
        generation = trying.identity.generation
        return error.about(group_id=self._group_id, generation=generation, attempts=trying.attempts)

    async def _commit(self, trying: _Trying, held: dict[TopicPartition, int]) -> None:
        options = self._network.options
        patience = min(PATIENCE, options.request_timeout)
        while trying.left:
            for tp in trying.left:
                if self._owner.holding(tp) != held[tp]:
                    raise _refusal(ErrorCode.illegal_generation, tp, text="lost before its offset was committed")
            trying.attempts += 1
            identity = trying.identity = self._owner.identity()
            try:
                told, node = await commit_once(self._coordinator, self._group_id, identity, trying.left, patience)
            except (KafkaConnectionError, KafkaTimeoutError) as error:
                trying.error = error
            else:
                self._take_in(trying, told, node)
            if trying.left:
                await asyncio.sleep(options.backoff.delay(trying.attempts, options.rng))

    def _take_in(self, trying: _Trying, told: dict[TopicPartition, ErrorCode], node: int) -> None:
        for tp, code in told.items():
            if code is ErrorCode.none:
                self.latest[tp] = trying.left.pop(tp)
                continue
            trying.error = _refusal(code, tp, node)
            if code in _OVER and trying.identity == self._owner.identity():
                self._owner.fenced(code, trying.identity)
                raise trying.error
            # Refused under an identity that has been followed by another: the partition is still held, so try as that.
            if not (code.retriable or code in _OVER or code in _STALE):
                raise trying.error

    def _holding(self, tp: TopicPartition) -> int:
        holding = self._owner.holding(tp)
        if holding is None:
            raise _refusal(ErrorCode.illegal_generation, tp, text="not owned by this member")
        return holding

    async def fetch(
        self, partitions: Iterable[TopicPartition], *, require_stable: bool
    ) -> tuple[Committed, dict[TopicPartition, KafkaError]]:
        """Ask once where the group is in some partitions. Raises as `fetch_once` does."""
        timeout = min(PATIENCE, self._network.options.request_timeout)
        found, codes, node = await fetch_once(
            self._coordinator, self._group_id, partitions, timeout, require_stable=require_stable
        )
        group_id = self._group_id
        return found, {tp: error_for(code, group_id=group_id, partition=tp, broker=node) for tp, code in codes.items()}

    async def committed(self, tp: TopicPartition, timeout: float, *, require_stable: bool) -> OffsetAndMetadata | None:
        """Where the group is in a partition, None if nothing is committed. Raises the last error in the end."""
        options = self._network.options
        last: KafkaError = KafkaTimeoutError(f"no committed offset within {timeout:g} s")
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
                        break
                    await asyncio.sleep(options.backoff.delay(attempts, options.rng))
        except TimeoutError:
            last = last.about(broker=last.broker or self._coordinator.asked)
        raise last.about(group_id=self._group_id, partition=tp, attempts=attempts) from None


def _refusal(code: ErrorCode, tp: TopicPartition, node: int | None = None, text: str | None = None) -> KafkaError:
    over = code in _STALE or (code in _OVER and code is not ErrorCode.fenced_instance_id)
    if over:
        return CommitFailedError(code, text, partition=tp, broker=node)
    return error_for(code, text, partition=tp, broker=node)


class _Trying:
    """What is left to commit, as whom, and how it went so far."""

    def __init__(self, offsets: Committed, identity: Identity) -> None:
        self.offsets = offsets
        self.left = dict(offsets)
        self.identity = identity
        self.attempts = 0
        self.error: KafkaError | None = None

"""One replica on a modelled disk, whose proposals, fetches and syncs wait until a step lets them go on."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, cast
from uuid import UUID

from ottla.broker.replication import FetchResult, Partition
from ottla.broker.replication.follower import FollowerState
from ottla.broker.replication.host import PartitionHost
from ottla.broker.replication.leader import IsrProposal
from ottla.controller import AlterPartitionResponse
from ottla.log import GroupCommit, LogConfig, ModelledDisk, PartitionLog
from ottla.records import iter_headers

TOPIC = "t"
DIRECTORY = "d/t-0"
LAG_S = 30.0
Entries = dict[int, tuple[int, int]]


class _Sync:
    """Stands for the future of a sync that a step completes."""

    def __init__(self, log: PartitionLog) -> None:
        self.log = log
        self.callbacks: list[Callable[[Any], None]] = []

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self.callbacks.append(callback)

    def cancelled(self) -> bool:
        return False

    def exception(self) -> None:
        return None


class StepGroup:
    """A GroupCommit whose syncs happen when a step says so."""

    def __init__(self) -> None:
        self.pending: list[_Sync] = []

    def synced(self, log: PartitionLog, offset: int) -> _Sync:
        self.pending.append(_Sync(log))
        return self.pending[-1]

    def fire(self) -> None:
        pending, self.pending = self.pending, []
        for sync in pending:
            sync.log.flush()
            for callback in sync.callbacks:
                callback(sync)


class Node:
    """One broker with one replica; `seen` counts the metadata entries that it has applied."""

    def __init__(
        self, id: int, config: LogConfig, rng: random.Random, min_insync: int, clock: Callable[[], float]
    ) -> None:
        self.id = id
        self.config = config
        self.min_insync = min_insync
        self.clock = clock
        self.disk = ModelledDisk(rng)
        self.checkpoint = 0
        self.alive = False
        self.broker_epoch = -1
        self.incarnation = 0
        self.seen = 0
        self.eligible: Mapping[int, int] = {}
        self.outbox: list[IsrProposal] = []
        self.answers: list[tuple[IsrProposal, AlterPartitionResponse]] = []
        self.fetched: tuple[FollowerState, FetchResult, int] | None = None
        self.group = StepGroup()
        self.partition = cast(Partition, None)
        self.topic_id = UUID(int=0)

    def open(self) -> None:
        """A process on what is on the disk."""
        self.outbox, self.answers, self.eligible, self.seen = [], [], {}, 0
        self.open_log()
        self.alive = True

    def open_log(self) -> None:
        """Take the replica up, as it was left or from nothing."""
        self.group, self.fetched = StepGroup(), None
        log = PartitionLog.open(self.disk, DIRECTORY, self.config, clean=False, now_ms=0)
        host = PartitionHost(
            node_id=self.id,
            max_lag_s=LAG_S,
            now=self.clock,
            eligible=lambda: self.eligible,
            propose=lambda _, proposal: self.outbox.append(proposal),
            storage_failed=lambda _, error: (_ for _ in ()).throw(error),
            group=cast(GroupCommit, self.group),
        )
        self.partition = Partition(
            host, TOPIC, self.topic_id, 0, log, high_watermark=self.checkpoint, min_insync=self.min_insync
        )

    @property
    def holds(self) -> bool:
        return not self.partition.retired

    def drop(self) -> None:
        """No replica any more: the log goes at once, and with it what waits."""
        self.partition.retire()
        self.log.abandon()
        self.disk.remove_tree(DIRECTORY)
        self.fetched, self.checkpoint = None, 0
        self.group = StepGroup()

    @property
    def log(self) -> PartitionLog:
        assert self.partition.log is not None
        return self.partition.log

    def entries(self) -> Entries:
        """base offset -> (leader epoch, CRC)."""
        start, end = self.log.log_start_offset, self.log.log_end_offset
        data = self.log.read(start, 1 << 30, up_to=end)
        found = {header.base_offset: (header.leader_epoch, header.crc) for _, header in iter_headers(data)}
        assert len(found) == end - start
        return found

"""Giving up what has grown old, or lost its topic: the slow work of a shard, a little at a time."""

from __future__ import annotations

import asyncio

import structlog

from ottla.broker.groups.inspection import standing
from ottla.broker.groups.offsets import expired
from ottla.broker.groups.records import OffsetKey
from ottla.broker.groups.shard import Shard

log = structlog.get_logger(__name__)


async def expire(shard: Shard, now_ms: int, retention_ms: int) -> int:
    """Give up offsets that are older than the retention, and groups of which nothing is left. How many offsets.

    A group with records on their way is left for the next time: what is stored of it is not the last word.
    """
    count = 0
    for group_id in tuple(shard.ids()):
        if not shard.log.ready or shard.is_writing(group_id):
            continue
        rows = shard.offsets.of(group_id)
        old = expired(rows, standing(shard, group_id), now_ms, retention_ms)
        gone = [at for at in old if not shard.offsets.is_undecided(group_id, at)]
        count += len(gone)
        if len(gone) == len(rows) and shard.is_empty(group_id) and group_id not in shard.offsets.undecided:
            await shard.changes.drop_group(group_id)
        elif gone:
            await shard.changes.bury([OffsetKey(group_id, *at) for at in gone])
        await asyncio.sleep(0)
    if count:
        log.info("offsets_expired", partition=shard.log.partition.index, offsets=count)
    return count


async def forget_topics(shard: Shard, topics: frozenset[str]) -> None:
    """The topics are deleted, and with them what was committed for them, also what is not replicated yet."""
    offsets = shard.offsets
    keys = {OffsetKey(group_id, *at) for group_id in offsets for at in offsets.known(group_id)}
    keys |= {entry.key for entry in shard.log.in_flight if isinstance(entry.key, OffsetKey)}
    await shard.changes.bury(sorted((key for key in keys if key.topic in topics), key=repr))

"""Logs with keys, and a cleaning of one from its plan to its end."""

from __future__ import annotations

import asyncio
import random

from ottla.log import GroupCommit, LogConfig, ModelledDisk, PartitionLog
from ottla.log.cleaning import clean_log
from ottla.records import Record, decode_batch, encode_batch, iter_headers
from tests.log.batches import lead, read_all

DIRECTORY = "data/t-0"
RETENTION = 1000
CONFIG = LogConfig(
    segment_bytes=400,
    index_interval_bytes=90,
    retention_ms=-1,
    cleanup_policy="compact",
    delete_retention_ms=RETENTION,
    min_cleanable_dirty_ratio=0.0,
)


class Inline(GroupCommit):
    """Everything at once, on this thread."""

    async def run_blocking(self, function):
        return function()


def pairs(*items, producer_id=-1, sequence=-1, timestamp=1000):
    records = [Record(0, timestamp, key, value) for key, value in items]
    return encode_batch(records, producer_id=producer_id, producer_epoch=0, base_sequence=sequence)


def open_log(disk, config=CONFIG, *, clean=False, recovery_point=0):
    return PartitionLog.open(disk, DIRECTORY, config, clean=clean, recovery_point=recovery_point, now_ms=0)


def contents(log):
    data = read_all(log)
    return [record for position, _ in iter_headers(data) for record in decode_batch(data, position)]


def clean(log, now_ms=1000, high_watermark=None, max_bytes=1 << 20, first_dirty=0):
    """One whole cleaning; the offset up to which it went, None when nothing was dirty."""
    log.flush()
    end = log.log_end_offset if high_watermark is None else high_watermark
    cleaning = log.begin_cleaning(first_dirty, end, now_ms)
    return None if cleaning is None else asyncio.run(clean_log(log, cleaning, Inline(), max_bytes))


def filled(items, disk=None, config=CONFIG):
    log = open_log(disk or ModelledDisk(random.Random(0)), config)
    for item in items:
        lead(log, pairs(item))
    log.roll(0)
    return log

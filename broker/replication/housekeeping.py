"""What has to be done now and then: lagging replicas, high-watermark checkpoint, flushing and retention."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import structlog

from ottla.log import DiskError, GroupCommit, LogError, LogManager

if TYPE_CHECKING:
    from ottla.broker.replication.config import ReplicationConfig
    from ottla.broker.replication.partition import Partition

log = structlog.get_logger(__name__)

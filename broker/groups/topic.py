"""`__consumer_offsets` itself: how it is made, on the first request for a coordinator."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from kio.schema.errors import ErrorCode

from ottla.broker.groups.config import GroupConfig
from ottla.broker.groups.partitioning import OFFSETS_TOPIC
from ottla.controller import CreateTopics, CreateTopicsResponse, MetadataImage, NewTopic, RpcError
from ottla.tasks import start_task, stop_tasks

log = structlog.get_logger(__name__)

PATIENCE_S = 10.0
"""How long to wait for brokers that have not come yet before there are fewer replicas than were asked for."""
CREATE_TIMEOUT_S = 10.0

Create = Callable[[CreateTopics], Awaitable[CreateTopicsResponse]]


def internal_configs(config: GroupConfig) -> dict[str, str | None]:
    return {
        "cleanup.policy": "compact",
        "segment.bytes": str(config.offsets_topic_segment_bytes),
    }


def offsets_topic(config: GroupConfig, brokers: int) -> NewTopic:
    """With no more replicas than there are brokers. (Kafka refuses to make it with fewer than configured.)"""
    return NewTopic(
        name=OFFSETS_TOPIC,
        partitions=config.offsets_topic_num_partitions,
        replication_factor=max(1, min(config.offsets_topic_replication_factor, brokers)),
        configs=internal_configs(config),
        internal=True,
    )


class OffsetsTopic:
    """Makes the topic once, however many ask for it."""

    def __init__(
        self, config: GroupConfig, image: Callable[[], MetadataImage], expected: Callable[[], int], create: Create
    ) -> None:
        """`expected` is how many brokers the cluster will have as far as this node can tell."""
        self._config = config
        self._image = image
        self._expected = expected
        self._create = create
        self._wanted_since: float | None = None
        self._task: asyncio.Task[None] | None = None

    async def ensure(self) -> None:
        """Have it made if it is not there; returns when that was tried, by whomever."""
        if OFFSETS_TOPIC in self._image().topics:
            return
        if self._task is None or self._task.done():
            self._task = start_task(self._make(), "create-offsets-topic")
        await asyncio.shield(self._task)

    def _brokers(self) -> int | None:
        """How many brokers to count on; None while it is too early to say: a cluster that is just starting must not
        get a topic with a single replica for the rest of its life."""
        now = asyncio.get_running_loop().time()
        if self._wanted_since is None:
            self._wanted_since = now
        brokers = self._image().brokers.values()
        alive = sum(not broker.fenced for broker in brokers)
        wanted = min(self._config.offsets_topic_replication_factor, max(self._expected(), len(brokers)))
        return alive if alive >= wanted or now - self._wanted_since >= PATIENCE_S else None

    async def _make(self) -> None:
        brokers = self._brokers()
        if brokers is None:
            return
        topic = offsets_topic(self._config, brokers)
        try:
            response = await self._create(CreateTopics(topics=(topic,)))
        except RpcError as error:
            log.warning("offsets_topic_not_created", reason=str(error))
            return
        for result in response.topics:
            if result.error == ErrorCode.none:
                log.info(
                    "offsets_topic_created", partitions=topic.partitions, replication_factor=topic.replication_factor
                )
            elif result.error != ErrorCode.topic_already_exists:
                log.warning("offsets_topic_not_created", error=result.error, reason=result.message)

    async def close(self) -> None:
        if self._task is not None:
            await stop_tasks([self._task])

"""An internal topic itself: how it is made, on the first request for a coordinator."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog
from kio.schema.errors import ErrorCode

from ottla.controller import CreateTopics, CreateTopicsResponse, MetadataImage, NewTopic, RpcError
from ottla.tasks import start_task, stop_tasks

log = structlog.get_logger(__name__)

PATIENCE_S = 10.0
"""How long to wait for brokers that have not come yet before there are fewer replicas than were asked for."""
CREATE_TIMEOUT_S = 10.0

Create = Callable[[CreateTopics], Awaitable[CreateTopicsResponse]]


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """An internal topic as the settings want it."""

    name: str
    partitions: int
    replication_factor: int
    configs: Mapping[str, str | None]
    min_insync_replicas: int | None = None
    """None for the cluster's default."""

    def configs_for(self, replicas: int) -> dict[str, str | None]:
        """The configs, with no more in-sync replicas wanted than there will be."""
        if self.min_insync_replicas is None:
            return dict(self.configs)
        wanted = max(1, min(self.min_insync_replicas, replicas))
        return {**self.configs, "min.insync.replicas": str(wanted)}

    def new(self, brokers: int) -> NewTopic:
        """With no more replicas than there are brokers. (Kafka refuses to make it with fewer than configured.)"""
        replicas = max(1, min(self.replication_factor, brokers))
        return NewTopic(
            name=self.name,
            partitions=self.partitions,
            replication_factor=replicas,
            configs=self.configs_for(replicas),
            internal=True,
        )


class InternalTopic:
    """Makes the topic once, however many ask for it."""

    def __init__(
        self, spec: TopicSpec, image: Callable[[], MetadataImage], expected: Callable[[], int], create: Create
    ) -> None:
        """`expected` is how many brokers the cluster will have as far as this node can tell."""
        self.spec = spec
        self._image = image
        self._expected = expected
        self._create = create
        self._wanted_since: float | None = None
        self._task: asyncio.Task[None] | None = None

    async def ensure(self) -> None:
        """Have it made if it is not there; returns when that was tried, by whomever."""
        if self.spec.name in self._image().topics:
            return
        if self._task is None or self._task.done():
            self._task = start_task(self._make(), f"create-{self.spec.name}")
        await asyncio.shield(self._task)

    def _brokers(self) -> int | None:
        """How many brokers to count on; None while it is too early to say: a cluster that is just starting must not
        get a topic with a single replica for the rest of its life."""
        now = asyncio.get_running_loop().time()
        if self._wanted_since is None:
            self._wanted_since = now
        brokers = self._image().brokers.values()
        alive = sum(not broker.fenced for broker in brokers)
        wanted = min(self.spec.replication_factor, max(self._expected(), len(brokers)))
        return alive if alive >= wanted or now - self._wanted_since >= PATIENCE_S else None

    async def _make(self) -> None:
        brokers = self._brokers()
        if brokers is None:
            return
        topic = self.spec.new(brokers)
        try:
            response = await self._create(CreateTopics(topics=(topic,)))
        except RpcError as error:
            log.warning("internal_topic_not_created", topic=topic.name, reason=str(error))
            return
        for result in response.topics:
            if result.error == ErrorCode.none:
                log.info(
                    "internal_topic_created",
                    topic=topic.name,
                    partitions=topic.partitions,
                    replication_factor=topic.replication_factor,
                )
            elif result.error != ErrorCode.topic_already_exists:
                log.warning("internal_topic_not_created", topic=topic.name, error=result.error, reason=result.message)

    async def close(self) -> None:
        if self._task is not None:
            await stop_tasks([self._task])

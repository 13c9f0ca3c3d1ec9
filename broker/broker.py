"""The broker as one object: what a node puts together, and what its listeners serve."""

from __future__ import annotations

import random
from collections.abc import Callable

from kio.schema.errors import ErrorCode

from ottla.broker.api import build_registry
from ottla.broker.context import (
    BrokerConfig,
    BrokerContext,
    Clock,
    Controller,
    MetadataSource,
    QuorumStatus,
)
from ottla.broker.fetch_sessions import SessionCache
from ottla.broker.producer_ids import ProducerIdBlock, ProducerIds
from ottla.broker.replication import ClusterCredentials, ReplicaManager
from ottla.broker.topic_limits import TopicLimits
from ottla.controller import AllocateProducerIds, ControllerUnavailable

PRODUCER_ID_TIMEOUT_S = 5.0


class Broker:
    """Holds the context of the request handlers and the registry for the node's Kafka listeners.

    It starts nothing by itself; `close` ends what handlers left running. `broker_epoch` is the epoch of this broker's
    present registration, `quorum` this node's view of the Raft quorum, `nonce` a source of 32 unpredictable bytes.
    """

    def __init__(
        self,
        config: BrokerConfig,
        *,
        view: MetadataSource,
        controller: Controller,
        replicas: ReplicaManager,
        credentials: ClusterCredentials,
        quorum: Callable[[], QuorumStatus],
        broker_epoch: Callable[[], int],
        clock: Clock,
        rng: random.Random,
        nonce: Callable[[], bytes],
    ) -> None:
        self._controller = controller
        self._broker_epoch = broker_epoch
        self._node_id = config.node_id
        self.context = BrokerContext(
            node_id=config.node_id,
            config=config,
            view=view,
            controller=controller,
            replicas=replicas,
            credentials=credentials,
            nonce=nonce,
            limits=TopicLimits(lambda: view.image, config.kafka_values, config.node_id),
            producer_ids=ProducerIds(self._allocate_producer_ids),
            quorum=quorum,
            clock=clock,
            rng=rng,
            sessions=SessionCache(rng, slots=config.max_incremental_fetch_session_cache_slots),
        )
        self.registry = build_registry(self.context)

    async def _allocate_producer_ids(self) -> ProducerIdBlock:
        """Raises RpcError."""
        request = AllocateProducerIds(node_id=self._node_id, broker_epoch=self._broker_epoch())
        response = await self._controller.call(request, timeout=PRODUCER_ID_TIMEOUT_S)
        if response.error != ErrorCode.none:
            raise ControllerUnavailable(f"no block of producer ids: error {response.error}, {response.message}")
        return ProducerIdBlock(response.first, response.count)

    async def close(self) -> None:
        """End the background work of handlers, and give up all fetch sessions."""
        await self.context.background.close()
        for session in self.context.sessions:
            self.context.sessions.remove(session.id)

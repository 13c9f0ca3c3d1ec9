"""The broker as one object: what a node puts together, and what its listeners serve."""

from __future__ import annotations

import asyncio
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
from ottla.broker.coordination import OFFSETS_TOPIC, TRANSACTIONS_TOPIC, InternalTopic, TopicSpec
from ottla.broker.features import told, transaction_version
from ottla.broker.fetch_sessions import SessionCache
from ottla.broker.groups import GroupConfig, GroupCoordinator, offsets_topic
from ottla.broker.peers import Peers
from ottla.broker.producer_ids import ProducerIdBlock, ProducerIds
from ottla.broker.quotas import REQUESTS, ClientQuotas
from ottla.broker.recompression import Recompression
from ottla.broker.replication import ClusterCredentials, OpenConnection, ReplicaManager
from ottla.broker.topic_limits import TopicLimits
from ottla.broker.transactions import TransactionConfig, TransactionCoordinator, Verifier, transactions_topic
from ottla.controller import (
    AllocateProducerIds,
    ControllerUnavailable,
    CreateTopics,
    CreateTopicsResponse,
    Delta,
    MetadataImage,
)
from ottla.wire import Meter, Registry, Request

PRODUCER_ID_TIMEOUT_S = 5.0
OFFSETS_TOPIC_TIMEOUT_S = 5.0


class Broker:
    """Holds the context of the request handlers and the registry for the node's Kafka listeners.

    It starts nothing by itself, but for what `apply` asks of it; `close` ends what handlers left running.
    `open_connection` leads to the other brokers, by their listener `inter_broker_listener`.
    `broker_epoch` is the epoch of this broker's present registration, `quorum` this node's view of the Raft quorum,
    `nonce` a source of 32 unpredictable bytes.
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
        timer: Callable[[], float],
        rng: random.Random,
        nonce: Callable[[], bytes],
        open_connection: OpenConnection,
        inter_broker_listener: str,
        groups: GroupConfig | None = None,
        transactions: TransactionConfig | None = None,
    ) -> None:
        self._controller = controller
        self._view = view
        self._quorum = quorum
        self._broker_epoch = broker_epoch
        self._node_id = config.node_id
        group_config = GroupConfig() if groups is None else groups
        transaction_config = TransactionConfig() if transactions is None else transactions
        limits = TopicLimits(lambda: view.image, config.kafka_values, config.node_id)
        producer_ids = ProducerIds(self._allocate_producer_ids)
        self.groups = GroupCoordinator(
            group_config,
            replicas,
            topic=self._internal(offsets_topic(group_config)),
            image=lambda: view.image,
            clock=clock,
            max_bytes=lambda: limits.of(OFFSETS_TOPIC).max_message_bytes,
        )
        self.transactions = TransactionCoordinator(
            transaction_config,
            replicas,
            topic=self._internal(transactions_topic(transaction_config)),
            image=lambda: view.image,
            clock=clock,
            max_bytes=lambda: limits.of(TRANSACTIONS_TOPIC).max_message_bytes,
            version=lambda: transaction_version(view.image),
            producer_ids=producer_ids,
            peers=Peers(open_connection, lambda: view.image, inter_broker_listener),
        )
        self._verifier = Verifier(
            Peers(open_connection, lambda: view.image, inter_broker_listener), self.transactions.home
        )
        self._quotas = ClientQuotas(lambda: asyncio.get_running_loop().time())
        self._meter = Meter(self._charge_time, timer)
        self.context = BrokerContext(
            node_id=config.node_id,
            config=config,
            view=view,
            controller=controller,
            replicas=replicas,
            groups=self.groups,
            transactions=self.transactions,
            verifier=self._verifier,
            credentials=credentials,
            nonce=nonce,
            limits=limits,
            quotas=self._quotas,
            producer_ids=producer_ids,
            recompression=Recompression(replicas.run_blocking),
            quorum=quorum,
            clock=clock,
            rng=rng,
            sessions=SessionCache(rng, slots=config.max_incremental_fetch_session_cache_slots),
        )
        self.registry = build_registry(self.context, Registry(lambda: told(view.image)))

    async def _allocate_producer_ids(self) -> ProducerIdBlock:
        """Raises RpcError."""
        request = AllocateProducerIds(node_id=self._node_id, broker_epoch=self._broker_epoch())
        response = await self._controller.call(request, timeout=PRODUCER_ID_TIMEOUT_S)
        if response.error != ErrorCode.none:
            raise ControllerUnavailable(f"no block of producer ids: error {response.error}, {response.message}")
        return ProducerIdBlock(response.first, response.count)

    def apply(self, image: MetadataImage, delta: Delta | None = None) -> None:
        """Follow the metadata, after the replica manager has; `delta` None stands for everything."""
        self.groups.apply(image, delta)
        self.transactions.apply(image, delta)
        self._quotas.apply(image, delta)
        self.registry.meter = self._meter if self._quotas.requests else None

    def _charge_time(self, request: Request, seconds: float) -> int:
        return self._quotas.charge(REQUESTS, seconds, request)

    def _internal(self, spec: TopicSpec) -> InternalTopic:
        return InternalTopic(spec, lambda: self._view.image, self._expected_brokers, self._create_topics)

    def _expected_brokers(self) -> int:
        """At least how many brokers there will be: where this broker is a voter too, the other voters are taken for
        brokers as well."""
        voters = self._quorum().voters
        return len(voters) if self._node_id in voters else 1

    async def _create_topics(self, request: CreateTopics) -> CreateTopicsResponse:
        """Returns when this node sees them, or would not soon. Raises RpcError."""
        response = await self._controller.call(request, timeout=OFFSETS_TOPIC_TIMEOUT_S)
        if response.offset >= 0:
            try:
                await self._view.wait_for(response.offset, OFFSETS_TOPIC_TIMEOUT_S)
            except TimeoutError:
                return response
        return response

    async def close(self) -> None:
        """End the background work of handlers, and give up all fetch sessions."""
        await self.groups.close()
        await self._verifier.close()
        await self.transactions.close()
        await self.context.recompression.close()
        await self.context.background.close()
        for session in self.context.sessions:
            self.context.sessions.remove(session.id)

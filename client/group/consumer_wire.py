"""ConsumerGroupHeartbeat (KIP-848) as it goes over the wire."""

from __future__ import annotations

from typing import Any, Final

from kio.schema.errors import ErrorCode

from ottla.client.coordinator import GONE, Coordinator
from ottla.client.group.consumer_protocol import LEAVE, Beaten
from ottla.client.group.model import Answered, MemberConfig, Send
from ottla.client.group.protocol import Partitions
from ottla.client.network import Network
from ottla.client.structs import TopicPartition

CONSUMER_GROUP_HEARTBEAT: Final = 68
VERSIONS: Final = (0, 1)
WITH_REGEX: Final = (1, 1)
TOPICS_WITHIN: Final = 5.0
"""Seconds to learn the names of topics that were assigned by id."""


class ConsumerWire:
    """Topics go by id here, and by name everywhere else."""

    def __init__(self, network: Network, coordinator: Coordinator, config: MemberConfig) -> None:
        self._network = network
        self._coordinator = coordinator
        self._config = config

    async def ask(self, send: Send) -> Answered:
        """Raises KafkaConnectionError, KafkaTimeoutError when there is no answer, or one whose topics cannot be named;
        another KafkaError when there will be none."""
        # Without its field an expression would be left out, and the member have nothing.
        versions = WITH_REGEX if send.values.get("subscribed_topic_regex") else VERSIONS
        timeout = min(self._network.options.request_timeout, max(self._config.session_timeout / 3, 1.0))
        answer, node = await self._coordinator.call(CONSUMER_GROUP_HEARTBEAT, versions, send.values, timeout=timeout)
        if answer.error_code in GONE:
            self._coordinator.lost(node)
        if send.kind == LEAVE or answer.error_code is not ErrorCode.none:
            told = Beaten("", -1, self._config.heartbeat_interval, message=answer.error_message)
            return Answered(send.kind, answer.error_code, told, node)
        target, ids = None, {}
        if answer.assignment is not None:
            target = await self._named(answer.assignment.topic_partitions)
            names = self._network.metadata.topic_names
            ids = {names[row.topic_id]: row.topic_id for row in answer.assignment.topic_partitions}
        interval = answer.heartbeat_interval.total_seconds() or self._config.heartbeat_interval
        told = Beaten(answer.member_id or "", answer.member_epoch, interval, target, ids)
        return Answered(send.kind, ErrorCode.none, told, node)

    async def _named(self, rows: Any) -> Partitions:
        names = self._network.metadata.topic_names
        if any(row.topic_id not in names for row in rows):
            await self._network.until(lambda: all(row.topic_id in names for row in rows), TOPICS_WITHIN)
        return tuple(sorted(TopicPartition(names[row.topic_id], index) for row in rows for index in row.partitions))

    def outdated(self) -> bool:
        """Never: the coordinator looks after that."""
        return False

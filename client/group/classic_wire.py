"""The requests of the classic protocol as they go over the wire, and the work of the member that leads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from kio.schema.errors import ErrorCode

from ottla.client.coordinator import CHANNEL, GONE, JOIN_CHANNEL, Coordinator
from ottla.client.errors import KafkaConnectionError, KafkaTimeoutError, error_for
from ottla.client.group.assignors import Assignor, RosterMember
from ottla.client.group.classic_requests import HEARTBEAT, JOIN, LEAVE, SYNC, Joined
from ottla.client.group.model import Answered, MemberConfig, Send
from ottla.client.group.protocol import BadMetadata, decode_assignment, decode_subscription, encode_assignment
from ottla.client.logs import get_logger
from ottla.client.network import Network
from ottla.client.structs import TopicPartition

APIS: Final[Mapping[str, tuple[int, tuple[int, int]]]] = {
    JOIN: (11, (2, 9)),
    HEARTBEAT: (12, (0, 4)),
    LEAVE: (13, (0, 5)),
    SYNC: (14, (0, 5)),
}
DESCRIBE: Final = (15, (0, 6))
"""DescribeGroups"""
GRACE: Final = 5.0
"""Seconds by which a coordinator may answer a join later than the slowest member had to come."""
TOPICS_WITHIN: Final = 2.0
"""Seconds to wait for what the cluster says of topics that are not known here yet."""

log = get_logger(__name__)


class ClassicWire:
    """`seen` is what the group's assignment was based on, if this member leads: the number of partitions by topic."""

    def __init__(
        self, network: Network, coordinator: Coordinator, config: MemberConfig, assignors: Sequence[Assignor]
    ) -> None:
        self.seen: dict[str, int] = {}
        self._network = network
        self._coordinator = coordinator
        self._config = config
        self._assignors = {each.name: each for each in assignors}
        self._answers: Mapping[str, Callable[[Send, Any], Any]] = {
            JOIN: self._joined,
            SYNC: self._synced,
            HEARTBEAT: lambda send, answer: send.body,
            LEAVE: lambda send, answer: None,
        }

    async def ask(self, send: Send) -> Answered:
        """Raises KafkaConnectionError, KafkaTimeoutError when there is no answer; another KafkaError when there will
        be none, or none that makes sense."""
        api_key, versions = APIS[send.kind]
        values = dict(send.values)
        if send.kind == JOIN:
            # Until then it is not known that somebody may ask for an assignment.
            self.seen = {}
        elif send.kind == SYNC and send.body is not None:
            values["assignments"] = await self._assignments(send.body)
        waits = send.kind in (JOIN, SYNC)
        timeout = self._config.max_poll_interval + GRACE if waits else self._beat_timeout
        channel = JOIN_CHANNEL if waits else CHANNEL
        answer, node = await self._coordinator.call(api_key, versions, values, timeout=timeout, channel=channel)
        if answer.error_code in GONE:
            self._coordinator.lost(node)
        answered = Answered(send.kind, answer.error_code, self._answers[send.kind](send, answer), node)
        if send.kind == JOIN and answered.code is ErrorCode.none and answered.body.leads_again:
            return await self._take_over(answered)
        return answered

    @property
    def _beat_timeout(self) -> float:
        """Early enough that another try comes before the session ends."""
        return min(self._network.options.request_timeout, max(self._config.session_timeout / 3, 1.0))

    def _joined(self, send: Send, answer: Any) -> Joined:
        return Joined(
            answer.member_id,
            answer.generation_id,
            answer.protocol_name or "",
            answer.leader,
            tuple((row.member_id, getattr(row, "group_instance_id", None), row.metadata) for row in answer.members),
            getattr(answer, "skip_assignment", False),
        )

    def _synced(self, send: Send, answer: Any) -> Any:
        if answer.error_code is not ErrorCode.none:
            return ()
        try:
            return decode_assignment(bytes(answer.assignment))
        except BadMetadata as error:
            text = f"an assignment that cannot be read: {error}"
            raise error_for(ErrorCode.invalid_request, text, group_id=self._config.group_id) from error

    async def _assignments(self, joined: Joined) -> list[dict[str, Any]]:
        assignor = self._assignors.get(joined.protocol)
        if assignor is None:
            text = f"the group chose {joined.protocol!r}"
            raise error_for(ErrorCode.inconsistent_group_protocol, text, group_id=self._config.group_id)
        roster = self._roster(joined)
        topics = {topic for member in roster for topic in member.subscription.topics}
        counts = await self._counts(topics)
        self.seen = counts
        shares = assignor.assign(roster, counts)
        log.info(
            "group_assigned",
            group=self._config.group_id,
            generation=joined.generation,
            assignor=assignor.name,
            members=len(roster),
            partitions=sum(counts.values()),
        )
        return [{"member_id": member, "assignment": encode_assignment(share)} for member, share in shares.items()]

    async def _take_over(self, joined: Answered) -> Answered:
        """Who leads again has not made the assignment that holds, so the coordinator is asked what was handed out: a
        topic may have got partitions since then. (Kafka's own client goes by what the topics have by now.)"""
        seen = {topic: 0 for member in self._roster(joined.body) for topic in member.subscription.topics}
        await self._counts(set(seen))
        key, versions = DESCRIBE
        values = {"groups": [self._config.group_id], "include_authorized_operations": False}
        answer, node = await self._coordinator.call(key, versions, values, timeout=self._beat_timeout)
        group = answer.groups[0]
        if group.error_code is ErrorCode.group_id_not_found:
            # It has become a KIP-848 group meanwhile: the coordinator shares the partitions.
            return joined
        if group.error_code is not ErrorCode.none:
            # As if the join had gone wrong: it is begun anew.
            if group.error_code in GONE:
                self._coordinator.lost(node)
            return replace(joined, code=group.error_code, broker=node)
        for member in group.members:
            for where in self._read(member.member_assignment, member.member_id):
                seen[where.topic] = seen.get(where.topic, 0) + 1
        self.seen = seen
        return joined

    def _read(self, assignment: bytes, member_id: str) -> Sequence[TopicPartition]:
        try:
            return decode_assignment(bytes(assignment))
        except BadMetadata as error:
            log.warning("group_member_unreadable", group=self._config.group_id, member=member_id, error=str(error))
            return ()

    def _roster(self, joined: Joined) -> list[RosterMember]:
        roster = []
        for member_id, instance_id, metadata in joined.roster:
            try:
                told = decode_subscription(bytes(metadata))
            except BadMetadata as error:
                # It gets nothing; the others must not suffer from it.
                log.warning("group_member_unreadable", group=self._config.group_id, member=member_id, error=str(error))
                continue
            roster.append(RosterMember(member_id, instance_id, told))
        return roster

    async def _counts(self, topics: set[str]) -> dict[str, int]:
        """How many partitions each topic has; a topic that is not there has none until it shows up."""
        network = self._network
        network.topics |= topics
        known = network.metadata.topics
        if any(topic not in known for topic in topics):
            try:
                await network.until(lambda: all(topic in known for topic in topics), TOPICS_WITHIN)
            except (KafkaTimeoutError, KafkaConnectionError):
                log.warning("group_topics_unknown", topics=sorted(topics - known.keys()))
        return self.counts(topics)

    def counts(self, topics: set[str]) -> dict[str, int]:
        """By what is known now."""
        return {topic: len(self._network.metadata.partitions_for(topic)) for topic in sorted(topics)}

    def outdated(self) -> bool:
        """Whether the assignment that was made here would be another one today."""
        return bool(self.seen) and self.counts(set(self.seen)) != self.seen

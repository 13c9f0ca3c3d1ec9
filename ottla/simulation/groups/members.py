"""Members of consumer groups that do what their protocol asks and nothing else: for measuring and for judging.

They speak to the coordinator over the network layer of the client, one request after the other. A caller drives them by
`tick`, and so knows at every moment which generation a member is in and what it has been given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from kio.schema.errors import ErrorCode

from ottla.client import TopicPartition
from ottla.client.group.protocol import (
    Subscription,
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
)
from ottla.wire import ConnectionLost, KafkaConnection, ProtocolError, RequestTimedOut

At = tuple[str, int]
Address = tuple[str, int]

FIND, JOIN, HEARTBEAT, LEAVE, SYNC, COMMIT, FETCH, BEAT, METADATA = 10, 11, 12, 13, 14, 8, 9, 68, 3

ELSEWHERE: Final = frozenset({ErrorCode.not_coordinator, ErrorCode.coordinator_not_available})
OUT: Final = frozenset(
    {
        ErrorCode.unknown_member_id,
        ErrorCode.illegal_generation,
        ErrorCode.fenced_instance_id,
        ErrorCode.fenced_member_epoch,
        ErrorCode.stale_member_epoch,
        ErrorCode.group_id_not_found,
        ErrorCode.unreleased_instance_id,
    }
)
"""The coordinator does not take it for a member of this generation any more."""


class Trouble(Exception):
    """No answer, or one that says to come again: nothing is known of what was asked."""


class Member:
    """What both protocols have in common. `assignment` is what it may read now, in `generation`; -1: none."""

    def __init__(
        self,
        servers: Sequence[Address],
        group: str,
        topic: str,
        name: str,
        *,
        session_s: float = 10.0,
        patience_s: float = 10.0,
    ) -> None:
        self.group = group
        self.topic = topic
        self.name = name
        self.member_id = ""
        self.generation = -1
        self.assignment: frozenset[At] = frozenset()
        self.rebalances = 0
        self.lives = 0
        self._servers = servers
        self._session_s = session_s
        self._patience_s = patience_s
        self._coordinator: KafkaConnection | None = None
        self._turn = sum(name.encode())

    @property
    def settled(self) -> bool:
        """Whether it has its part of the present generation, as far as it knows."""
        return self.generation >= 0

    async def tick(self) -> None:
        """One heartbeat, or one attempt to join. Raises Trouble."""
        raise NotImplementedError

    async def leave(self) -> None:
        """Raises Trouble."""
        raise NotImplementedError

    def out(self) -> None:
        """It has nothing any more, and is to join anew: another life."""
        self.generation, self.assignment = -1, frozenset()
        self.lives += 1

    @property
    def coordinator(self) -> str | None:
        """The host of who is asked at present."""
        return None if self._coordinator is None else self._coordinator.peer.partition(":")[0]

    # Offsets

    async def commit(self, offsets: Mapping[At, int]) -> ErrorCode:
        """The first error, or none. Raises Trouble."""
        rows = [{"partition_index": index, "committed_offset": offset} for (_, index), offset in offsets.items()]
        response = await self.call(
            COMMIT,
            9,
            {
                "group_id": self.group,
                "member_id": self.member_id,
                "generation_id_or_member_epoch": self.generation,
                "topics": [{"name": self.topic, "partitions": rows}],
            },
        )
        errors: list[ErrorCode] = [row.error_code for topic in response.topics for row in topic.partitions]
        return next((error for error in errors if error is not ErrorCode.none), ErrorCode.none)

    async def committed(self, wanted: Sequence[At]) -> dict[At, int]:
        """-1 where nothing is. Raises Trouble."""
        topics = [{"name": self.topic, "partition_indexes": [index for _, index in wanted]}]
        response = await self.call(FETCH, 9, {"groups": [{"group_id": self.group, "topics": topics}]})
        (found,) = response.groups
        if found.error_code is not ErrorCode.none:
            raise Trouble(found.error_code.name)
        rows = found.topics[0].partitions
        return {(self.topic, row.partition_index): row.committed_offset for row in rows}

    # The coordinator

    async def call(self, key: int, version: int, values: Mapping[str, Any], *, timeout: float | None = None) -> Any:
        """Ask the coordinator. Raises Trouble."""
        connection = self._coordinator or await self._find()
        try:
            response = await connection.call(key, version, values, timeout=timeout or self._patience_s)
        except (ConnectionLost, RequestTimedOut, ProtocolError) as error:
            self.forget_coordinator()
            raise Trouble(str(error)) from error
        if getattr(response, "error_code", None) in ELSEWHERE:
            self.forget_coordinator()
        return response

    async def _find(self) -> KafkaConnection:
        host, port = self._servers[self._turn % len(self._servers)]
        self._turn += 1
        try:
            asked = await KafkaConnection.open(host, port, client_id=self.name, timeout=self._patience_s)
            try:
                response = await asked.call(FIND, 4, {"key_type": 0, "coordinator_keys": [self.group]})
            finally:
                asked.abort()
            (found,) = response.coordinators
            if found.error_code is not ErrorCode.none:
                raise Trouble(found.error_code.name)
            self._coordinator = await KafkaConnection.open(
                found.host, found.port, client_id=self.name, timeout=self._patience_s
            )
        except (ConnectionLost, RequestTimedOut, ProtocolError) as error:
            raise Trouble(str(error)) from error
        return self._coordinator

    def forget_coordinator(self) -> None:
        connection, self._coordinator = self._coordinator, None
        if connection is not None:
            connection.abort()

    def heed(self, error: ErrorCode) -> bool:
        """Whether all is well; if it is out, it knows so after this. Raises Trouble for what passes."""
        if error is ErrorCode.none:
            return True
        if error in OUT:
            if error is not ErrorCode.illegal_generation:
                self.member_id = ""
            self.out()
            return False
        if error in ELSEWHERE:
            self.forget_coordinator()
        raise Trouble(error.name)


class ClassicMember(Member):
    """Eager: it gives everything up to join. As a leader it deals the partitions out in turn."""

    def __init__(self, *args: Any, partitions: int, instance: str | None = None, **more: Any) -> None:
        super().__init__(*args, **more)
        self._partitions = partitions
        self._instance = instance
        self._rebalance_s = self._session_s

    async def tick(self) -> None:
        if not self.settled:
            await self._join()
            return
        values = {"group_id": self.group, "member_id": self.member_id, "generation_id": self.generation}
        response = await self.call(HEARTBEAT, 4, {**values, "group_instance_id": self._instance})
        if response.error_code is ErrorCode.rebalance_in_progress:
            self.out()
        else:
            self.heed(response.error_code)

    async def _join(self) -> None:
        self.rebalances += 1
        response = await self._ask_to_join()
        if response.error_code is ErrorCode.member_id_required:
            self.member_id = response.member_id
            response = await self._ask_to_join()
        if response.error_code is ErrorCode.rebalance_in_progress or not self.heed(response.error_code):
            return
        self.member_id = response.member_id
        synced = await self.call(
            SYNC,
            5,
            {
                "group_id": self.group,
                "generation_id": response.generation_id,
                "member_id": self.member_id,
                "group_instance_id": self._instance,
                "protocol_type": "consumer",
                "protocol_name": response.protocol_name,
                "assignments": self._deal(response.members) if response.leader == self.member_id else (),
            },
            timeout=self._rebalance_s + self._patience_s,
        )
        if synced.error_code is not ErrorCode.rebalance_in_progress and self.heed(synced.error_code):
            self.generation = response.generation_id
            self.assignment = frozenset((at.topic, at.partition) for at in decode_assignment(synced.assignment))

    async def _ask_to_join(self) -> Any:
        return await self.call(
            JOIN,
            9,
            {
                "group_id": self.group,
                "session_timeout": round(self._session_s * 1000),
                "rebalance_timeout": round(self._rebalance_s * 1000),
                "member_id": self.member_id,
                "group_instance_id": self._instance,
                "protocol_type": "consumer",
                "protocols": [{"name": "range", "metadata": encode_subscription(Subscription((self.topic,)))}],
            },
            timeout=self._rebalance_s + self._patience_s,
        )

    def _deal(self, members: Sequence[Any]) -> list[dict[str, object]]:
        ids = sorted(row.member_id for row in members if self.topic in decode_subscription(row.metadata).topics)
        plan = {
            member: [TopicPartition(self.topic, index) for index in range(place, self._partitions, len(ids))]
            for place, member in enumerate(ids)
        }
        return [{"member_id": member, "assignment": encode_assignment(given)} for member, given in plan.items()]

    async def leave(self) -> None:
        if self.member_id:
            members = [{"member_id": self.member_id, "group_instance_id": self._instance}]
            await self.call(LEAVE, 5, {"group_id": self.group, "members": members})
        self.out()


class ConsumerMember(Member):
    """Of KIP-848: it gives up at once what is not in its assignment, and says so with its next heartbeat."""

    def __init__(self, *args: Any, assignor: str | None = None, **more: Any) -> None:
        super().__init__(*args, **more)
        self._assignor = assignor
        self._all_said = False
        self._changed = False
        self._topic_id: UUID | None = None
        # Members of this protocol name themselves.
        self.member_id = self.name

    def out(self) -> None:
        super().out()
        self.member_id, self._all_said = self.name, False

    async def tick(self) -> None:
        first = self.generation < 0
        if first:
            self.rebalances += 1
        full = first or not self._all_said
        owned = [{"topic_id": self._topic_id, "partitions": sorted(index for _, index in self.assignment)}]
        values = {
            "group_id": self.group,
            "member_id": self.member_id,
            "member_epoch": 0 if first else self.generation,
            "rebalance_timeout": round(self._session_s * 1000) if full else -1,
            "subscribed_topic_names": [self.topic] if full else None,
            "server_assignor": self._assignor if full else None,
            "topic_partitions": ([] if first or not self.assignment else owned) if full or self._changed else None,
        }
        self._all_said = False  # until it is known that it was heard
        response = await self.call(BEAT, 1, values)
        if not self.heed(response.error_code):
            return
        self._all_said, self._changed = True, False
        if response.assignment is not None:
            rows = response.assignment.topic_partitions
            given = frozenset((self.topic, index) for row in rows for index in row.partitions)
            for row in rows:
                self._topic_id = row.topic_id
            self._changed = bool(self.assignment - given)
            self.assignment = given
        self.generation = response.member_epoch

    async def leave(self) -> None:
        if self.generation >= 0:
            values = {"group_id": self.group, "member_id": self.member_id, "member_epoch": -1}
            await self.call(BEAT, 1, {**values, "rebalance_timeout": -1})
        self.out()

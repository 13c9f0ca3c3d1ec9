"""Reading what is not there, from where it is not, as somebody who one is not."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest
from kio.schema.errors import ErrorCode

from ottla.broker.replication import MECHANISM, ClientExchange, ClusterCredentials
from ottla.controller import CreateTopics, Heartbeat, ListenerModel, NewTopic, RegisterBroker
from tests.badinput.node import CLUSTER, SECRET, Running, batch

OTHER = 2


async def foreign_partition(node: Running) -> None:
    """Topic `elsewhere`: partition 0 is led by broker 2, which is only made up; partition 1 is none of ours at all."""
    assert node.node.quorum is not None and node.node.quorum.active is not None
    controller = node.node.quorum.active
    listeners = (ListenerModel(name="PLAINTEXT", host="other.example", port=9999),)
    made = await controller.handle(
        RegisterBroker(node_id=OTHER, incarnation="x", cluster_id=CLUSTER, listeners=listeners), OTHER
    )
    beat = Heartbeat(node_id=OTHER, epoch=made.epoch, applied_offset=made.offset)  # type: ignore[attr-defined]
    assert (await controller.handle(beat, OTHER)).error == 0
    created = await controller.handle(
        CreateTopics(topics=(NewTopic(name="elsewhere", assignments={0: (OTHER,), 1: (OTHER,)}),)), 1
    )
    assert created.error == 0 and created.topics[0].error == 0  # type: ignore[attr-defined]


async def test_whom_to_ask_is_told_with_the_error(node: Running) -> None:
    await foreign_partition(node)
    async with node.unharmed():
        produced = await node.witness.call(
            0,
            12,
            {
                "acks": -1,
                "timeout": 100,
                "topic_data": [{"name": "elsewhere", "partition_data": [{"index": 0, "records": batch()}]}],
            },
        )
        row = produced.responses[0].partition_responses[0]
        assert row.error_code is ErrorCode.not_leader_or_follower
        assert (row.current_leader.leader_id, row.current_leader.leader_epoch) == (OTHER, 0)
        assert [(e.node_id, e.host, e.port) for e in produced.node_endpoints] == [(OTHER, "other.example", 9999)]
        fetched = await node.witness.call(
            1, 17, node.fetch_values({"elsewhere": [{"partition": 0, "fetch_offset": 0}]})
        )
        assert fetched.responses[0].partitions[0].error_code is ErrorCode.not_leader_or_follower
        assert fetched.responses[0].partitions[0].current_leader.leader_id == OTHER
        assert [(e.node_id, e.host) for e in fetched.node_endpoints] == [(OTHER, "other.example")]
        offsets = {
            "replica_id": -1,
            "topics": [{"name": "elsewhere", "partitions": [{"partition_index": 0, "timestamp": -1}]}],
        }
        listed = await node.witness.call(2, 7, offsets)
        assert listed.topics[0].partitions[0].error_code is ErrorCode.not_leader_or_follower


async def test_unknown_topics_and_ids(node: Running) -> None:
    async with node.unharmed():
        for version in (4, 12):
            answer = await node.fetch(topic="nosuch", version=version)
            assert answer.error_code is ErrorCode.unknown_topic_or_partition
        for index in (1, -1, 2**31 - 1):
            assert (await node.fetch(row={"partition": index})).error_code is ErrorCode.unknown_topic_or_partition
        for topic_id in (UUID(int=0), UUID(int=12345)):
            values = node.fetch_values({"target": [{"partition": 0, "fetch_offset": 0}]})
            values["topics"][0]["topic_id"] = topic_id
            found = await node.witness.call(1, 17, values)
            assert found.responses[0].partitions[0].error_code is ErrorCode.unknown_topic_id


@pytest.mark.parametrize("offset", [1, -1, -2, 2**63 - 1, -(2**63)])
async def test_offsets_out_of_range(node: Running, offset: int) -> None:
    async with node.unharmed():
        assert (await node.fetch(offset)).error_code is ErrorCode.offset_out_of_range


async def test_leader_epochs_of_the_past_and_the_future(node: Running) -> None:
    async with node.unharmed():
        future = await node.fetch(row={"current_leader_epoch": 99})
        assert future.error_code is ErrorCode.unknown_leader_epoch
        topics = [{"topic": "target", "partitions": [{"partition": 0, "current_leader_epoch": 99, "leader_epoch": 0}]}]
        answer = await node.witness.call(23, 4, {"replica_id": -1, "topics": topics})
        assert answer.topics[0].partitions[0].error_code is ErrorCode.unknown_leader_epoch
        fetched_later = await node.fetch(row={"last_fetched_epoch": 99})
        assert fetched_later.error_code is ErrorCode.unknown_leader_epoch
        assert fetched_later.records in (None, b"")
        role = node.replicas.partition("target", 0)
        role.role.leader_epoch += 1  # as after an election; the client still has the epoch before it
        past = await node.fetch(row={"current_leader_epoch": 0})
        assert past.error_code is ErrorCode.fenced_leader_epoch
        role.role.leader_epoch -= 1


@pytest.mark.parametrize(
    "changes",
    [
        {"max_wait": -1},
        {"max_wait": 2**31 - 1, "min_bytes": -1},
        {"max_bytes": -1},
        {"max_bytes": 0},
        {"isolation_level": 77},
        {"row": {"partition_max_bytes": -1}},
        {"row": {"partition_max_bytes": -(2**31)}},
        {"row": {"log_start_offset": -5}},
    ],
)
async def test_sizes_and_times_beyond_reason(node: Running, changes: dict[str, Any]) -> None:
    """An answer without waiting for ever: the first batch, or nothing."""
    assert (await node.produce(batch())).error_code is ErrorCode.none
    async with node.unharmed():
        answer = await node.fetch(**changes)
        assert answer.error_code is ErrorCode.none


class TestSessions:
    @staticmethod
    async def begin(node: Running) -> int:
        values = node.fetch_values({"target": [{"partition": 0, "fetch_offset": 0}]}, session_epoch=0)
        session: int = (await node.witness.call(1, 17, values)).session_id
        assert session > 0
        return session

    @pytest.mark.parametrize("session_id", [12345, -5, 2**31 - 1])
    async def test_a_session_that_nobody_has(self, node: Running, session_id: int) -> None:
        async with node.unharmed():
            answer = await node.witness.call(1, 17, node.fetch_values({}, session_id=session_id, session_epoch=5))
            assert answer.error_code is ErrorCode.fetch_session_id_not_found

    @pytest.mark.parametrize("epoch", [2, 77, 2**31 - 1, -2])
    async def test_a_wrong_epoch(self, node: Running, epoch: int) -> None:
        session = await self.begin(node)
        async with node.unharmed():
            answer = await node.witness.call(1, 17, node.fetch_values({}, session_id=session, session_epoch=epoch))
            assert answer.error_code is ErrorCode.invalid_fetch_session_epoch
            answer = await node.witness.call(1, 17, node.fetch_values({}, session_id=session, session_epoch=1))
            assert answer.error_code is ErrorCode.none

    async def test_names_in_a_session_of_ids(self, node: Running) -> None:
        session = await self.begin(node)
        async with node.unharmed():
            values = node.fetch_values({}, 12, session_id=session, session_epoch=1)
            assert (await node.witness.call(1, 12, values)).error_code is ErrorCode.fetch_session_topic_id_error

    async def test_more_sessions_than_there_is_room_for(self, node: Running) -> None:
        sessions = node.broker.context.sessions
        async with node.unharmed():
            peers = [await node.client() for _ in range(4)]
            values = node.fetch_values({"target": [{"partition": 0, "fetch_offset": 0}]}, session_epoch=0)
            for round_trip in range(300):
                await asyncio.gather(*(peer.call(1, 17, values) for peer in peers))
                assert len(sessions) <= 1000, round_trip
            assert len(sessions) == 1000
            refused = await peers[0].call(1, 17, values)
            assert (refused.error_code, refused.session_id) == (ErrorCode.none, 0)


class TestForgery:
    """CVE-2018-1288: whoever could fetch in a replica's name made the leader believe that it had the data."""

    @staticmethod
    def as_replica(node: Running, replica: int, version: int) -> Any:
        values = node.fetch_values({"target": [{"partition": 0, "fetch_offset": 0}]}, version)
        return {**values, "replica_id": replica, "replica_state": {"replica_id": replica, "replica_epoch": 2**40}}

    @pytest.mark.parametrize("replica", [0, 1, 2, 2**31 - 1])
    @pytest.mark.parametrize("version", [4, 11, 12, 17])
    async def test_a_fetch_in_a_replicas_name(self, node: Running, replica: int, version: int) -> None:
        async with node.unharmed():
            answer = await node.witness.call(1, version, self.as_replica(node, replica, version))
            refused = ErrorCode.cluster_authorization_failed
            if version < 7:
                assert answer.responses[0].partitions[0].error_code is refused
                assert not answer.responses[0].partitions[0].records
            else:
                assert (answer.error_code, answer.responses) == (refused, ())

    async def test_offsets_in_a_replicas_name(self, node: Running) -> None:
        rows = [{"partition_index": 0, "timestamp": -1}]
        async with node.unharmed():
            values = {"replica_id": 1, "topics": [{"name": "target", "partitions": rows}]}
            answer = await node.witness.call(2, 7, values)
            assert answer.topics[0].partitions[0].error_code is ErrorCode.cluster_authorization_failed

    @staticmethod
    async def exchange(node: Running, own: ClusterCredentials, peer: int = 1) -> tuple[Any, Any]:
        client = await node.client()
        assert (await client.call(17, 1, {"mechanism": MECHANISM})).error_code is ErrorCode.none
        exchange = ClientExchange(own, peer, b"n" * 32)
        challenge = await client.call(36, 2, {"auth_bytes": exchange.first()})
        if challenge.error_code is not ErrorCode.none:
            return client, challenge
        return client, await client.call(36, 2, {"auth_bytes": exchange.second(challenge.auth_bytes)})

    @pytest.mark.parametrize(
        ("own", "peer"),
        [
            (ClusterCredentials(CLUSTER, 2, b"a guess at the secret"), 1),
            (ClusterCredentials("another", 2, SECRET), 1),
            (ClusterCredentials(CLUSTER, 2, SECRET), 3),
            (ClusterCredentials(CLUSTER, -2, SECRET), 1),
        ],
    )
    async def test_a_forged_exchange(self, node: Running, own: ClusterCredentials, peer: int) -> None:
        async with node.unharmed():
            client, answer = await self.exchange(node, own, peer)
            assert answer.error_code is ErrorCode.sasl_authentication_failed
            assert [line["event"] for line in node.lines].count("broker_authentication_failed") == 1
            again = await client.call(1, 17, self.as_replica(node, 2, 17))
            assert again.error_code is ErrorCode.cluster_authorization_failed

    async def test_an_exchange_cannot_be_replayed(self, node: Running) -> None:
        own = ClusterCredentials(CLUSTER, 2, SECRET)
        recorded = ClientExchange(own, 1, b"n" * 32)
        async with node.unharmed():
            first = await node.client()
            await first.call(17, 1, {"mechanism": MECHANISM})
            challenge = await first.call(36, 2, {"auth_bytes": recorded.first()})
            proof = recorded.second(challenge.auth_bytes)
            assert (await first.call(36, 2, {"auth_bytes": proof})).error_code is ErrorCode.none
            second = await node.client()
            await second.call(17, 1, {"mechanism": MECHANISM})
            await second.call(36, 2, {"auth_bytes": recorded.first()})
            replayed = await second.call(36, 2, {"auth_bytes": proof})
            assert replayed.error_code is ErrorCode.sasl_authentication_failed

    async def test_one_node_may_not_fetch_as_another(self, node: Running) -> None:
        async with node.unharmed():
            client, answer = await self.exchange(node, ClusterCredentials(CLUSTER, 2, SECRET))
            assert answer.error_code is ErrorCode.none
            refused = await client.call(1, 17, self.as_replica(node, 3, 17))
            assert refused.error_code is ErrorCode.cluster_authorization_failed
            # A broker, but no replica of this partition: it counts for nothing there.
            stranger = await client.call(1, 17, self.as_replica(node, 2, 17))
            assert stranger.responses[0].partitions[0].error_code is ErrorCode.not_leader_or_follower

    @pytest.mark.parametrize("token", [b"", b"\0", b"\xff" * 1024, b"x" * 5000, b"\0\1" * 500])
    async def test_tokens_that_mean_nothing(self, node: Running, token: bytes) -> None:
        async with node.unharmed():
            client = await node.client()
            early = await client.call(36, 2, {"auth_bytes": token})
            assert early.error_code is ErrorCode.illegal_sasl_state
            await client.call(17, 1, {"mechanism": MECHANISM})
            assert (await client.call(36, 2, {"auth_bytes": token})).error_code is ErrorCode.sasl_authentication_failed
            assert (await client.call(17, 1, {"mechanism": "PLAIN"})).error_code is ErrorCode.unsupported_sasl_mechanism

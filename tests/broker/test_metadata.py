"""Metadata, DescribeCluster and DescribeTopicPartitions: what a client of one listener sees of the cluster."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from ottla.controller import ControllerUnavailable, CreateTopics, CreateTopicsResponse, TopicResult
from ottla.wire import Connection
from tests.broker.world import World, broker_image, topic_id


async def metadata(world: World, version: int = 13, **values: Any) -> Any:
    return await world.call(3, version, values)


class TestBrokers:
    async def test_fenced_brokers_are_not_shown(self, world: World) -> None:
        world.update(brokers={1: broker_image(1), 2: broker_image(2, fenced=True)})
        response = await metadata(world)
        assert [(one.node_id, one.host, one.port, one.rack) for one in response.brokers] == [
            (1, "plaintext-1", 9001, "r")
        ]
        cluster = await world.call(60, 2, {"endpoint_type": 1})
        assert [one.broker_id for one in cluster.brokers] == [1]
        cluster = await world.call(60, 2, {"endpoint_type": 1, "include_fenced_brokers": True})
        assert [(one.broker_id, one.is_fenced) for one in cluster.brokers] == [(1, False), (2, True)]

    async def test_the_listener_that_the_client_came_by_decides_the_addresses(self, world: World) -> None:
        both = ("PLAINTEXT", "DOCKER")
        world.update(brokers={1: broker_image(1, listeners=both), 2: broker_image(2, listeners=both)})
        response = await world.call(3, 9, {}, connection=Connection("DOCKER", "peer"))
        assert [one.host for one in response.brokers] == ["docker-1", "docker-2"]

    @pytest.mark.parametrize(("active", "shown"), [(2, 2), (-1, 1), (9, 1)])
    async def test_the_controller_is_the_active_one_or_else_any_that_can_be_reached(
        self, world: World, active: int, shown: int
    ) -> None:
        world.quorum = replace(world.quorum, leader_id=active)
        assert (await metadata(world)).controller_id == shown
        assert (await world.call(60, 0, {})).controller_id == shown

    async def test_the_controllers_are_not_described_here(self, world: World) -> None:
        assert (await world.call(60, 1, {"endpoint_type": 2})).error_code is ErrorCode.mismatched_endpoint_type
        assert (await world.call(60, 1, {"endpoint_type": 7})).error_code is ErrorCode.unsupported_endpoint_type

    async def test_operations_are_told_when_asked_for(self, world: World) -> None:
        world.add_topic("t")
        response = await metadata(world, 8, topics=[{"name": "t"}], include_topic_authorized_operations=True)
        assert response.topics[0].topic_authorized_operations == 3576
        assert response.cluster_authorized_operations == -(2**31)


class TestTopics:
    async def test_null_means_all_and_an_empty_list_none_except_in_v0(self, world: World) -> None:
        world.add_topic("a")
        world.add_topic("b")
        assert len((await metadata(world, 1, topics=None)).topics) == 2
        assert len((await metadata(world, 1, topics=[])).topics) == 0
        assert len((await metadata(world, 0, topics=[])).topics) == 2

    async def test_leaders_epochs_and_offline_replicas(self, world: World) -> None:
        world.add_topic("t", replicas=(1, 2, 3), isr=(1, 2), leader_epoch=5)
        world.add_topic("gone", replicas=(3, 2), leader=3)
        world.update(brokers={1: broker_image(1), 2: broker_image(2), 3: broker_image(3, fenced=True)})
        healthy, headless = (await metadata(world, topics=[{"name": "t"}, {"name": "gone"}])).topics
        row = healthy.partitions[0]
        assert (row.error_code, row.leader_id, row.leader_epoch) == (ErrorCode.none, 1, 5)
        assert (row.replica_nodes, row.isr_nodes, row.offline_replicas) == ((1, 2, 3), (1, 2), (3,))
        row = headless.partitions[0]
        assert (row.error_code, row.leader_id) == (ErrorCode.leader_not_available, -1)

    async def test_by_id(self, world: World) -> None:
        """KIP-516."""
        world.add_topic("t")
        response = await metadata(world, 12, topics=[{"topic_id": topic_id("t")}, {"topic_id": topic_id("?")}])
        known, unknown = response.topics
        assert (known.error_code, known.name, known.topic_id) == (ErrorCode.none, "t", topic_id("t"))
        assert (unknown.error_code, unknown.name) == (ErrorCode.unknown_topic_id, None)
        (refused,) = (await metadata(world, 11, topics=[{"topic_id": topic_id("t")}])).topics
        assert refused.error_code is ErrorCode.invalid_request


class TestAutoCreation:
    @pytest.fixture(autouse=True)
    def controller(self, world: World) -> None:
        def created(request: CreateTopics) -> CreateTopicsResponse:
            return CreateTopicsResponse(topics=tuple(TopicResult(name=one.name) for one in request.topics))

        world.controller.answers[CreateTopics] = created

    async def test_unknown_topics_are_created_once(self, world: World) -> None:
        for _ in range(3):
            response = await metadata(world, 4, topics=[{"name": "new"}], allow_auto_topic_creation=True)
            assert response.topics[0].error_code is ErrorCode.unknown_topic_or_partition
        await asyncio.sleep(0)
        (request,) = world.controller.calls
        assert [(one.name, one.partitions, one.replication_factor) for one in request.topics] == [("new", -1, -1)]

    @pytest.mark.parametrize(("version", "allowed", "enabled"), [(4, False, True), (4, True, False), (13, False, True)])
    async def test_not_unless_both_sides_want_it(
        self, world: World, version: int, allowed: bool, enabled: bool
    ) -> None:
        world.config.auto_create_topics_enable = enabled
        await metadata(world, version, topics=[{"name": "new"}], allow_auto_topic_creation=allowed)
        await asyncio.sleep(0)
        assert world.controller.calls == []

    async def test_illegal_names_are_refused(self, world: World) -> None:
        names = ["a b", ".", "..", "x" * 250, "", "ü"]
        response = await metadata(world, 9, topics=[{"name": name} for name in names])
        assert {row.error_code for row in response.topics} == {ErrorCode.invalid_topic_exception}
        assert world.controller.calls == []

    async def test_a_failure_is_forgotten_so_that_the_next_request_tries_again(self, world: World) -> None:
        def fail(request: CreateTopics) -> CreateTopicsResponse:
            raise ControllerUnavailable("nobody leads")

        world.controller.answers[CreateTopics] = fail
        for _ in range(2):
            await metadata(world, topics=[{"name": "new"}])
            for _ in range(4):
                await asyncio.sleep(0)
        assert len(world.controller.calls) == 2
        assert world.broker.context.creating_topics == set()


class TestDescribeTopicPartitions:
    """KIP-966."""

    async def pages(self, world: World, limit: int, topics: list[str]) -> list[list[tuple[str, int]]]:
        pages: list[list[tuple[str, int]]] = []
        cursor: dict[str, Any] | None = None
        while len(pages) < 50:
            values = {"topics": [{"name": one} for one in topics], "response_partition_limit": limit, "cursor": cursor}
            response = await world.call(75, 0, values)
            pages.append([(t.name, row.partition_index) for t in response.topics for row in t.partitions])
            if response.next_cursor is None:
                return pages
            cursor = {
                "topic_name": response.next_cursor.topic_name,
                "partition_index": response.next_cursor.partition_index,
            }
        raise AssertionError("the cursor does not come to an end")

    @pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 100])
    async def test_pages_together_are_the_whole(self, world: World, limit: int) -> None:
        for name, count in (("b", 3), ("a", 4), ("c", 1)):
            world.add_topic(name, count)
        whole = [("a", 0), ("a", 1), ("a", 2), ("a", 3), ("b", 0), ("b", 1), ("b", 2), ("c", 0)]
        for topics in ([], ["c", "b", "a", "a"]):
            pages = await self.pages(world, limit, topics)
            assert [one for page in pages for one in page] == whole
            assert all(len(page) <= limit for page in pages)

    async def test_unknown_and_illegal_names(self, world: World) -> None:
        response = await world.call(75, 0, {"topics": [{"name": "x"}, {"name": "a b"}], "response_partition_limit": 5})
        assert [(row.name, row.error_code) for row in response.topics] == [
            ("a b", ErrorCode.invalid_topic_exception),
            ("x", ErrorCode.unknown_topic_or_partition),
        ]

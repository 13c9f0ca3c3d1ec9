"""What the leader of a classic group asks the coordinator when it is back (KIP-814)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from ottla.client import TopicPartition
from ottla.client.errors import KafkaConnectionError
from ottla.client.group.classic_requests import JOIN
from ottla.client.group.classic_wire import ClassicWire
from ottla.client.group.model import MemberConfig, Send
from ottla.client.group.protocol import Subscription, encode_assignment, encode_subscription

DESCRIBE = 15
TOPICS = {"orders": 3, "refunds": 1, "another": 5}


class Coordinator:
    """`described` is its answer to DescribeGroups, or what that raises."""

    def __init__(self, described: Any, *, leader: str = "me", skip: bool = True) -> None:
        self.gone: list[int] = []
        self.asked: list[int] = []
        self._described = described
        subscriptions = {"me": ("orders",), "other": ("orders", "refunds")}
        self._joined = SimpleNamespace(
            error_code=ErrorCode.none,
            member_id="me",
            generation_id=4,
            protocol_name="range",
            leader=leader,
            skip_assignment=skip,
            members=[member(name, topics) for name, topics in subscriptions.items()],
        )

    def lost(self, node: int) -> None:
        self.gone.append(node)

    async def call(self, api_key: int, *_: Any, **_more: Any) -> tuple[Any, int]:
        self.asked.append(api_key)
        if api_key != DESCRIBE:
            return self._joined, 7
        if isinstance(self._described, Exception):
            raise self._described
        return self._described, 7


def member(name: str, topics: tuple[str, ...]) -> Any:
    metadata = encode_subscription(Subscription(topics))
    return SimpleNamespace(member_id=name, group_instance_id=None, metadata=metadata)


def described(*assignments: bytes, code: ErrorCode = ErrorCode.none) -> Any:
    members = [SimpleNamespace(member_id=str(at), member_assignment=each) for at, each in enumerate(assignments)]
    return SimpleNamespace(groups=[SimpleNamespace(error_code=code, members=members)])


def wire_to(coordinator: Coordinator) -> ClassicWire:
    metadata = SimpleNamespace(topics=TOPICS, partitions_for=lambda topic: range(TOPICS[topic]))
    options = SimpleNamespace(request_timeout=30.0)
    network: Any = SimpleNamespace(topics=set(), metadata=metadata, options=options)
    return ClassicWire(network, coordinator, MemberConfig("g", "i"), ())  # type: ignore[arg-type]


def has(*partitions: tuple[str, int]) -> bytes:
    return encode_assignment([TopicPartition(*each) for each in partitions])


@pytest.mark.parametrize(
    ("assignments", "outdated"),
    [
        ([has(("orders", 0), ("orders", 2)), has(("orders", 1), ("refunds", 0))], False),
        ([has(("orders", 0), ("orders", 1)), has(("refunds", 0))], True),
        ([has(("orders", 0), ("orders", 1), ("orders", 2)), b""], True),
        ([has(("orders", 0), ("orders", 1), ("orders", 2)), b"\0"], True),
    ],
    ids=["all", "one was added", "nobody had the second topic", "unreadable"],
)
async def test_it_compares_what_was_handed_out_with_what_there_is(assignments: list[bytes], outdated: bool) -> None:
    wire = wire_to(Coordinator(described(*assignments)))
    assert (await wire.ask(Send(JOIN, {}))).code is ErrorCode.none
    assert wire.outdated() is outdated


@pytest.mark.parametrize("what", [{"leader": "other"}, {"skip": False}])
async def test_who_does_not_lead_or_assigns_itself_does_not_ask(what: dict[str, Any]) -> None:
    coordinator = Coordinator(described(), **what)
    await wire_to(coordinator).ask(Send(JOIN, {}))
    assert DESCRIBE not in coordinator.asked


@pytest.mark.parametrize(
    ("code", "gone"), [(ErrorCode.not_coordinator, [7]), (ErrorCode.coordinator_load_in_progress, [])]
)
async def test_without_an_answer_the_join_counts_for_nothing(code: ErrorCode, gone: list[int]) -> None:
    """The member joins once more, and asks again."""
    coordinator = Coordinator(described(code=code))
    wire = wire_to(coordinator)
    assert (await wire.ask(Send(JOIN, {}))).code is code
    assert (coordinator.gone, wire.outdated()) == (gone, False)


async def test_a_group_that_is_none_of_the_classic_protocol_any_more_has_no_leader() -> None:
    wire = wire_to(Coordinator(described(code=ErrorCode.group_id_not_found)))
    assert (await wire.ask(Send(JOIN, {}))).code is ErrorCode.none
    assert not wire.outdated()


async def test_the_connection_may_break_meanwhile() -> None:
    with pytest.raises(KafkaConnectionError):
        await wire_to(Coordinator(KafkaConnectionError("reset"))).ask(Send(JOIN, {}))

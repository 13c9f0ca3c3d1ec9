"""A broker that registers, and what it makes of refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
from kio.schema.errors import ErrorCode

from ottla.controller import (
    ControllerUnavailable,
    Heartbeat,
    HeartbeatResponse,
    MetadataView,
    PeerRejected,
    RegisterBroker,
    RegisterBrokerResponse,
)
from ottla.node import registration
from ottla.node.errors import NodeError
from ottla.node.quorum import Quorum
from ottla.node.registration import Advertisement, Registration

Answer = Callable[[Any], Any]


class FakeQuorum:
    """A controller that answers with what `answer` returns or raises, and metadata that are never behind."""

    can_decide = True

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.view = MetadataView("c")
        self.asked: list[Any] = []
        self.controller = self

    async def call(self, request: Any, *, timeout: float) -> Any:
        self.asked.append(request)
        await asyncio.sleep(0)
        return self.answer(request)


async def noted(_epoch: int) -> None:
    pass


def make(answer: Answer) -> tuple[FakeQuorum, Registration]:
    quorum = FakeQuorum(answer)
    about = Advertisement(node_id=1, incarnation="life", cluster_id="c", listeners=(), rack=None, http="")
    return quorum, Registration(
        cast(Quorum, quorum), about, heartbeat_interval=0.001, session_timeout=0.1, on_registered=noted
    )


def in_use() -> Exception:
    """As ControllerClient reports a refusal that has lasted for the whole call."""
    error = ControllerUnavailable("no active controller answered")
    error.__cause__ = PeerRejected(423, "node 1 is already running as another process")
    return error


async def test_a_cluster_that_refuses_the_node_ends_it_with_one_line() -> None:
    def answer(request: Any) -> Any:
        raise PeerRejected(401, "the signature does not match this cluster's secret")

    _, joining = make(answer)
    with pytest.raises(NodeError, match=r"^the cluster refuses this node: the signature does not match"):
        await joining.register(clean_shutdown=True, previous_epoch=-1)


@pytest.mark.parametrize("by", ["peer", "controller"])
async def test_a_former_life_is_waited_for_and_another_process_is_not(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "FORMER_LIFE_S", 0.0)
    monkeypatch.setattr(registration, "RETRY_S", 0.001)
    refusals = 5

    def answer(request: Any) -> Any:
        nonlocal refusals
        refusals -= 1
        if refusals < 0:
            return RegisterBrokerResponse(epoch=7)
        if by == "peer":
            raise in_use()
        code = ErrorCode.duplicate_broker_registration.value
        return RegisterBrokerResponse(error=code, message="node 1 is already running, and is alive")

    _, joining = make(answer)
    await joining.register(clean_shutdown=True, previous_epoch=-1)
    assert joining.epoch == 7
    refusals = 1 << 30
    with pytest.raises(NodeError, match="refuses this node: node 1 is already running"):
        await joining.register(clean_shutdown=True, previous_epoch=-1)


async def test_a_heartbeat_that_is_refused_does_not_end_a_registered_node() -> None:
    beats = 0

    def answer(request: Any) -> Any:
        nonlocal beats
        if isinstance(request, RegisterBroker):
            return RegisterBrokerResponse(epoch=7)
        assert isinstance(request, Heartbeat)
        beats += 1
        if beats == 2:
            raise PeerRejected(401, "a stranger has taken the address of a node that is down")
        if beats == 4:
            done.set()
        return HeartbeatResponse(fenced=False)

    done = asyncio.Event()
    _, joined = make(answer)
    await joined.register(clean_shutdown=True, previous_epoch=-1)
    beating = await joined.unfence()
    async with asyncio.timeout(10):
        await done.wait()
    assert not beating.done()
    beating.cancel()

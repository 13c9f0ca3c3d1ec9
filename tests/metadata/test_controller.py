"""ActiveController: reigns, sessions, evidence, and answers that wait for the commit."""

import asyncio
import functools
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

from kio.schema.errors import ErrorCode

from ottla.controller import ActiveController, ControllerSettings, MetadataView, RaftStatus, Role
from ottla.controller.metadata import Policy
from ottla.controller.rpc import (
    AllocateProducerIds,
    AlterPartition,
    CreateTopics,
    Heartbeat,
    HeartbeatResponse,
    IsrMember,
    NewTopic,
    PartitionIsr,
    RpcRequest,
    RpcResponse,
)
from tests.metadata.cluster import CLUSTER_ID, FakeRaft, check_invariants, registration, told_by

R = TypeVar("R", bound=RpcResponse)

SESSION_S = 9.0


class ClockedLoop(asyncio.SelectorEventLoop):
    """Time stands still until it is moved by `advance`; timers that have become due run then."""

    now = 0.0

    def time(self) -> float:
        return self.now


class Node:
    """One controller node with a view and a Raft that obeys."""

    def __init__(self, *, rebalance: float | None = None) -> None:
        self.view = MetadataView(CLUSTER_ID)
        self.raft = FakeRaft(self.view.on_apply)
        policy = Policy(session_timeout_ms=int(SESSION_S * 1000))
        settings = ControllerSettings(policy=policy, rebalance_interval_s=rebalance)
        self.controller = ActiveController(1, self.raft, self.view, settings, random.Random(0))
        self.term = 0

    def lead(self) -> None:
        self.term += 1
        self.raft.leader_id = 1
        self.controller.on_status(RaftStatus(Role.LEADER, self.term, 1, True))

    def follow(self, leader: int | None = 2) -> None:
        self.raft.lose(leader)
        self.term += 1
        self.controller.on_status(RaftStatus(Role.FOLLOWER, self.term, leader, False))

    async def ask(self, request: RpcRequest[R], caller: int | None = None) -> R:
        sender = getattr(request, "node_id", 1) if caller is None else caller
        return cast(R, await self.controller.handle(request, sender))

    def beat(self, broker: int, **changes: Any) -> "Coroutine[Any, Any, HeartbeatResponse]":
        epoch = changes.pop("epoch", None) or self.view.image.brokers[broker].epoch
        image = self.view.image
        logs = told_by(image, broker)
        return self.ask(Heartbeat(node_id=broker, epoch=epoch, applied_offset=image.offset, logs=logs, **changes))

    async def up(self, *brokers: int) -> None:
        for broker in brokers:
            assert not (await self.ask(registration(broker))).error
            assert not (await self.beat(broker)).fenced

    async def create(self, name: str, *replicas: int) -> None:
        answer = await self.ask(CreateTopics(topics=(NewTopic(name=name, assignments={0: replicas}),)))
        assert not answer.topics[0].error

    def leader(self, name: str) -> int:
        return self.view.image.topics[name].partitions[0].leader

    def fenced(self) -> set[int]:
        return {broker.id for broker in self.view.image.brokers.values() if broker.fenced}


async def advance(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ClockedLoop)
    loop.now += seconds
    for _ in range(5):
        await asyncio.sleep(0)


def clocked(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Runs a test in time that stands still."""

    @functools.wraps(test)
    def run() -> None:
        with asyncio.Runner(loop_factory=ClockedLoop) as runner:
            runner.run(test())

    return run


async def _three() -> Node:
    node = Node()
    node.lead()
    await node.up(1, 2, 3)
    await node.create("t", 2, 3, 1)
    return node


# Reigns


@clocked
async def test_only_who_leads_answers() -> None:
    node = Node()
    node.raft.leader_id = 3
    answer = await node.ask(registration(1))
    assert (answer.error, answer.controller_id) == (ErrorCode.not_controller.value, 3)
    node.controller.on_status(RaftStatus(Role.LEADER, 1, 1, False))
    assert (await node.ask(registration(1))).error == ErrorCode.not_controller.value
    node.lead()
    assert node.controller.active
    assert (await node.ask(registration(1))).error == 0
    node.follow(2)
    answer = await node.ask(registration(1))
    assert (answer.error, answer.controller_id) == (ErrorCode.not_controller.value, 2)


@clocked
async def test_an_answer_waits_for_the_commit() -> None:
    node = Node()
    node.lead()
    node.raft.at_once = False
    asking = asyncio.ensure_future(node.ask(registration(1)))
    await asyncio.sleep(0)
    assert not asking.done()
    node.raft.commit()
    answer = await asking
    assert (answer.epoch, answer.offset) == (1, 1)
    assert node.view.image.brokers[1].epoch == 1


@clocked
async def test_decisions_know_of_proposals_that_are_not_committed_yet() -> None:
    node = await _three()
    node.raft.at_once = False
    requests = [CreateTopics(topics=(NewTopic(name=name, partitions=1),)) for name in ("a", "a", "b")]
    asking = [asyncio.ensure_future(node.ask(request)) for request in requests]
    ids = asyncio.ensure_future(node.ask(AllocateProducerIds(node_id=1, broker_epoch=1)))
    await asyncio.sleep(0)
    assert len(node.raft.waiting) == 3
    # "exists already" is only true once the first is committed.
    assert not asking[1].done()
    node.raft.commit()
    answers = await asyncio.gather(*asking)
    assert [answer.topics[0].error for answer in answers] == [0, ErrorCode.topic_already_exists.value, 0]
    assert answers[1].offset >= answers[0].offset
    assert (await ids).first == 0
    check_invariants(node.view.image)


@clocked
async def test_what_was_proposed_by_a_lost_reign_is_forgotten() -> None:
    node = await _three()
    node.raft.at_once = False
    asking = asyncio.ensure_future(node.ask(CreateTopics(topics=(NewTopic(name="a", partitions=1),))))
    await asyncio.sleep(0)
    node.follow(None)
    assert (await asking).error == ErrorCode.not_controller.value
    node.raft.at_once = True
    node.lead()
    answer = await node.ask(CreateTopics(topics=(NewTopic(name="a", partitions=1),)))
    assert not answer.topics[0].error


@clocked
async def test_a_lost_proposal_ends_the_reign_even_before_raft_says_so() -> None:
    node = await _three()
    node.raft.at_once = False
    asking = [asyncio.ensure_future(node.ask(CreateTopics(topics=(NewTopic(name=n),)))) for n in ("a", "b")]
    await asyncio.sleep(0)
    node.raft.lose(3)
    assert {(await one).error for one in asking} == {ErrorCode.not_controller.value}
    assert not node.controller.active


@clocked
async def test_a_caller_that_gives_up_leaves_its_proposal_behind() -> None:
    node = await _three()
    node.raft.at_once = False
    asking = asyncio.ensure_future(node.ask(CreateTopics(topics=(NewTopic(name="a", partitions=1),))))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    again = asyncio.ensure_future(node.ask(CreateTopics(topics=(NewTopic(name="a", partitions=1),))))
    await asyncio.sleep(0)
    node.raft.commit()
    assert (await again).topics[0].error == ErrorCode.topic_already_exists.value
    assert node.controller.active


@clocked
async def test_overload_is_said_and_nothing_is_done() -> None:
    node = await _three()
    node.raft.overloaded = True
    answer = await node.ask(CreateTopics(topics=(NewTopic(name="a", partitions=1),)))
    assert answer.error == ErrorCode.request_timed_out.value
    node.raft.overloaded = False
    assert not (await node.ask(CreateTopics(topics=(NewTopic(name="a", partitions=1),)))).topics[0].error


@clocked
async def test_a_node_speaks_only_for_itself() -> None:
    node = await _three()
    answer = await node.ask(registration(2, "impostor"), caller=3)
    assert answer.error == ErrorCode.cluster_authorization_failed.value
    assert node.view.image.brokers[2].incarnation == "first"


# Sessions


@clocked
async def test_a_silent_broker_is_fenced_when_its_session_ends() -> None:
    node = await _three()
    await advance(SESSION_S - 1)
    await node.beat(1)
    await node.beat(3)
    assert node.leader("t") == 2
    await advance(1)
    assert node.fenced() == {2}
    assert node.leader("t") == 3
    await advance(SESSION_S)
    assert node.fenced() == {1, 2, 3}
    assert node.leader("t") == -1
    # A heartbeat brings it back.
    assert not (await node.beat(3)).fenced
    assert node.leader("t") in (-1, 3)


@clocked
async def test_brokers_whose_sessions_end_together_are_fenced_in_one_entry() -> None:
    node = await _three()
    entries = len(node.raft.committed)
    await advance(SESSION_S)
    assert node.fenced() == {1, 2, 3}
    assert len(node.raft.committed) == entries + 1


@clocked
async def test_a_new_controller_gives_everybody_a_whole_session() -> None:
    node = await _three()
    await advance(SESSION_S - 1)
    node.follow()
    await advance(SESSION_S)
    assert not node.fenced()
    node.lead()
    await advance(SESSION_S - 1)
    await node.beat(1)
    assert not node.fenced()
    await advance(1)
    assert node.fenced() == {2, 3}


@clocked
async def test_heartbeats_of_a_former_life_keep_no_session() -> None:
    node = await _three()
    await advance(SESSION_S - 1)
    for broker in (1, 3):
        await node.beat(broker)
    answer = await node.beat(2, epoch=99)
    assert answer.error == ErrorCode.stale_broker_epoch.value
    await advance(1)
    assert node.fenced() == {2}


@clocked
async def test_fencing_is_tried_again_when_raft_is_overloaded() -> None:
    node = await _three()
    node.raft.overloaded = True
    await advance(SESSION_S)
    node.controller.peer_dead(2)
    assert not node.fenced()
    node.raft.overloaded = False
    await advance(1)
    assert node.fenced() == {1, 2, 3}


# Evidence


@clocked
async def test_evidence_fences_at_once() -> None:
    node = await _three()
    node.controller.peer_dead(2)
    assert node.fenced() == {2}
    assert node.leader("t") == 3
    node.controller.peer_dead(77)
    assert node.fenced() == {2}


@clocked
async def test_evidence_is_kept_for_the_next_reign() -> None:
    """The node that is killed may be the active controller: whoever follows fences it first thing."""
    node = await _three()
    node.follow(2)
    node.controller.peer_dead(2)
    assert not node.fenced()
    node.lead()
    assert node.fenced() == {2}
    assert node.leader("t") == 3


@clocked
async def test_a_sign_of_life_lifts_the_suspicion() -> None:
    node = await _three()
    node.controller.peer_dead(2)
    await node.beat(2)
    assert not node.fenced()
    node.follow(3)
    node.controller.peer_dead(1)
    node.controller.peer_alive(1)
    node.lead()
    assert not node.fenced()


@clocked
async def test_a_broker_that_cannot_be_reached_but_is_heard_of_is_fenced_once() -> None:
    """Its address is refused all the time. Each process of it is accused once, or it would be fenced for good."""
    node = await _three()
    node.controller.peer_dead(2)
    assert not (await node.beat(2)).fenced
    node.controller.peer_dead(2)
    assert not node.fenced()
    await advance(SESSION_S)  # or the second one would have to wait
    assert not (await node.ask(registration(2, "second"))).error
    assert not (await node.beat(2)).fenced
    node.controller.peer_dead(2)
    assert 2 in node.fenced()
    node.controller.peer_alive(2)
    assert not (await node.beat(2)).fenced
    node.controller.peer_dead(2)
    assert 2 in node.fenced()


@clocked
async def test_a_killed_broker_may_register_again_at_once() -> None:
    node = await _three()
    assert (await node.ask(registration(2, "second"))).error == ErrorCode.duplicate_broker_registration.value
    node.controller.peer_dead(2)
    assert not (await node.ask(registration(2, "second"))).error
    assert (await node.ask(registration(2, "third"))).error == ErrorCode.duplicate_broker_registration.value


@clocked
async def test_after_a_restart_of_all_nobody_waits_for_a_session_to_end() -> None:
    """Sessions taken over from the image are no proof of life."""
    node = await _three()
    node.follow(None)
    node.lead()
    for broker in (1, 2, 3):
        assert not (await node.ask(registration(broker, "second"))).error
        assert not (await node.beat(broker)).fenced
    for broker in (1, 2):
        assert node.leader("t") == -1
        await node.beat(broker)
    assert node.leader("t") == 3


@clocked
async def test_a_broker_that_leaves_is_not_missed() -> None:
    node = await _three()
    assert (await node.beat(2, want_shutdown=True)).should_shutdown
    assert node.leader("t") == 3
    entries = len(node.raft.committed)
    node.controller.peer_dead(2)
    await node.beat(1)
    await node.beat(3)
    assert len(node.raft.committed) == entries
    assert not (await node.ask(registration(2, "second"))).error


# Preferred leaders


@clocked
async def test_preferred_leaders_are_restored_by_themselves() -> None:
    node = Node(rebalance=300)
    node.lead()
    await node.up(1, 2)
    await node.create("t", 1, 2)
    node.controller.peer_dead(1)
    await node.beat(1)
    assert node.leader("t") == 2
    await node.ask(_isr(node, 2, 1, 2))
    for _ in range(60):
        await node.beat(1)
        await node.beat(2)
        await advance(5)
    assert node.leader("t") == 1


def _isr(node: Node, leader: int, *members: int) -> RpcRequest[Any]:
    topic = node.view.image.topics["t"]
    state = topic.partitions[0]
    brokers = node.view.image.brokers
    wish = PartitionIsr(
        topic_id=topic.id,
        partition=0,
        leader_epoch=state.leader_epoch,
        partition_epoch=state.partition_epoch,
        new_isr=tuple(IsrMember(id=member, broker_epoch=brokers[member].epoch) for member in members),
    )
    return AlterPartition(node_id=leader, broker_epoch=brokers[leader].epoch, partitions=(wish,))

"""Single messages that are held on their way; and what else can be done to links."""

import asyncio
from collections import deque
from typing import get_args

import pytest

from ottla.controller import Entry
from ottla.controller.raft import messages as raft
from ottla.controller.rpc import encode_message
from ottla.controller.rpc.stream_codec import Sealer
from ottla.simulation import CLIENTS, SimulatedCluster, SimulationError, controller, leader_of, run
from ottla.simulation.messages import _RAFT_NAMES, PEEK
from ottla.simulation.streams import HttpStream, KafkaStream


def now() -> float:
    return asyncio.get_running_loop().time()


async def written(cluster: SimulatedCluster, value: bytes, **options) -> int:
    async with cluster.producer(linger_ms=0, **options) as producer:
        return (await producer.send_and_wait("orders", value, partition=0)).offset


def cluster_run(work, seed: int = 1, **options):
    async def scenario():
        async with SimulatedCluster(**options) as cluster:
            await cluster.create_topic("orders")
            return await work(cluster)

    return run(scenario, seed)


def test_a_held_produce_arrives_when_it_is_released():
    async def work(cluster):
        with cluster.hold("Produce", source=CLIENTS) as held:
            sending = asyncio.ensure_future(written(cluster, b"late"))
            message = await held.caught(5)
            assert (message.names, message.plane, message.response) == (("Produce",), "kafka", False)
            assert b"late" in message.data
            assert message.whole
            await cluster.advance(3)
            leader = cluster.partition_on(cluster.leader("orders"), "orders")
            assert (leader.log_end_offset, held.holding, sending.done()) == (0, 1, False)
        return await sending

    assert cluster_run(work) == 0


def test_what_its_sender_gave_up_on_still_arrives():
    """The client retries on another connection; the first attempt comes later, and is a duplicate."""

    async def work(cluster):
        held = cluster.hold("Produce")
        assert await written(cluster, b"once", request_timeout_ms=1000) == 0
        leader = cluster.partition_on(cluster.leader("orders"), "orders")
        assert leader.log_end_offset == 1
        held.release()
        await cluster.advance(1)
        return leader.log_end_offset

    assert cluster_run(work) == 1


def test_bytes_of_a_dead_machine_arrive_too(monkeypatch: pytest.MonkeyPatch):
    async def work(cluster):
        network, arrived = cluster.world.network, []
        original = network.carried
        monkeypatch.setattr(network, "carried", lambda at, data: (arrived.append(data), original(at, data)))
        held = cluster.hold("AppendEntries", source=controller)
        message = await held.caught(5)
        cluster.power_off(controller)
        await cluster.advance(1)
        assert message.data not in arrived
        held.release()
        await cluster.advance(0.1)
        return message.data in arrived

    assert cluster_run(work)


def test_a_dropped_message_never_arrives_and_both_ends_hear_of_a_reset():
    async def work(cluster):
        held = cluster.hold("Produce")
        sending = asyncio.ensure_future(written(cluster, b"once"))
        await held.caught(5)
        dropped = now()
        held.drop()
        assert await sending == 0
        assert held.holding == 0
        return now() - dropped

    assert cluster_run(work) < 1


def test_an_answer_can_be_held():
    """Appended and replicated, but the client does not hear of it in time: the retry finds it."""

    async def work(cluster):
        held = cluster.hold("Produce", response=True)
        leader = cluster.partition_on(cluster.leader("orders"), "orders")
        sending = asyncio.ensure_future(written(cluster, b"once", request_timeout_ms=1000))
        message = await held.caught(5)
        assert message.response
        assert (leader.log_end_offset, leader.high_watermark) == (1, 1)
        assert await sending == 0
        held.release()
        await cluster.advance(1)
        return leader.log_end_offset

    assert cluster_run(work) == 1


def test_raft_messages_are_known_by_name_and_content():
    async def work(cluster):
        leader = cluster.controller()
        follower = next(node_id for node_id in cluster.nodes if node_id != leader)
        with cluster.hold(
            "AppendEntries",
            source=controller,
            target=follower,
            where=lambda message: any(getattr(each, "entries", ()) for each in message.raft),
        ) as held:
            creating = asyncio.ensure_future(cluster.create_topic("more"))
            entries = [entry for each in (await held.caught(5)).raft for entry in each.entries]
            assert all(isinstance(entry, Entry) for entry in entries)
            assert b"more" in b"".join(entry.data for entry in entries)
        await creating

    cluster_run(work)


def test_votes_can_be_held():
    async def work(cluster):
        first = cluster.controller()
        held = cluster.hold("Vote", count=None)
        cluster.kill(first)
        assert (await held.caught(10)).raft[0].term > 1
        await cluster.advance(0.3)
        with pytest.raises(SimulationError):
            cluster.controller()
        held.release()
        await cluster.until(lambda: any_controller(cluster), "somebody is elected", within=10)

    cluster_run(work)


def any_controller(cluster: SimulatedCluster) -> bool:
    try:
        return cluster.controller() > 0
    except SimulationError:
        return False


@pytest.mark.parametrize("name", ["AppendEntries", "Heartbeat"])
def test_a_message_to_a_controller_delivered_twice_does_no_harm(name: str):
    async def work(cluster):
        held = cluster.hold(name, target=controller if name == "Heartbeat" else None)
        await held.caught(10)
        held.release()
        await cluster.create_topic("more")
        await held.deliver_again()
        await cluster.create_topic("again")
        return cluster.full("orders")

    assert cluster_run(work)


def test_nothing_else_can_be_repeated():
    async def work(cluster):
        held = cluster.hold("Produce", response=True)
        with pytest.raises(SimulationError):
            await held.deliver_again()
        with pytest.raises(TimeoutError, match="Produce"):
            await held.caught(0.1)

    cluster_run(work)


def test_the_same_seed_holds_the_same():
    async def work(cluster):
        with cluster.hold("Fetch") as held:
            await held.caught(5)
            await written(cluster, b"x")
        return held.messages[0].data, cluster.world.trace.fingerprint

    assert cluster_run(work, seed=3) == cluster_run(work, seed=3)


# -- links


def test_bandwidth_is_shared_and_queues():
    async def work(cluster):
        leader = cluster.leader("orders")
        cluster.bandwidth(100_000, [leader])
        began = now()
        async with cluster.producer(linger_ms=0) as producer:
            await asyncio.gather(*[producer.send("orders", bytes(100_000), partition=0) for _ in range(4)])
            await producer.flush()
        slow = now() - began
        cluster.recover()
        began = now()
        await written(cluster, bytes(100_000))
        return slow, now() - began

    slow, fast = cluster_run(work)
    assert 3 < slow < 20
    assert fast < 0.5


def test_a_majority_ring_of_five_keeps_its_controller_and_takes_writes_where_it_can():
    """A partition can be written to if the controller and a neighbour of it have replicas: two neighbours of it do not
    see each other. Nobody else can win an election, as a majority hears of the controller."""

    async def work(cluster):
        first = cluster.controller()
        term = cluster.nodes[first].node.quorum.driver.term
        near = {(first + step - 1) % 5 + 1 for step in (-1, 1)}
        await cluster.create_topic("more", 5)
        image = cluster.nodes[first].node.quorum.view.image
        able = [
            index
            for index, state in image.topics["more"].partitions.items()
            if first in state.replicas and near & {*state.replicas}
        ]
        async with cluster.traffic("more", 5, interval=0.1) as traffic:
            await cluster.advance(0.5)
            cluster.majority_ring()
            await cluster.advance(10)
            at = now()
            for index in able:
                await traffic.acknowledged_again(index, at, within=10)
            assert cluster.controller() == first
            assert cluster.nodes[first].node.quorum.driver.term == term
            cluster.heal()
            await cluster.until(lambda: cluster.full("more"), "every replica is in sync", within=30)
            await traffic.start_reading()
            await traffic.stop_writing()
            await traffic.read_everything()
            return able, traffic.ledger.verdict()

    able, verdict = cluster_run(work, nodes=5)
    assert able
    assert verdict.clean


def test_a_broker_cut_off_from_the_controllers_alone_is_fenced_and_rejoins():
    async def work(cluster):
        async with cluster.traffic("orders", 1, interval=0.05) as traffic:
            await cluster.advance(0.5)
            lost, at = cluster.cut_controller(leader_of("orders")), now()
            await traffic.acknowledged_again(0, at, within=20)
            await cluster.until(lambda: cluster.leader("orders") != lost, "another one leads", within=20)
            image = cluster.nodes[cluster.leader("orders")].node.quorum.view.image
            assert image.brokers[lost].fenced
            assert lost not in image.topics["orders"].partitions[0].isr
            cluster.heal()
            await cluster.until(lambda: cluster.full("orders"), "it has rejoined", within=20)
            await traffic.start_reading()
            await traffic.stop_writing()
            await traffic.read_everything()
            return traffic.ledger.verdict()

    assert cluster_run(work).clean


def test_slow_links_with_resets_and_flapping_keep_taking_writes():
    async def work(cluster):
        async with cluster.traffic("orders", 1, interval=0.1) as traffic:
            await traffic.start_reading()
            cluster.delay(0.5)
            cluster.resets(0.2)
            await cluster.advance(15)
            at = now()
            # Every fetch takes a second, and few connections live for five: chance decides when both followers come.
            await traffic.acknowledged_again(0, at, within=45)
            cluster.recover()
            stop = cluster.flap()
            await cluster.advance(10)
            stop()
            at = now()
            await traffic.acknowledged_again(0, at, within=10)
            await cluster.until(lambda: cluster.full("orders"), "every replica is in sync", within=30)
            await traffic.stop_writing()
            await traffic.read_everything()
            return traffic.ledger.verdict()

    assert cluster_run(work).clean


def test_refused_connections():
    async def work(cluster):
        cluster.refuse([1], [2])
        cluster.reset(1, 2)
        await cluster.advance(5)
        cluster.heal()
        await cluster.until(lambda: cluster.full("orders"), "every replica is in sync", within=20)
        return await written(cluster, b"on")

    assert cluster_run(work) == 0


# -- streams


def frame(key: int, correlation: int, rest: bytes = b"") -> bytes:
    body = key.to_bytes(2, "big") + (0).to_bytes(2, "big") + correlation.to_bytes(4, "big") + rest
    return len(body).to_bytes(4, "big") + body


@pytest.mark.parametrize("step", [1, 3, 7, 1000])
def test_frames_are_found_however_they_are_cut(step: int):
    sent = frame(0, 1, b"abc") + frame(1, 2) + frame(3, 3, bytes(100))
    stream = KafkaStream(asked := {}, response=False, fresh=True)
    pieces = [piece for at in range(0, len(sent), step) for piece in stream.feed(sent[at : at + step])]
    assert b"".join(piece.data for piece in pieces) == sent
    assert [piece.message.names for piece in pieces if piece.message] == [("Produce",), ("Fetch",), ("Metadata",)]
    answers = KafkaStream(asked, response=True, fresh=True)
    found = answers.feed(b"\0\0\0\5\0\0\0\2x" + b"\0\0\0\4\0\0\0\1")
    assert [piece.message.names for piece in found if piece.message] == [("Fetch",), ("Produce",)]


def test_a_large_frame_is_known_by_its_beginning():
    sent = frame(0, 1, bytes(200_000)) + frame(1, 2)
    stream = KafkaStream({}, response=False, fresh=True)
    pieces = stream.feed(sent[:70_000])
    assert pieces[0].message.names == ("Produce",)
    assert not pieces[0].message.whole
    pieces += stream.feed(sent[70_000:])
    assert b"".join(piece.data for piece in pieces) == sent
    assert [piece.message.names for piece in pieces if piece.message] == [("Produce",), ("Fetch",)]


def test_a_stream_seen_from_its_middle_on_finds_its_feet():
    stream = KafkaStream({}, response=False, fresh=False)
    assert [piece.message for piece in stream.feed(b"\xff" * 50)] == [None]
    assert stream.feed(frame(1, 9))[0].message.names == ("Fetch",)


@pytest.mark.parametrize("step", [1, 10, 1000])
def test_http_requests_and_their_answers(step: int):
    sent = b"POST /v1/controller/AlterPartition HTTP/1.1\r\nContent-Length: 5\r\n\r\n{'a'}"
    sent += b"GET /v1/watch?address=1 HTTP/1.1\r\nHost: x\r\n\r\n"
    stream = HttpStream(asked := deque(), response=False, fresh=True)
    pieces = [piece for at in range(0, len(sent), step) for piece in stream.feed(sent[at : at + step])]
    assert b"".join(piece.data for piece in pieces) == sent
    assert [piece.message.names for piece in pieces if piece.message] == [("AlterPartition",), ("Watch",)]
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
    answer += b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbeat\n"
    answers = HttpStream(asked, response=True, fresh=True)
    pieces = [piece for at in range(0, len(answer), step) for piece in answers.feed(answer[at : at + step])]
    assert b"".join(piece.data for piece in pieces) == answer
    assert [piece.message.names for piece in pieces if piece.message] == [("AlterPartition",), ("Watch",)]


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_stream_of_raft_messages(step: int):
    """A request and its answer, then frames in both directions."""
    append, told = raft.AppendRequest(1, 0, 0, 0, 1), raft.AppendResponse(1, True, 0, 1)
    there, back = Sealer(b"there"), Sealer(b"back")
    sent = b"GET /v1/raft HTTP/1.1\r\nUpgrade: tcp\r\n\r\n"
    sent += there.seal([encode_message(append)], 0) + there.seal([], 0) + there.seal([encode_message(append)] * 2, 0)
    answered = b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + back.seal([encode_message(told)], 0)
    asked: deque[tuple[str, ...]] = deque()
    for data, response, names in (
        (sent, False, [("RaftStream",), ("AppendEntries",), (), ("AppendEntries",)]),
        (answered, True, [("RaftStream",), ("AppendEntriesResponse",)]),
    ):
        stream = HttpStream(asked, response=response, fresh=True)
        pieces = [piece for at in range(0, len(data), step) for piece in stream.feed(data[at : at + step])]
        assert b"".join(piece.data for piece in pieces) + stream.rest() == data
        messages = [piece.message for piece in pieces if piece.message]
        assert [message.names for message in messages] == names
        assert [message.response for message in messages] == [response, *[False] * (len(names) - 1)]
    assert messages[1].raft == (told,)


def test_a_stream_of_raft_messages_is_known_from_its_middle_on():
    seal = Sealer(b"key").seal
    first, second = (seal([encode_message(raft.AppendRequest(1, 0, 0, 0, stamp))], 0) for stamp in (1, 2))
    stream = HttpStream(deque(), response=False, fresh=False)
    (rest,) = stream.feed(first[10:])
    assert rest == (first[10:], None)
    (piece,) = stream.feed(second)
    assert piece.message is not None and piece.message.names == ("AppendEntries",) and piece.message.framed
    large = seal([bytes(PEEK)], 0)
    begun = stream.feed(large[: PEEK + 1])
    assert b"".join(piece.data for piece in begun + stream.feed(large[PEEK + 1 :])) == large


def test_every_message_of_raft_has_a_name():
    assert {kind for kind in get_args(raft.Message) if kind not in _RAFT_NAMES} == {raft.VoteRequest, raft.VoteResponse}

"""Each library keeps writing and reading while its leader is killed, and while every node is restarted in turn."""

from __future__ import annotations

from contextlib import ExitStack

from tests.compatibility.cluster import Cluster, eventually
from tests.compatibility.model import Admin, How, Library, Result, Seen
from tests.compatibility.traffic import Reading, Writing

NODES = (1, 2, 3)
IDEMPOTENT = How(idempotent=True)


def starting_with(node: int) -> list[int]:
    return [node, *(other for other in NODES if other != node)]


def assert_nothing_lost(results: list[Result], seen: list[Seen]) -> None:
    """Every acknowledged record stands where its acknowledgement said."""
    by_offset = {record.offset: record.value for record in seen}
    wrong = [
        (index, result.offset, by_offset.get(result.offset))
        for index, result in enumerate(results)
        if not result.error and by_offset.get(result.offset) != str(index).encode()
    ]
    assert not wrong, f"{len(wrong)} of {len(results)}: {wrong[:5]}"


def assert_once_and_in_order(results: list[Result], seen: list[Seen]) -> None:
    """Every record was acknowledged, and the partition holds each once, in the order of writing."""
    failed = [(index, result) for index, result in enumerate(results) if result.error]
    assert not failed, f"{len(failed)} of {len(results)}: {failed[:5]}"
    assert [record.value for record in seen] == [str(index).encode() for index in range(len(results))]
    assert [record.offset for record in seen] == list(range(len(results)))
    assert [result.offset for result in results] == list(range(len(results)))


def test_the_leader_is_killed(cluster: Cluster, libraries: tuple[Library, ...], library: Library, topic: str) -> None:
    """One partition takes an idempotent producer, another one a plain one; both are led by the node that dies."""
    victim = NODES[[each.name for each in libraries].index(library.name)]
    with library.admin(cluster.bootstrap) as admin:
        cluster.make(admin, topic, assignment=[starting_with(victim), starting_with(victim)])
    with ExitStack() as stack:
        exact = Writing(cluster, library, topic, 0, IDEMPOTENT)
        stack.callback(exact.stop)
        plain = Writing(cluster, library, topic, 1, How(acks="all"))
        stack.callback(plain.stop)
        along = Reading(cluster, library, topic, 0)
        stack.callback(along.stop)
        for writing in (exact, plain):
            writing.more_acknowledged(100)
        cluster.kill(victim)
        for writing in (exact, plain):
            writing.more_acknowledged(100)
        cluster.start(victim)
        for writing in (exact, plain):
            writing.more_acknowledged(20)
        exact_results, plain_results = exact.finish(), plain.finish()
        assert_once_and_in_order(exact_results, along.up_to(len(exact_results) - 1))
    with library.reader(cluster.bootstrap, topic, 1) as reading:
        _, end = reading.bounds()
        reading.seek(0)
        assert_nothing_lost(plain_results, reading.take(end))


def test_every_node_is_restarted_in_turn(cluster: Cluster, libraries: tuple[Library, ...], topic: str) -> None:
    """Cleanly, with every library at work on a partition of its own: none of them hears of an error."""
    with ExitStack() as stack:
        admin = stack.enter_context(libraries[0].admin(cluster.bootstrap))
        cluster.make(admin, topic, assignment=[starting_with(node) for node in NODES])
        writers, readers = [], []
        for partition, library in enumerate(libraries):
            writers.append(Writing(cluster, library, topic, partition, IDEMPOTENT))
            stack.callback(writers[-1].stop)
            readers.append(Reading(cluster, library, topic, partition))
            stack.callback(readers[-1].stop)
        for writing in writers:
            writing.more_acknowledged(50)
        for node in NODES:
            cluster.stop(node)
            for writing in writers:
                writing.more_acknowledged(20)
            cluster.start(node)
            eventually(lambda: whole(admin, topic), f"every replica in sync after node {node} came back")
        results = [writing.finish() for writing in writers]
        for answers, reading in zip(results, readers, strict=True):
            assert_once_and_in_order(answers, reading.up_to(len(answers) - 1))


def whole(admin: Admin, topic: str) -> bool:
    return all(len(seen.isr) == len(NODES) for seen in admin.describe(topic).values())

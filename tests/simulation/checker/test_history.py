"""The form of a history, and what errors mean for it."""

from __future__ import annotations

import pytest
from kio.schema.errors import ErrorCode

from ottla.client import KafkaConnectionError, KafkaTimeoutError, ProducerFenced
from ottla.client.errors import error_for
from ottla.simulation import SimulatedCluster, World
from ottla.simulation.checker import Model, Progress, check, progress
from ottla.simulation.history import CRASHED, History, classify
from ottla.simulation.workload import Habits, Workload
from tests.simulation.checker.told import Tale, ready


def test_a_history_is_read_as_it_was_written():
    tale = ready()
    text = tale.dumps()
    again = History.loads(text)
    assert again.entries == tale.entries
    assert again.dumps() == text
    assert text.splitlines()[1] == (
        '{"index":1,"t_mono_ns":0,"process":0,"node":null,"type":"ok","f":"send",'
        '"value":[["send","t-0",[0,1]]],"error":null,"rebalance_log":null}'
    )


@pytest.mark.parametrize("text", ["[]\n", '{"index":0}\n', "nonsense\n"])
def test_what_is_no_history_is_refused(text):
    with pytest.raises(ValueError):
        History.loads(text)


def test_a_line_that_is_missing_is_noticed():
    lines = ready().dumps().splitlines(keepends=True)
    with pytest.raises(ValueError, match="line 3"):
        History.loads("".join(lines[:2] + lines[3:]))


@pytest.mark.parametrize("name", ["two at once", "after an info", "ends nothing"])
def test_processes_do_one_thing_after_the_other(name):
    tale = Tale()
    if name == "two at once":
        tale.begins_to_send(0, 1)
        tale.begins_to_send(0, 2)
    elif name == "after an info":
        tale.sends(0, (1, None), kind="info")
        tale.polls(0)
    else:
        tale.complete(tale.sends(0, (1, 0)), "ok", None)
    with pytest.raises(ValueError, match="process 0"):
        Model(tale)


def test_counts_tell_what_has_no_end_as_indeterminate():
    tale = ready()
    tale.sends(0, (4, None), kind="fail")
    tale.sends(2, (5, None), kind="info")
    tale.begins_to_send(3, 6)
    assert tale.counts() == {"ok": 4, "fail": 1, "info": 2}


@pytest.mark.parametrize(
    "code, kind",
    [
        (ErrorCode.topic_authorization_failed, "fail"),
        (ErrorCode.unknown_topic_or_partition, "fail"),
        (ErrorCode.invalid_topic_exception, "fail"),
        (ErrorCode.out_of_order_sequence_number, "fail"),
        (ErrorCode.producer_fenced, "fail"),
        (ErrorCode.invalid_producer_epoch, "fail"),
        (ErrorCode.invalid_txn_state, "fail"),
        (ErrorCode.not_leader_or_follower, "info"),
        (ErrorCode.unknown_server_error, "info"),
        (ErrorCode.request_timed_out, "info"),
        (ErrorCode.network_exception, "info"),
        (ErrorCode.not_enough_replicas_after_append, "info"),
    ],
)
def test_errors_are_definite_or_not(code, kind):
    assert classify(error_for(code)) == kind


def test_lost_connections_and_timeouts_say_nothing():
    assert classify(KafkaConnectionError("gone")) == "info"
    assert classify(KafkaTimeoutError("late")) == "info"


def test_what_the_producer_knows_counts_for_more_than_the_code():
    late, fenced = KafkaTimeoutError("never sent"), ProducerFenced(ErrorCode.producer_fenced)
    late.definite, fenced.definite = True, False
    assert classify(late) == "fail"
    assert classify(fenced) == "info"


def test_progress_counts_what_no_fault_disturbed():
    now = [0.0]
    tale = Tale(lambda: now[0])
    for at, kind in ((1.0, "ok"), (2.0, "fail"), (3.0, "ok"), (4.0, "fail"), (5.0, "ok")):
        now[0] = at
        tale.sends(int(at), (int(at), None), kind=kind)
    assert progress(tale, []) == Progress(5, 3)
    tale.complete(tale.begins_to_send(6, 6), "info", None, error=CRASHED)
    assert progress(tale, []) == Progress(5, 3), "a client that was to crash is no failure"
    assert progress(tale, [(3.5, 4.5)]) == Progress(4, 3)
    assert progress(tale, [(3.9, 4.1), (1.5, 2.5), (0.0, 0.5)]) == Progress(3, 3)
    assert progress(tale, [(0.0, 9.0)]) == Progress(0, 0)
    assert progress(tale, [(3.9, 4.1), (1.5, 2.5)]).conclusive
    assert not progress(tale, []).conclusive
    assert not progress(tale, [(0.0, 9.0)]).conclusive, "nothing at all says nothing"


def test_an_operation_that_a_fault_began_or_ended_in_does_not_count():
    now = [1.0]
    tale = Tale(lambda: now[0])
    sent = tale.begins_to_send(0, 1)
    now[0] = 3.0
    tale.complete(sent, "fail", None)
    assert progress(tale, [(2.0, 2.5)]) == Progress(0, 0)
    assert progress(tale, [(0.0, 1.5)]) == Progress(0, 0)
    assert progress(tale, [(0.0, 0.5), (3.5, 4.0)]) == Progress(1, 0)


def _worked(seed: int) -> History:
    world = World(seed)

    async def scenario() -> History:
        async with SimulatedCluster(world=world) as cluster:
            await cluster.create_topic("t", 2)
            async with Workload(cluster, "t", 2, habits=Habits(2, 50.0, 20)) as workload:
                await cluster.advance(2)
                cluster.kill(cluster.leader("t", 0))
                await cluster.advance(2)
                await workload.write_everywhere(within=10)
                await workload.stop(within=60)
                await workload.read_everything(within=10)
                assert workload.acknowledged > 50
            return workload.history

    return world.run(scenario)


def test_one_seed_gives_one_history_to_the_byte():
    text = _worked(7).dumps()
    assert _worked(7).dumps() == text
    history = History.loads(text)
    assert check(history) == []
    assert {entry.f for entry in history} >= {"send", "poll", "assign", "ends"}
    assert history.counts()["ok"] > 100

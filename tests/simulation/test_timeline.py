"""What nodes, faults and clients did, in one order, as short as a person can read it."""

from ottla.simulation.history import History
from ottla.simulation.plan import Plan, Report
from ottla.simulation.timeline import merged
from ottla.simulation.trace import Happening


def test_clients_stand_between_the_nodes():
    now = 1000.5
    history = History(lambda: now)
    sent = history.invoke(3, "send", [["send", "orders-0", [None, 7]]])
    now = 1001.5
    history.complete(sent, "ok", [["send", "orders-0", [2, 7]]], node=1)
    read = history.invoke(4, "poll", [["poll", {}]])
    history.complete(read, "ok", [["poll", {"orders-0": [[0, 5], [1, 6], [2, 7], [4, 9]]}]])
    asked = history.invoke(5, "poll", [["poll", {}]])
    history.complete(asked, "ok", [["poll", {"orders-0": []}]])
    lost = history.invoke(5, "send", [["send", "orders-0", [None, 8]]])
    now = 1003.0
    history.complete(lost, "info", [["send", "orders-0", [None, 8]]], error="timed out")
    logged = (Happening(1000.0, "node-1", "first", ()), Happening(1002.0, "node-1", "second", ()))
    told = [
        (happening.where, happening.event, *(value for _, value in happening.fields))
        for happening in merged(Report(Plan(1), timeline=logged, history=tuple(history)))
    ]
    assert told == [
        ("node-1", "first"),
        ("client-3", "send invoke", "orders-0:7"),
        ("client-3", "send ok", "orders-0:7@2", "1"),
        ("client-4", "poll ok", "orders-0:5..7@0,9@4"),
        ("client-5", "send invoke", "orders-0:8"),
        ("node-1", "second"),
        ("client-5", "send info", "orders-0:8", "timed out"),
    ]


def test_what_clients_did_before_the_last_events_is_left_out():
    history = History(lambda: 1.0)
    history.invoke(1, "send", [["send", "orders-0", [None, 1]]])
    logged = (Happening(2.0, "node-1", "kept", ()),)
    assert merged(Report(Plan(1), timeline=logged, history=tuple(history))) == list(logged)

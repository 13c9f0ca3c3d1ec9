"""Cycles of information flow (G1c): operations that cannot have happened in any order.

Edges lead from an operation to one that must come after it: the writer of a value to everybody who read it (wr), an
operation to the next of its process, and one that was ok to all that were invoked after that (realtime). The order of
two writes by their offsets (ww) is no such evidence in Kafka, which lets the writes of two transactions interleave, and
so these edges must be asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from ottla.simulation.checker.finding import Finding
from ottla.simulation.checker.model import Model, Op

Graph = list[list[int]]


def circular_flow(model: Model, *, ww: bool = False) -> Iterator[Finding]:
    """One finding for each set of operations that depend on one another in a circle, with a shortest circle of it."""
    ops = [op for op in model.ops if op.f in ("send", "poll", "txn") and op.type != "fail"]
    graph = _graph(model, ops, ww)
    for component in strongly_connected(graph):
        circle = [ops[node] for node in _circle(graph, component) if node < len(ops)]
        text = " -> ".join(f"{op.index} ({op.f} by process {op.process})" for op in [*circle, circle[0]])
        yield Finding("G1c", None, tuple(op.index for op in circle), f"each must come before the next: {text}")


def _graph(model: Model, ops: list[Op], ww: bool) -> Graph:
    place = {op.index: node for node, op in enumerate(ops)}
    graph: Graph = [[] for _ in ops]
    for key, log in model.logs.items():
        for value, readers in log.reads.items():
            for send in model.writers.get((key, value), ()):
                source = place.get(send.op.index)
                if source is not None:
                    targets = (place[op.index] for op in readers if op.index in place)
                    graph[source].extend(target for target in targets if target != source)
        if ww:
            _add_version_order(model, key, place, graph)
    last: dict[int, int] = {}
    for node, op in enumerate(ops):
        if op.process in last:
            graph[last[op.process]].append(node)
        last[op.process] = node
    _add_realtime(ops, graph)
    return graph


def _add_version_order(model: Model, key: str, place: dict[int, int], graph: Graph) -> None:
    before: int | None = None
    log = model.logs[key]
    for offset in log.offsets:
        for value in log.values[offset]:
            for send in model.writers.get((key, value), ()):
                node = place.get(send.op.index)
                if node is not None and before is not None and before != node:
                    graph[before].append(node)
                before = node if node is not None else before


def _add_realtime(ops: list[Op], graph: Graph) -> None:
    """A chain of moments keeps this linear: an operation leads to the moment at which it was ok, and the last moment
    before an invocation leads to its operation."""
    moments = [(op.index, node, True) for node, op in enumerate(ops)]
    moments += [
        (op.completed, node, False) for node, op in enumerate(ops) if op.completed is not None and op.type == "ok"
    ]
    now: int | None = None
    for _, node, begins in sorted(moments):
        if begins:
            if now is not None:
                graph[now].append(node)
            continue
        moment = len(graph)
        graph.append([])
        if now is not None:
            graph[now].append(moment)
        graph[node].append(moment)
        now = moment


def strongly_connected(graph: Graph) -> Iterator[list[int]]:
    """Components of more than one node (Tarjan's algorithm, without recursion). No edge may lead to its own source."""
    order = [-1] * len(graph)
    low = [0] * len(graph)
    stack: list[int] = []
    on_stack = [False] * len(graph)
    counter = 0
    for root in range(len(graph)):
        if order[root] >= 0:
            continue
        work = [(root, 0)]
        while work:
            node, at = work.pop()
            if at == 0:
                order[node] = low[node] = counter
                counter += 1
                stack.append(node)
                on_stack[node] = True
            edges = graph[node]
            while at < len(edges):
                target = edges[at]
                at += 1
                if order[target] < 0:
                    work += [(node, at), (target, 0)]
                    break
                if on_stack[target]:
                    low[node] = min(low[node], order[target])
            else:
                if low[node] == order[node]:
                    component = []
                    while True:
                        member = stack.pop()
                        on_stack[member] = False
                        component.append(member)
                        if member == node:
                            break
                    if len(component) > 1:
                        yield component
                if work:
                    parent = work[-1][0]
                    low[parent] = min(low[parent], low[node])


def _circle(graph: Graph, component: list[int]) -> list[int]:
    """A shortest way from the first node of the component back to it."""
    members = set(component)
    start = min(members)
    came: dict[int, int] = {}
    queue = deque([start])
    while queue:
        node = queue.popleft()
        for target in graph[node]:
            if target == start:
                way = [node]
                while way[-1] != start:
                    way.append(came[way[-1]])
                return way[::-1]
            if target in members and target not in came:
                came[target] = node
                queue.append(target)
    raise AssertionError("a component without a circle")

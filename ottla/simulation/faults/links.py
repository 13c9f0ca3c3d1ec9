"""Faults of the network between nodes, and between nodes and clients."""

from __future__ import annotations

from collections.abc import Sequence

from ottla.simulation.faults.kind import Kind, Scene, Undo, nothing
from ottla.simulation.link import Harm


def _partition(scene: Scene) -> Undo | None:
    return scene.cluster.partition(*scene.sides())


def _isolate(scene: Scene) -> Undo | None:
    return scene.cluster.cut_off(scene.victim(), clients=True)


def _one_way(scene: Scene) -> Undo | None:
    one, others = scene.sides()
    if scene.rng.random() < 0.5:
        one, others = others, one
    if scene.rng.random() < 0.5:
        others = [scene.rng.choice(others)]
    return scene.cluster.cut(one, others)


def _reset(scene: Scene) -> Undo | None:
    (one,), others = scene.sides()
    scene.cluster.reset(one, scene.rng.choice(others))
    return nothing


def _slow_links(scene: Scene) -> Undo | None:
    network = scene.cluster.world.network
    links = scene.rng.sample(network.links(scene.machines(), scene.machines()), 2)
    undos = []
    for link in links:
        slow = Harm(latency=(0.001, scene.rng.choice((0.01, 0.1, 0.5))), loss=scene.rng.choice((0.0, 0.2)))
        undos.append(network.harm([link], slow))

    def undo() -> None:
        for each in undos:
            each()

    return undo


def _receive_only(scene: Scene) -> Undo | None:
    one, others = scene.sides()
    return scene.cluster.cut(one, others)


def _send_only(scene: Scene) -> Undo | None:
    one, others = scene.sides()
    return scene.cluster.cut(others, one)


def _ring(scene: Scene) -> Undo | None:
    return scene.cluster.majority_ring()


def _no_controllers(scene: Scene) -> Undo | None:
    return scene.cluster.cut_off_controller(scene.victim())


def _refuse(scene: Scene) -> Undo | None:
    one, others = scene.sides()
    if scene.rng.random() < 0.5:
        one, others = others, one
    undo = scene.cluster.refuse(one, others)
    for node_id in one:
        for other in others:
            scene.cluster.reset(node_id, other)
    return undo


def _flapping(scene: Scene) -> Undo | None:
    one, others = scene.sides()
    whole = scene.rng.random() < 0.3
    return scene.cluster.flap(*((None, None) if whole else (one, others)), period=1.0)


def _late(scene: Scene) -> Undo | None:
    return scene.cluster.delay(0.5, jitter=0.1)


def _thin(scene: Scene) -> Undo | None:
    one, others = scene.sides()
    return scene.cluster.bandwidth(scene.rng.choice((20_000, 100_000, 1_000_000)), one, others)


def _resets(scene: Scene) -> Undo | None:
    return scene.cluster.resets(0.2)


def _hold(scene: Scene) -> Undo | None:
    """Of a kind that this cluster sends; of one that it does not send meanwhile, none is caught."""
    return _hold_one(scene, _HELD)


def _hold_transaction(scene: Scene) -> Undo | None:
    return _hold_one(scene, _OF_TRANSACTIONS)


def _hold_member(scene: Scene) -> Undo | None:
    return _hold_one(scene, _OF_MEMBERS)


def _hold_one(scene: Scene, names: Sequence[str]) -> Undo:
    name = scene.rng.choice(names)
    source = scene.victim() if scene.rng.random() < 0.5 else None
    held = scene.cluster.hold(name, source=source, response=name not in _RAFT and scene.rng.random() < 0.3)
    fate = scene.rng.random()

    def undo() -> None:
        if fate < 0.2:
            held.drop()
            return
        held.release()
        if fate > 0.6 and held.repeatable:
            scene.cluster.world.loop.create_task(held.deliver_again(), name="deliver again")

    return undo


# Each kind as often as another, however often it is sent.
_RAFT = ("AppendEntries", "AppendEntriesResponse", "PreVote", "Vote", "VoteResponse", "Snapshot")
_ASKED = ("Produce", "Fetch", "Metadata", "InitProducerId", "AlterPartition", "Heartbeat", "RegisterBroker")
_HELD = (*_RAFT, *_ASKED)
_OF_TRANSACTIONS = (
    "Produce",
    "EndTxn",
    "AddPartitionsToTxn",
    "AddOffsetsToTxn",
    "TxnOffsetCommit",
    "WriteTxnMarkers",
    "InitProducerId",
)
_OF_MEMBERS = (
    "AddRaftVoter",
    "RemoveRaftVoter",
    "AlterPartitionReassignments",
    "UnregisterBroker",
    "AlterPartition",
    "AppendEntries",
    "TimeoutNow",
    "Join",
)

KINDS: dict[str, Kind] = {
    "partition": Kind(_partition, "one node is cut off from all other nodes; clients reach everybody", nodes=2),
    "isolate": Kind(_isolate, "one node is cut off from all other nodes and from the clients", nodes=2),
    "one way": Kind(_one_way, "links carry in one direction only", nodes=2),
    "reset": Kind(_reset, "every connection between two nodes breaks, and both ends hear of it", nodes=2),
    "slow links": Kind(_slow_links, "two directions of links take up to 10, 100 or 500 ms, and may lose", nodes=2),
    "receive only": Kind(_receive_only, "nothing that one node sends arrives at any other", nodes=2),
    "send only": Kind(_send_only, "nothing arrives at one node from any other", nodes=2),
    "majority ring": Kind(_ring, "each node reaches a majority, and no two the same", nodes=4),
    "no controllers": Kind(_no_controllers, "one node is cut off from controllers; its data goes on", nodes=2),
    "refuse": Kind(_refuse, "connections between one node and the others break, and new ones are refused", nodes=2),
    "flapping": Kind(_flapping, "links of one node, or all links, carry every other second only", nodes=2),
    "late": Kind(_late, "everything between nodes takes half a second", nodes=2),
    "thin links": Kind(_thin, "what one node sends to others goes at 20 kB/s, 100 kB/s or 1 MB/s", nodes=2),
    "resets": Kind(_resets, "every second every fifth connection between nodes is reset", nodes=2),
    "hold": Kind(_hold, "one message of a random kind is held for a while; then it goes on, is lost, or comes twice"),
    "hold member": Kind(
        _hold_member, "the same with a message of operators, or one that follows from what they ask for"
    ),
    "hold transaction": Kind(
        _hold_transaction, "the same with a message of transactions (with `--workload transactions`)", usual=False
    ),
}

"""Many nodes as one thing: a local cluster of processes, what may be done to it, and what must hold afterwards."""

from ottla.cluster.control import ControlError, ControlServer, ask
from ottla.cluster.layout import ClusterLayout, LayoutError, NodePlan, free_base_port, prepare
from ottla.cluster.ledger import Ledger, PartitionLedger, Verdict
from ottla.cluster.process import NodeFailed, NodeProcess, NodeState, wait_for_exit
from ottla.cluster.supervisor import Supervisor

__all__ = [
    "ClusterLayout",
    "ControlError",
    "ControlServer",
    "LayoutError",
    "Ledger",
    "NodeFailed",
    "NodePlan",
    "NodeProcess",
    "NodeState",
    "PartitionLedger",
    "Supervisor",
    "Verdict",
    "ask",
    "free_base_port",
    "prepare",
    "wait_for_exit",
]

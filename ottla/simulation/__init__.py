"""A whole cluster in one process, in virtual time, from one seed: real nodes on a simulated loop, network and disk."""

from ottla.simulation.cluster import SimulatedCluster, controller, follower_of, leader_of
from ottla.simulation.errors import Anomaly, Deadlock, SimulationError
from ottla.simulation.hold import Hold
from ottla.simulation.link import Link
from ottla.simulation.links import CLIENTS
from ottla.simulation.loop import SimulatedLoop
from ottla.simulation.messages import Message
from ottla.simulation.network import Network
from ottla.simulation.node import SimulatedNode
from ottla.simulation.process import Machine, Process
from ottla.simulation.trace import Happening, Trace
from ottla.simulation.world import World, current_world, run

__all__ = [
    "CLIENTS",
    "Anomaly",
    "Deadlock",
    "Happening",
    "Hold",
    "Link",
    "Machine",
    "Message",
    "Network",
    "Process",
    "SimulatedCluster",
    "SimulatedLoop",
    "SimulatedNode",
    "SimulationError",
    "Trace",
    "World",
    "controller",
    "current_world",
    "follower_of",
    "leader_of",
    "run",
]

"""One node: configuration, wiring, start and stop."""

from ottla.node.config import NodeConfig, load_config
from ottla.node.errors import NodeError
from ottla.node.node import Node, Seams
from ottla.node.run import node_main, run_node
from ottla.node.sources import ConfigError, Given

__all__ = ["ConfigError", "Given", "Node", "NodeConfig", "NodeError", "Seams", "load_config", "node_main", "run_node"]

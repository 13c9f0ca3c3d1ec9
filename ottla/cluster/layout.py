"""Where a local cluster keeps its things: ports, directories, the nodes' configuration files and the secret."""

from __future__ import annotations

import json
import os
import random
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ottla.cluster.ids import new_cluster_id

CONTROLLER_PORT_STEP = 100
HTTP_PORT_STEP = 200
HOST = "127.0.0.1"


class LayoutError(Exception):
    """The directory cannot hold the cluster that was asked for; the text is for the person who asked."""


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One node of a local cluster: its id (from 1), addresses as ``host:port`` and its directory."""

    id: int
    kafka: str
    controller: str
    http: str
    directory: Path

    @property
    def config_file(self) -> Path:
        return self.directory / "node.toml"

    @property
    def log_file(self) -> Path:
        return self.directory / "node.log"

    @property
    def data_directory(self) -> Path:
        return self.directory / "data"


@dataclass(frozen=True, slots=True)
class ClusterLayout:
    """A cluster of ``len(nodes)`` processes on the loopback address, all below ``directory``."""

    directory: Path
    cluster_id: str
    nodes: tuple[NodePlan, ...]

    @property
    def bootstrap(self) -> str:
        return ",".join(node.kafka for node in self.nodes)

    @property
    def state_file(self) -> Path:
        return self.directory / "cluster.json"

    @property
    def control_file(self) -> Path:
        return self.directory / "control.json"

    @property
    def secret_file(self) -> Path:
        return self.directory / "secret"

    def node(self, node_id: int) -> NodePlan:
        """The plan of one node; raises LayoutError for an id that the cluster does not have."""
        for node in self.nodes:
            if node.id == node_id:
                return node
        known = ", ".join(str(node.id) for node in self.nodes)
        raise LayoutError(f"there is no node {node_id}; the nodes are {known}")


def prepare(
    directory: Path, *, nodes: int, base_port: int, settings: Mapping[str, str | int | bool] | None = None
) -> ClusterLayout:
    """Make (or take over) ``directory`` for ``nodes`` nodes and write their configuration files.

    A directory that was used before keeps its cluster id, secret and data; the number of nodes must then be the same.

    Raises:
        LayoutError: the directory holds a cluster of another size, or the ports do not fit below 65536.
    """
    if nodes < 1:
        raise LayoutError("a cluster has at least one node")
    if not (base_port > 0 and base_port + HTTP_PORT_STEP + nodes - 1 <= 65535) or nodes > CONTROLLER_PORT_STEP:
        raise LayoutError(f"the ports of {nodes} nodes from {base_port} on do not fit (each node needs three)")
    directory = directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    cluster_id = _kept_cluster_id(directory, nodes) or new_cluster_id()
    layout = ClusterLayout(
        directory=directory,
        cluster_id=cluster_id,
        nodes=tuple(_plan(directory, node_id, base_port) for node_id in range(1, nodes + 1)),
    )
    if not layout.secret_file.exists():
        _write_private(layout.secret_file, secrets.token_urlsafe(32))
    for node in layout.nodes:
        node.directory.mkdir(parents=True, exist_ok=True)
        node.config_file.write_text(render_config(node_settings(layout, node, settings or {})), encoding="utf-8")
    return layout


def node_settings(
    layout: ClusterLayout, node: NodePlan, extra: Mapping[str, str | int | bool]
) -> dict[str, str | int | bool]:
    """The configuration of one node under Kafka's names; ``extra`` wins over what a local cluster sets by itself."""
    replicas = min(3, len(layout.nodes))
    settings: dict[str, str | int | bool] = {
        "cluster.id": layout.cluster_id,
        "node.id": node.id,
        "process.roles": "broker,controller",
        "controller.quorum.voters": ",".join(f"{peer.id}@{peer.controller}" for peer in layout.nodes),
        "listeners": f"PLAINTEXT://{node.kafka},CONTROLLER://{node.controller}",
        "advertised.listeners": f"PLAINTEXT://{node.kafka}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "ottla.http.listener": node.http,
        "ottla.cluster.secret.file": str(layout.secret_file),
        "log.dirs": str(node.data_directory),
        "default.replication.factor": replicas,
        "min.insync.replicas": max(1, replicas - 1),
    }
    settings.update(extra)
    return settings


def render_config(settings: Mapping[str, str | int | bool]) -> str:
    """The settings as a TOML file with Kafka's dotted names as quoted keys."""
    return "".join(f"{json.dumps(key)} = {json.dumps(value)}\n" for key, value in settings.items())


def _plan(directory: Path, node_id: int, base_port: int) -> NodePlan:
    port = base_port + node_id - 1
    return NodePlan(
        id=node_id,
        kafka=f"{HOST}:{port}",
        controller=f"{HOST}:{port + CONTROLLER_PORT_STEP}",
        http=f"{HOST}:{port + HTTP_PORT_STEP}",
        directory=directory / f"node-{node_id}",
    )


def _kept_cluster_id(directory: Path, nodes: int) -> str | None:
    state = directory / "cluster.json"
    if not state.exists():
        return None
    try:
        kept = json.loads(state.read_text(encoding="utf-8"))
        cluster_id, before = str(kept["cluster_id"]), len(kept["nodes"])
    except (ValueError, KeyError, TypeError) as error:
        raise LayoutError(f"{state} is not the state file of a cluster: {error}") from error
    if before != nodes:
        raise LayoutError(f"{directory} holds a cluster of {before} nodes, not {nodes}")
    return cluster_id


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def free_base_port(nodes: int) -> int:
    """A base port at which all ports of ``nodes`` nodes are free right now. Raises LayoutError when there is none."""
    choice = random.SystemRandom()
    for _ in range(200):
        base = choice.randrange(20_000, 32_000)
        steps = (0, CONTROLLER_PORT_STEP, HTTP_PORT_STEP)
        if all(_free(base + step + index) for step in steps for index in range(nodes)):
            return base
    raise LayoutError("no free range of ports was found")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True

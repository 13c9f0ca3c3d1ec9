"""What must hold at every moment, looked at while the simulation goes on, by somebody who sees into all nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Any

from ottla.controller import MetadataImage
from ottla.simulation.cluster import SimulatedCluster
from ottla.simulation.errors import Anomaly

LOOK_EVERY_S = 0.01


class Invariants:
    """At most one leader per epoch and per term, no high watermark or commit index that goes back within a life, and
    equal metadata at equal offsets. Raises Anomaly from `look`.
    """

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self._leaders: dict[Hashable, int] = {}
        self._highest: dict[Hashable, int] = {}
        self._images: dict[int, MetadataImage] = {}

    async def watch(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    def look(self) -> None:
        for node in self._cluster.nodes.values():
            running = node.node
            if running is None or running.quorum is None or not running.quorum.started:
                continue
            life = (node.id, node.lives)
            driver = running.quorum.driver
            if driver.core.leading is not None:
                self._one_leader(("term", driver.term), node.id)
            self._not_back(("commit index", life), driver.commit_index)
            self._not_back(("term", life), driver.term)
            self._same_image(running.quorum.view.image)
            if running.broker is not None and running.broker.replicas is not None:
                for partition in running.broker.replicas.partitions():
                    self._partition(partition, life)

    def _partition(self, partition: Any, life: tuple[int, int]) -> None:
        if partition.is_leader:
            key = (partition.topic_id, partition.index, partition.leader_epoch)
            self._one_leader(key, life[0])
            self._not_back(("high watermark", *key, life), partition.high_watermark)

    def _one_leader(self, key: Hashable, node: int) -> None:
        other = self._leaders.setdefault(key, node)
        if other != node:
            raise Anomaly(f"two leaders, {other} and {node}, in one epoch: {key}")

    def _not_back(self, key: Hashable, value: int) -> None:
        if value < self._highest.get(key, value):
            raise Anomaly(f"{key} went back from {self._highest[key]} to {value}")
        self._highest[key] = value

    def _same_image(self, image: MetadataImage) -> None:
        known = self._images.setdefault(image.offset, image)
        if known is not image and known != image:
            raise Anomaly(f"metadata differs at offset {image.offset}")

"""The real decisions of the controller, each committed as soon as it is made; nodes see them one by one."""

from __future__ import annotations

import random
from typing import Any

from ottla.controller import ListenerModel, MetadataImage, Policy, RegisterBroker
from ottla.controller.metadata import apply, decide, fence
from ottla.controller.rpc import Heartbeat
from tests.metadata.cluster import alone
from tests.replication.stepped_node import TOPIC, Node


class SteppedController:
    """`history` has every image that there has been."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.policy = Policy()
        self.history: list[MetadataImage] = []
        self.image = MetadataImage(cluster_id="c")

    def decide_on(self, request: Any) -> Any:
        decision = decide(self.image, self.policy, request, self.rng, reports=alone(self.image, request))
        self.commit(decision.records)
        return decision.response

    def commit(self, records: Any) -> None:
        if records:
            self.image, _ = apply(self.image, records, self.image.offset + 1)
            self.history.append(self.image)

    def register(self, node: Node) -> None:
        node.incarnation += 1
        answer = self.decide_on(
            RegisterBroker(
                node_id=node.id,
                incarnation=f"{node.id}.{node.incarnation}",
                cluster_id="c",
                listeners=(ListenerModel(name="PLAINTEXT", host="h", port=node.id),),
            )
        )
        assert answer.error == 0
        node.broker_epoch = answer.epoch
        self.heartbeat(node)

    def heartbeat(self, node: Node) -> None:
        self.decide_on(Heartbeat(node_id=node.id, epoch=node.broker_epoch, applied_offset=self.image.offset))

    def fence(self, id: int) -> None:
        self.commit(fence(self.image, self.policy, [id]))

    @property
    def state(self) -> Any:
        return self.image.topics[TOPIC].partitions[0]

"""What a cluster's settings allow of new topics and partitions; Kafka has a class of Java for it (KIP-108).

Each limit has the name of its setting, which is what whoever breaks it is told.
"""

from dataclasses import dataclass
from typing import Final

from ottla.controller.metadata.config_def import INT_MAX

MAX_REPLICATION_FACTOR: Final = 32767

PARTITIONS_PER_REQUEST: Final = "ottla.policy.max.partitions.per.request"
PARTITIONS_PER_TOPIC: Final = "ottla.policy.max.partitions.per.topic"
LEAST_REPLICATION: Final = "ottla.policy.min.replication.factor"
MOST_REPLICATION: Final = "ottla.policy.max.replication.factor"


@dataclass(frozen=True, slots=True)
class Limits:
    """Internal topics are beyond all of them but the first: they are what the cluster itself needs."""

    partitions_per_request: int = 10_000
    partitions_per_topic: int = INT_MAX
    least_replication_factor: int = 1
    most_replication_factor: int = MAX_REPLICATION_FACTOR

    def request_error(self, partitions: int) -> str | None:
        """What is wrong with a request about so many partitions."""
        if partitions <= self.partitions_per_request:
            return None
        return (
            f"Excessively large number of partitions per request: {partitions}, more than {PARTITIONS_PER_REQUEST} = "
            f"{self.partitions_per_request}"
        )

    def partitions_error(self, topic: str, partitions: int) -> str | None:
        """What is wrong with a topic of so many partitions."""
        if partitions <= self.partitions_per_topic:
            return None
        return (
            f"Topic '{topic}' would have {partitions} partitions, more than {PARTITIONS_PER_TOPIC} = "
            f"{self.partitions_per_topic}"
        )

    def replication_error(self, topic: str, factor: int) -> str | None:
        """What is wrong with a new topic of that replication factor."""
        for wrong, word, name, limit in (
            (factor < self.least_replication_factor, "less", LEAST_REPLICATION, self.least_replication_factor),
            (factor > self.most_replication_factor, "more", MOST_REPLICATION, self.most_replication_factor),
        ):
            if wrong:
                return f"Topic '{topic}' would have replication factor {factor}, {word} than {name} = {limit}"
        return None

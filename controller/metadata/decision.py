"""What a decision is: the records to commit, and the answer to give once they are.

Decisions are pure functions from an image and a request. They change nothing: their records go through Raft and
`apply`, on the node that decided as on every other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Generic, TypeVar

from kio.schema.errors import ErrorCode

from ottla.controller.metadata.broker_config import TOPIC_DEFAULTS
from ottla.controller.metadata.config_def import ConfigDef
from ottla.controller.metadata.image import MetadataImage
from ottla.controller.metadata.limits import Limits
from ottla.controller.metadata.records import Record
from ottla.controller.metadata.resolve import resolve_one

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Decision(Generic[T]):
    """`response` holds for the image in which `records` are applied; without records it holds now."""

    records: tuple[Record, ...]
    response: T


@dataclass(frozen=True, slots=True)
class Policy:
    """What a node's configuration adds to decisions. `broker_defaults` are broker configs as text, by name;
    `broker_configs` says which ones exist."""

    default_partitions: int = 1
    default_replication_factor: int = 1
    session_timeout_ms: int = 9000
    limits: Limits = field(default_factory=Limits)
    broker_defaults: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    broker_configs: Mapping[str, ConfigDef] = field(default_factory=lambda: TOPIC_DEFAULTS)

    def unclean(self, image: MetadataImage, topic: str) -> bool:
        """Whether a replica outside the ISR may lead this topic's partitions when there is no other."""
        return resolve_one(image, self.broker_defaults, topic, "unclean.leader.election.enable").value is True

    def min_insync(self, image: MetadataImage, topic: str) -> int:
        """The topic's min.insync.replicas, below which nothing of it is committed."""
        return int(resolve_one(image, self.broker_defaults, topic, "min.insync.replicas").text)


class Refusal(Exception):
    """An item of a request cannot be done; `code` and the text become the item's answer."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

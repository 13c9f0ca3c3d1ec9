"""The set of voters (KIP-853), and how an entry of the log or a snapshot carries it.

A change of voters is an entry like any other, so that entries keep their form on disk and on the wire: the set
stands behind a prefix in its data. No other entry begins with a zero byte, as the controller's records are JSON.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple, Self

from ottla.controller.raft.errors import RaftInvariantError

ENTRY_PREFIX: Final = b"\x00voters:"
SNAPSHOT_PREFIX: Final = b"\x00voters+state:"
_SIZE_BYTES: Final = 4


class VoterNode(NamedTuple):
    """A voter: its node id, the directory id of its meta.properties ("" as long as nobody has told), and where its
    controller listener is (port 0: only the node's own settings know)."""

    node_id: int
    directory_id: str = ""
    host: str = ""
    port: int = 0


@dataclass(frozen=True)
class VoterSet:
    """Who votes. Sorted by node id; never empty in a log."""

    nodes: tuple[VoterNode, ...]

    @classmethod
    def of(cls, nodes: Iterable[VoterNode]) -> Self:
        return cls(tuple(sorted(nodes)))

    @classmethod
    def bootstrap(cls, ids: Iterable[int], addresses: Mapping[int, tuple[str, int]]) -> Self:
        """The voters of the settings, which are in force until the log has others."""
        return cls.of(VoterNode(node_id, "", *addresses.get(node_id, ("", 0))) for node_id in ids)

    @cached_property
    def ids(self) -> frozenset[int]:
        return frozenset(node.node_id for node in self.nodes)

    def get(self, node_id: int) -> VoterNode | None:
        return next((node for node in self.nodes if node.node_id == node_id), None)

    def with_node(self, node: VoterNode) -> "VoterSet":
        return VoterSet.of([*(each for each in self.nodes if each.node_id != node.node_id), node])

    def without(self, node_id: int) -> "VoterSet":
        return VoterSet.of(node for node in self.nodes if node.node_id != node_id)

    def encode(self) -> bytes:
        """As the data of an entry."""
        rows = [
            {"voterId": node.node_id, "voterDirectoryId": node.directory_id, "host": node.host, "port": node.port}
            for node in self.nodes
        ]
        return ENTRY_PREFIX + json.dumps({"version": 0, "voters": rows}, separators=(",", ":")).encode()


def is_voter_set(data: bytes) -> bool:
    return data.startswith(ENTRY_PREFIX)


def decode_voter_set(data: bytes) -> VoterSet | None:
    """The set of voters that the data of an entry carries, if any. Raises RaftInvariantError when it is damaged."""
    if not is_voter_set(data):
        return None
    try:
        document = json.loads(data[len(ENTRY_PREFIX) :])
        if document["version"] != 0:
            raise ValueError(f"version {document['version']} is not known")
        nodes = [_node(row) for row in document["voters"]]
    except (ValueError, KeyError, TypeError) as error:
        raise RaftInvariantError(f"the log has a set of voters that does not parse: {error}") from error
    if not nodes or len({node.node_id for node in nodes}) != len(nodes):
        raise RaftInvariantError("the log has a set of voters that is empty, or names one twice")
    return VoterSet.of(nodes)


def _node(row: dict[str, Any]) -> VoterNode:
    return VoterNode(int(row["voterId"]), str(row["voterDirectoryId"]), str(row["host"]), int(row["port"]))


def pack_snapshot(data: bytes, voters: VoterSet | None) -> bytes:
    """A state with the voters in force at its index; the state alone, as before there were any, when none are told."""
    if voters is None:
        return data
    encoded = voters.encode()
    return b"".join((SNAPSHOT_PREFIX, len(encoded).to_bytes(_SIZE_BYTES, "big"), encoded, data))


def unpack_snapshot(payload: bytes) -> tuple[bytes, VoterSet | None]:
    """Raises RaftInvariantError when it is damaged."""
    if not payload.startswith(SNAPSHOT_PREFIX):
        return payload, None
    start = len(SNAPSHOT_PREFIX) + _SIZE_BYTES
    end = start + int.from_bytes(payload[len(SNAPSHOT_PREFIX) : start], "big")
    voters = decode_voter_set(payload[start:end])
    if voters is None or end > len(payload):
        raise RaftInvariantError("a snapshot has a set of voters that does not parse")
    return payload[end:], voters

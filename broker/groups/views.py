"""What is told about groups to those who ask for it: lists and descriptions."""

from __future__ import annotations

from typing import NamedTuple

from ottla.broker.groups.classic import ClassicGroup, State


class Overview(NamedTuple):
    """One group in a list. `kind` is "classic" or "consumer"."""

    group_id: str
    protocol_type: str
    state: str
    kind: str


class DescribedMember(NamedTuple):
    id: str
    instance_id: str | None
    client_id: str
    client_host: str
    metadata: bytes
    assignment: bytes


class Described(NamedTuple):
    """A classic group as DescribeGroups has it."""

    state: str
    protocol_type: str
    protocol: str
    members: tuple[DescribedMember, ...]


OFFSETS_ONLY = Described(State.EMPTY.value, "", "", ())
"""A group that has committed offsets and never had members."""


def overview(group: ClassicGroup) -> Overview:
    return Overview(group.id, group.protocol_type or "", group.state.value, "classic")


def describe(group: ClassicGroup) -> Described:
    """Protocol, metadata and assignments are told of a stable group only: else they are not of one generation."""
    stable = group.state is State.STABLE
    members = tuple(
        DescribedMember(
            each.id,
            each.instance_id,
            each.client_id,
            each.client_host,
            each.metadata(group.protocol) if stable else b"",
            each.assignment if stable else b"",
        )
        for each in group.members.values()
    )
    return Described(group.state.value, group.protocol_type or "", (group.protocol or "") if stable else "", members)


def client_host(peer: str) -> str:
    """The host of `host:port`, written as Java writes an address."""
    host, _, _ = peer.rpartition(":")
    return f"/{host or peer}"

"""What a member of a classic group says to the coordinator, in words of no particular version."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from kio.schema.errors import ErrorCode

from ottla.client.group.assignors import Assignor
from ottla.client.group.model import Identity, MemberConfig
from ottla.client.group.protocol import Partitions, Subscription, encode_subscription

JOIN: Final = "join"
SYNC: Final = "sync"
HEARTBEAT: Final = "heartbeat"
LEAVE: Final = "leave"

CONSUMER: Final = "consumer"
"""The protocol type of groups that share partitions."""


AGAIN: Final = frozenset(
    {
        ErrorCode.coordinator_load_in_progress,
        ErrorCode.coordinator_not_available,
        ErrorCode.not_coordinator,
        ErrorCode.rebalance_in_progress,
        ErrorCode.request_timed_out,
        ErrorCode.network_exception,
        ErrorCode.unknown_server_error,
    }
)
GENERATION_OVER: Final = frozenset({ErrorCode.illegal_generation, ErrorCode.unknown_member_id})
STILL_A_MEMBER: Final = frozenset({ErrorCode.none, ErrorCode.rebalance_in_progress})


class Joined(NamedTuple):
    """What a JoinGroup answer says. `roster` is for the leader: (member id, instance id, metadata)."""

    member_id: str
    generation: int = -1
    protocol: str = ""
    leader: str = ""
    roster: Sequence[tuple[str, str | None, bytes]] = ()
    skip_assignment: bool = False

    @property
    def assigns(self) -> bool:
        """Whether this member leads, and has something to hand out (KIP-814)."""
        return self.leader == self.member_id and not self.skip_assignment

    @property
    def leads_again(self) -> bool:
        """Whether this member leads, and what was handed out before it came back stays (KIP-814)."""
        return self.leader == self.member_id and self.skip_assignment


def metadata_of(
    assignors: Sequence[Assignor],
    topics: Iterable[str],
    owned: Partitions,
    previous: tuple[Partitions, int],
    rack: str | None,
) -> list[tuple[str, bytes]]:
    """What the member tells the leader, by assignor. `previous` is its last assignment, and the generation of that."""
    before, generation = previous
    names, since = tuple(sorted(topics)), generation if owned else -1
    return [
        (each.name, encode_subscription(Subscription(names, owned, since, each.user_data(before, generation), rack)))
        for each in assignors
    ]


def join_values(
    config: MemberConfig, member_id: str, protocols: Sequence[tuple[str, bytes]], reason: str
) -> dict[str, Any]:
    """JoinGroup. The coordinator waits for members as long as their programs may be busy (KIP-62)."""
    return {
        "group_id": config.group_id,
        "session_timeout": round(config.session_timeout * 1000),
        "rebalance_timeout": round(config.max_poll_interval * 1000),
        "member_id": member_id,
        "group_instance_id": config.instance_id,
        "protocol_type": CONSUMER,
        "protocols": [{"name": name, "metadata": metadata} for name, metadata in protocols],
        "reason": reason[:255],
    }


def sync_values(config: MemberConfig, identity: Identity, protocol: str) -> dict[str, Any]:
    """SyncGroup, with no assignments yet: the leader's shell puts them in."""
    protocols = {"protocol_type": CONSUMER, "protocol_name": protocol}
    return {**heartbeat_values(config, identity), **protocols, "assignments": []}


def heartbeat_values(config: MemberConfig, identity: Identity) -> dict[str, Any]:
    """Heartbeat."""
    return {
        "group_id": config.group_id,
        "generation_id": identity.generation,
        "member_id": identity.member_id,
        "group_instance_id": config.instance_id,
    }


def leave_values(config: MemberConfig, identity: Identity, reason: str) -> dict[str, Any]:
    """LeaveGroup, of this one member in every version."""
    who = {"member_id": identity.member_id, "group_instance_id": config.instance_id, "reason": reason}
    return {"group_id": config.group_id, "member_id": identity.member_id, "members": [who]}

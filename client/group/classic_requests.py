"""What a member of a classic group says to the coordinator, in words of no particular version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from ottla.client.group.model import Identity, MemberConfig

JOIN: Final = "join"
SYNC: Final = "sync"
HEARTBEAT: Final = "heartbeat"
LEAVE: Final = "leave"

CONSUMER: Final = "consumer"
"""The protocol type of groups that share partitions."""


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

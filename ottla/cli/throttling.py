"""Throttles of a reassignment (KIP-73): put in place before it begins, and taken away when it is done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ottla.client import Admin, TopicPartition

LEADER, FOLLOWER = "leader.replication.throttled", "follower.replication.throttled"
EVERY_BROKER = ""


async def set_throttle(
    admin: Admin, moves: Mapping[TopicPartition, tuple[Sequence[int], Sequence[int]]], rate: int
) -> None:
    """No broker sends, or fetches, more than `rate` bytes per second for these moves: of each partition those are named
    that have it, as leaders, and those that do not have it yet, as followers."""
    from ottla.client import ConfigResource

    leaders: dict[str, list[str]] = {}
    followers: dict[str, list[str]] = {}
    for (topic, index), (before, after) in moves.items():
        leaders.setdefault(topic, []).extend(f"{index}:{broker}" for broker in before)
        followers.setdefault(topic, []).extend(f"{index}:{broker}" for broker in after if broker not in before)
    changes: dict[ConfigResource, dict[str, str | None]] = {
        ConfigResource("topic", topic): {
            f"{LEADER}.replicas": ",".join(leaders[topic]),
            f"{FOLLOWER}.replicas": ",".join(followers[topic]),
        }
        for topic in leaders
    }
    changes[ConfigResource("broker", EVERY_BROKER)] = {f"{LEADER}.rate": str(rate), f"{FOLLOWER}.rate": str(rate)}
    await admin.incremental_alter_configs(changes)


async def clear_throttle(admin: Admin, topics: Iterable[str]) -> None:
    """Of these topics, and the rates of all brokers."""
    from ottla.client import ConfigResource

    changes: dict[ConfigResource, dict[str, str | None]] = {
        ConfigResource("topic", topic): {f"{LEADER}.replicas": None, f"{FOLLOWER}.replicas": None}
        for topic in dict.fromkeys(topics)
    }
    changes[ConfigResource("broker", EVERY_BROKER)] = {f"{LEADER}.rate": None, f"{FOLLOWER}.rate": None}
    await admin.incremental_alter_configs(changes)

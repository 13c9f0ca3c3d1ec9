"""Questions about the groups of a shard, whatever their protocol. Nothing is changed here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from kio.schema.errors import ErrorCode

from ottla.broker.groups import classic
from ottla.broker.groups.classic import State
from ottla.broker.groups.offsets import At, Standing
from ottla.broker.groups.records import OffsetValue
from ottla.broker.groups.shard import Shard
from ottla.broker.groups.views import OFFSETS_ONLY, Described, Overview, describe, overview


class GroupSummary(NamedTuple):
    """One group for metrics: not to be kept, as `offsets` is the store's own."""

    group_id: str
    state: str
    members: int
    offsets: Mapping[At, OffsetValue]


def summaries(shard: Shard) -> Iterator[GroupSummary]:
    for row in overviews(shard):
        group = shard.groups.get(row.group_id) or shard.consumers.groups.get(row.group_id)
        members = 0 if group is None else len(group.members)
        yield GroupSummary(row.group_id, row.state, members, shard.offsets.of(row.group_id))


def overviews(shard: Shard) -> list[Overview]:
    rows = [overview(group) for group in shard.groups.values() if not group.forgettable]
    rows += [Overview(each.id, "consumer", each.state, "consumer") for each in shard.consumers.groups.values()]
    known = {row.group_id for row in rows}
    rows += [Overview(each, "", State.EMPTY.value, "classic") for each in shard.offsets if each not in known]
    return rows


def described(shard: Shard, group_id: str) -> Described | None:
    """None for a group that does not exist, or is no classic one."""
    if group_id in shard.consumers.groups:
        return None
    group = shard.groups.get(group_id)
    if group is None:
        return OFFSETS_ONLY if group_id in shard.offsets else None
    return None if group.state is State.DEAD else describe(group)


def topics_in_use(shard: Shard, group_id: str) -> frozenset[str] | ErrorCode:
    """The topics whose offsets must not be deleted, or GROUP_ID_NOT_FOUND, or NON_EMPTY_GROUP (KIP-496)."""
    found = shard.consumers.groups.get(group_id)
    if found is not None:
        return found.subscribed(shard.topics())
    group = shard.groups.get(group_id)
    if group is None:
        return frozenset() if group_id in shard.offsets else ErrorCode.group_id_not_found
    if group.state is State.DEAD:
        return ErrorCode.group_id_not_found
    if group.state is State.EMPTY:
        return frozenset()
    if group.protocol_type != classic.CONSUMER:
        return ErrorCode.non_empty_group
    subscribed = group.subscribed()
    # Of members whose metadata cannot be read, any topic may be theirs.
    return frozenset(topic for topic, _ in shard.offsets.of(group_id)) if subscribed is None else subscribed


def standing(shard: Shard, group_id: str) -> Standing:
    found = shard.consumers.groups.get(group_id)
    if found is not None:
        return shard.consumers.standing(found)
    group = shard.groups.get(group_id)
    if group is None:
        return Standing(None, True, False, -1, None)
    empty, stable = group.state is State.EMPTY, group.state is State.STABLE
    return Standing(group.protocol_type, empty, stable, group.since, group.subscribed())

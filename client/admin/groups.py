"""ListGroups, DescribeGroups, LeaveGroup, DeleteGroups, and the committed offsets of groups."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from kio.schema.errors import ErrorCode

from ottla.client.admin.everybody import ask_everybody
from ottla.client.coordinator import GONE, Coordinator, at_coordinator
from ottla.client.errors import UnsupportedVersionError, error_for
from ottla.client.group.model import Identity
from ottla.client.group.offsets import Committed, commit_once, fetch_once
from ottla.client.group.protocol import BadMetadata, decode_assignment
from ottla.client.network import Network
from ottla.client.structs import GroupDescription, GroupListing, GroupMemberDescription, TopicPartition

LEAVE_GROUP: Final = 13
DESCRIBE_GROUPS: Final = 15
LIST_GROUPS: Final = 16
DELETE_GROUPS: Final = 42
OFFSET_DELETE: Final = 47
CONSUMER_GROUP_DESCRIBE: Final = 69
PATIENCE: Final = 5.0


def _check(
    coordinator: Coordinator,
    code: ErrorCode,
    group_id: str,
    node: int,
    tp: TopicPartition | None = None,
    text: str | None = None,
) -> None:
    if code in GONE:
        coordinator.lost(node)
    if code is not ErrorCode.none:
        raise error_for(code, text, group_id=group_id, broker=node, partition=tp)


async def list_all(network: Network, timeout: float, states: list[str], types: list[str]) -> list[GroupListing]:
    """ListGroups (key 16), versions 0 to 5, of every broker: each knows the groups that it coordinates."""
    # A broker that does not know the filters would list everything.
    versions = (5 if types else 4 if states else 0, 5)
    values = {"states_filter": states, "types_filter": types}
    found: dict[str, GroupListing] = {}
    for node, answer in (await ask_everybody(network, LIST_GROUPS, versions, values, timeout)).items():
        for row in answer.groups:
            state, kind = getattr(row, "group_state", ""), getattr(row, "group_type", "")
            found[row.group_id] = GroupListing(row.group_id, row.protocol_type, state, kind, node)
    return [found[name] for name in sorted(found)]


async def describe(network: Network, group_id: str, timeout: float) -> GroupDescription:
    """ConsumerGroupDescribe (key 69), and DescribeGroups (key 15), versions 0 to 6, for the groups that it does not
    know. Raises GroupIdNotFoundError."""

    async def ask(coordinator: Coordinator) -> GroupDescription:
        try:
            found = await _describe_consumer(coordinator, group_id)
        except UnsupportedVersionError:
            found = None
        return found or await _describe_classic(coordinator, group_id)

    return await at_coordinator(network, group_id, timeout, ask)


async def describe_classic(network: Network, group_id: str, timeout: float) -> GroupDescription:
    """DescribeGroups alone. Raises GroupIdNotFoundError."""
    return await at_coordinator(network, group_id, timeout, lambda each: _describe_classic(each, group_id))


async def _describe_consumer(coordinator: Coordinator, group_id: str) -> GroupDescription | None:
    """None if it is no group of that kind."""
    values = {"group_ids": [group_id], "include_authorized_operations": False}
    answer, node = await coordinator.call(CONSUMER_GROUP_DESCRIBE, (0, 1), values, timeout=PATIENCE)
    row = answer.groups[0]
    if row.error_code in (ErrorCode.group_id_not_found, ErrorCode.unsupported_version):
        return None
    _check(coordinator, row.error_code, group_id, node)
    members = tuple(
        GroupMemberDescription(
            member.member_id,
            member.instance_id,
            member.client_id,
            member.client_host,
            tuple(
                sorted(
                    TopicPartition(topic.topic_name, index)
                    for topic in member.assignment.topic_partitions
                    for index in topic.partitions
                )
            ),
        )
        for member in row.members
    )
    return GroupDescription(
        group_id, row.group_state, "consumer", row.assignor_name, members, node, "consumer", row.group_epoch
    )


async def _describe_classic(coordinator: Coordinator, group_id: str) -> GroupDescription:
    values = {"groups": [group_id], "include_authorized_operations": False}
    answer, node = await coordinator.call(DESCRIBE_GROUPS, (0, 6), values, timeout=PATIENCE)
    row = answer.groups[0]
    _check(coordinator, row.error_code, group_id, node, text=getattr(row, "error_message", None))
    if row.group_state == "Dead" and not row.members:
        # Before version 6 that is how a group that does not exist is described (KIP-1043).
        raise error_for(ErrorCode.group_id_not_found, group_id=group_id, broker=node)
    members = tuple(
        GroupMemberDescription(
            member.member_id,
            getattr(member, "group_instance_id", None),
            member.client_id,
            member.client_host,
            _assigned(bytes(member.member_assignment)) if row.protocol_type == "consumer" else (),
        )
        for member in row.members
    )
    return GroupDescription(group_id, row.group_state, row.protocol_type, row.protocol_data, members, node, "classic")


def _assigned(data: bytes) -> tuple[TopicPartition, ...]:
    try:
        return tuple(sorted(decode_assignment(data)))
    except BadMetadata:
        # Whatever its members have agreed upon, it is not for us to read.
        return ()


async def remove_members(
    network: Network, group_id: str, instance_ids: list[str] | None, reason: str | None, timeout: float
) -> None:
    """LeaveGroup (key 13), versions 3 to 5, in the name of others. Raises the first error."""
    text = "member was removed by an admin" + (f": {reason}" if reason else "")
    # An instance is named without its member id: it may have come back with another one.
    members: list[tuple[str, str | None]] = [("", instance) for instance in instance_ids or ()]
    if instance_ids is None:
        described = await describe(network, group_id, timeout)
        members = [
            ("" if member.instance_id else member.member_id, member.instance_id or None) for member in described.members
        ]
    if not members:
        return
    rows = [{"member_id": member, "group_instance_id": instance, "reason": text} for member, instance in members]

    async def ask(coordinator: Coordinator) -> None:
        values = {"group_id": group_id, "members": rows}
        answer, node = await coordinator.call(LEAVE_GROUP, (3, 5), values, timeout=PATIENCE)
        _check(coordinator, answer.error_code, f"group {group_id!r}", node)
        for row in answer.members:
            who = f"member {row.group_instance_id or row.member_id!r} of group {group_id!r}"
            _check(coordinator, row.error_code, who, node)

    await at_coordinator(network, group_id, timeout, ask)


async def delete(network: Network, group_id: str, timeout: float) -> None:
    """DeleteGroups (key 42), versions 0 to 2."""

    async def ask(coordinator: Coordinator) -> None:
        values = {"groups_names": [group_id]}
        answer, node = await coordinator.call(DELETE_GROUPS, (0, 2), values, timeout=PATIENCE)
        _check(coordinator, answer.results[0].error_code, group_id, node)

    await at_coordinator(network, group_id, timeout, ask)


async def offsets(
    network: Network, group_id: str, partitions: Iterable[TopicPartition] | None, timeout: float, require_stable: bool
) -> Committed:
    """OffsetFetch (key 9): those of the partitions that have an offset; None asks for all of them."""
    wanted = None if partitions is None else [TopicPartition(*tp) for tp in partitions]

    async def ask(coordinator: Coordinator) -> Committed:
        found, errors, node = await fetch_once(coordinator, group_id, wanted, PATIENCE, require_stable=require_stable)
        for tp, code in errors.items():
            raise error_for(code, group_id=group_id, broker=node, partition=tp)
        return found

    return await at_coordinator(network, group_id, timeout, ask)


async def alter_offsets(network: Network, group_id: str, places: Committed, timeout: float) -> None:
    """OffsetCommit (key 8) without being a member, which only a group without members allows."""
    if not places:
        return
    left = dict(places)

    async def ask(coordinator: Coordinator) -> None:
        told, node = await commit_once(coordinator, group_id, Identity(), left, PATIENCE)
        for tp, code in told.items():
            if code is ErrorCode.none:
                left.pop(tp, None)
        for tp, code in told.items():
            if code is ErrorCode.unknown_member_id:
                # So it is said to somebody who is no member; what it means is that there are some.
                raise error_for(ErrorCode.non_empty_group, group_id=group_id, broker=node)
            _check(coordinator, code, group_id, node, tp)

    await at_coordinator(network, group_id, timeout, ask)


async def delete_offsets(network: Network, group_id: str, partitions: Iterable[TopicPartition], timeout: float) -> None:
    """OffsetDelete (key 47). Raises the first error: GROUP_SUBSCRIBED_TO_TOPIC for one that is in use."""
    topics: dict[str, list[dict[str, Any]]] = {}
    for topic, index in partitions:
        topics.setdefault(topic, []).append({"partition_index": index})
    values = {"group_id": group_id, "topics": [{"name": name, "partitions": rows} for name, rows in topics.items()]}

    async def ask(coordinator: Coordinator) -> None:
        answer, node = await coordinator.call(OFFSET_DELETE, (0, 0), values, timeout=PATIENCE)
        _check(coordinator, answer.error_code, group_id, node)
        for topic in answer.topics:
            for row in topic.partitions:
                tp = TopicPartition(topic.name, row.partition_index)
                _check(coordinator, row.error_code, group_id, node, tp)

    await at_coordinator(network, group_id, timeout, ask)

"""DescribeQuorum, v0-v2: the Raft quorum of the controllers (KIP-595, KIP-836).

v1 fetch and catch-up times · v2 error messages, directory ids and the listeners of the controllers (KIP-853).

Differences from Kafka: a broker that is not the active controller does not pass the question on, but answers leader,
term and its own commit index with NOT_LEADER_OR_FOLLOWER: enough to go and ask the right one. The log is pushed: the
last fetch of a member is the last request of the leader that it has answered, at the time when it was sent. Of a member
that the leader has not heard of, the times (-1) and the directory id are not known. A partition that is named several
times is answered once. The controllers' listener is closed to clients, so `nodes` is empty.
"""

from __future__ import annotations

from kio.schema.errors import ErrorCode

from ottla.broker.context import Answer, BrokerContext, QuorumMember, QuorumStatus
from ottla.log import decode_uuid
from ottla.wire import Request

TOPIC = "__cluster_metadata"


def handle(context: BrokerContext, request: Request) -> Answer:
    status, now_ms = context.quorum(), context.clock()
    rows = dict.fromkeys(
        (topic.topic_name, row.partition_index) for topic in request.body.topics for row in topic.partitions
    )
    partitions: dict[str, list[dict[str, object]]] = {}
    for name, index in rows:
        partitions.setdefault(name, []).append(_partition(status, name, index, now_ms))
    return {
        "error_code": ErrorCode.none,
        "topics": [{"topic_name": name, "partitions": found} for name, found in partitions.items()],
        "nodes": (),
    }


def _partition(status: QuorumStatus, topic: str, index: int, now_ms: int) -> dict[str, object]:
    if topic != TOPIC or index != 0:
        return {
            "partition_index": index,
            "error_code": ErrorCode.unknown_topic_or_partition,
            "leader_id": -1,
            "leader_epoch": -1,
            "high_watermark": -1,
        }
    leads = status.leader_id == status.node_id
    members = status.members or tuple(QuorumMember(voter, -1, voter=True) for voter in status.voters)
    return {
        "partition_index": index,
        "error_code": ErrorCode.none if leads else ErrorCode.not_leader_or_follower,
        "leader_id": status.leader_id,
        "leader_epoch": status.term,
        "high_watermark": status.high_watermark,
        "current_voters": [_member(member, now_ms) for member in members if member.voter],
        "observers": [_member(member, now_ms) for member in members if not member.voter],
    }


def _member(member: QuorumMember, now_ms: int) -> dict[str, object]:
    return {
        "replica_id": member.id,
        "replica_directory_id": decode_uuid(member.directory_id) if member.directory_id else None,
        "log_end_offset": member.log_end_offset,
        "last_fetch_timestamp": _ago(now_ms, member.last_contact_ms),
        "last_caught_up_timestamp": _ago(now_ms, member.last_caught_up_ms),
    }


def _ago(now_ms: int, age_ms: int) -> int:
    return now_ms - age_ms if age_ms >= 0 else -1

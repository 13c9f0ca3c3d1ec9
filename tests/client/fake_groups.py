"""The group coordinator of the fake brokers: it keeps nothing, and lets nobody in."""

from __future__ import annotations

from typing import Any, Final

from kio.schema.errors import ErrorCode


async def _commit(node: int, body: Any) -> Any:
    topics = [
        {
            "name": topic.name,
            "partitions": [
                {"partition_index": row.partition_index, "error_code": ErrorCode.none} for row in topic.partitions
            ],
        }
        for topic in body.topics
    ]
    return {"topics": topics}


async def _fetch(node: int, body: Any) -> Any:
    def row(index: int) -> dict[str, Any]:
        return {"partition_index": index, "committed_offset": -1, "metadata": "", "error_code": ErrorCode.none}

    groups = [
        {
            "group_id": group.group_id,
            "topics": [
                {"name": topic.name, "partitions": [row(index) for index in topic.partition_indexes]}
                for topic in group.topics
            ],
        }
        for group in body.groups
    ]
    return {"groups": groups}


async def _join(node: int, body: Any) -> Any:
    return {"error_code": ErrorCode.inconsistent_group_protocol, "generation_id": -1, "leader": "", "member_id": ""}


async def _heartbeat(node: int, body: Any) -> Any:
    return {"error_code": ErrorCode.unsupported_assignor, "error_message": "no", "member_epoch": 0}


APIS: Final = (
    (8, "offset_commit", 2, 9, _commit),
    (9, "offset_fetch", 8, 9, _fetch),
    (11, "join_group", 2, 9, _join),
    (68, "consumer_group_heartbeat", 0, 1, _heartbeat),
)

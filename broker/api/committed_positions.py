"""The rows of OffsetCommit and TxnOffsetCommit: which of them can be written down, and what each is told."""

from __future__ import annotations

from collections.abc import Mapping

from kio.schema.errors import ErrorCode

from ottla.broker.context import Answer, BrokerContext
from ottla.broker.groups import Position
from ottla.controller import TopicImage


def _topic(context: BrokerContext, topic: object, by_id: bool) -> TopicImage | None:
    image = context.view.image
    if by_id:
        topic_id = getattr(topic, "topic_id", None)
        return None if topic_id is None else image.topic_by_id(topic_id)
    return image.topics.get(getattr(topic, "name", ""))


def sort_out(
    context: BrokerContext, body: object, by_id: bool
) -> tuple[list[Position], dict[tuple[int, int], ErrorCode]]:
    """What can be written, and the errors of the other rows, by their place in the request."""
    most = context.groups.config.offset_metadata_max_bytes
    positions: list[Position] = []
    errors: dict[tuple[int, int], ErrorCode] = {}
    topics: tuple[object, ...] = getattr(body, "topics", ())
    for at, topic in enumerate(topics):
        found = _topic(context, topic, by_id)
        rows: tuple[object, ...] = getattr(topic, "partitions", ())
        for place, row in enumerate(rows):
            index: int = getattr(row, "partition_index", -1)
            metadata: str | None = getattr(row, "committed_metadata", None)
            if found is None:
                errors[at, place] = ErrorCode.unknown_topic_id if by_id else ErrorCode.unknown_topic_or_partition
            elif index not in found.partitions:
                errors[at, place] = ErrorCode.unknown_topic_or_partition
            elif metadata is not None and len(metadata.encode()) > most:
                errors[at, place] = ErrorCode.offset_metadata_too_large
            else:
                offset: int = getattr(row, "committed_offset", -1)
                epoch: int = getattr(row, "committed_leader_epoch", -1)
                positions.append(Position(found.name, found.id, index, offset, epoch, metadata))
    return positions, errors


def told(outcome: ErrorCode) -> ErrorCode:
    return ErrorCode.invalid_commit_offset_size if outcome is ErrorCode.message_too_large else outcome


def answer(body: object, by_id: bool, errors: Mapping[tuple[int, int], ErrorCode], others: ErrorCode) -> Answer:
    name = "topic_id" if by_id else "name"
    topics: tuple[object, ...] = getattr(body, "topics", ())
    rows = []
    for at, topic in enumerate(topics):
        partitions: tuple[object, ...] = getattr(topic, "partitions", ())
        rows.append(
            {
                name: getattr(topic, name),
                "partitions": [
                    {
                        "partition_index": getattr(row, "partition_index", -1),
                        "error_code": errors.get((at, place), others),
                    }
                    for place, row in enumerate(partitions)
                ],
            }
        )
    return {"topics": rows}

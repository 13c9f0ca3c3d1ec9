"""DeleteTopics, by name or by id (KIP-516)."""

from uuid import UUID

from kio.schema.errors import ErrorCode

from ottla.controller.metadata.decision import Decision, Refusal
from ottla.controller.metadata.image import MetadataImage, TopicImage
from ottla.controller.metadata.records import TopicDeleted
from ottla.controller.rpc.models.topics import DeleteTopics, DeleteTopicsResponse, TopicRef, TopicResult


def delete_topics(image: MetadataImage, request: DeleteTopics) -> Decision[DeleteTopicsResponse]:
    """Answers per topic UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID, INVALID_REQUEST (no or two ways of naming it,
    or asked for before in the same request)."""
    gone: dict[UUID, TopicDeleted] = {}
    results = []
    for ref in request.topics:
        try:
            topic = _find(image, ref)
            if topic.id in gone:
                raise Refusal(ErrorCode.invalid_request, "Duplicate topic.")
        except Refusal as refusal:
            results.append(
                TopicResult(name=ref.name, topic_id=ref.topic_id, error=refusal.code.value, message=refusal.message)
            )
            continue
        gone[topic.id] = TopicDeleted(id=topic.id)
        results.append(TopicResult(name=topic.name, topic_id=topic.id, partitions=len(topic.partitions)))
    return Decision(tuple(gone.values()), DeleteTopicsResponse(topics=tuple(results)))


def _find(image: MetadataImage, ref: TopicRef) -> TopicImage:
    if (ref.name is None) == (ref.topic_id is None):
        raise Refusal(ErrorCode.invalid_request, "Give either the topic's name or its id.")
    if ref.name is not None:
        topic = image.topics.get(ref.name)
        if topic is None:
            raise Refusal(ErrorCode.unknown_topic_or_partition, "This server does not host this topic-partition.")
        return topic
    assert ref.topic_id is not None
    topic = image.topic_by_id(ref.topic_id)
    if topic is None:
        raise Refusal(ErrorCode.unknown_topic_id, "This server does not host this topic ID.")
    return topic

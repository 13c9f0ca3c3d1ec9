"""Which log on disk is a replica's, and what becomes of those that are nobody's."""

from __future__ import annotations

from collections.abc import Container

import structlog

from ottla.broker.replication.config import TopicSettings
from ottla.controller import MetadataImage, TopicImage
from ottla.log import DiskError, LogManager, PartitionLog

log = structlog.get_logger(__name__)


def find_log(logs: LogManager, topic: TopicImage, index: int, settings: TopicSettings, *, own: int) -> PartitionLog:
    """The log of a replica of broker `own`, made if there is none of this very topic.

    One of an older topic of the name goes: its records must not resurface (KIP-516). Raises DiskError, LogError.
    """
    found = logs.topic_id(topic.name, index)
    if found is not None and found != topic.id:
        log.warning("old_topic_on_disk", topic=topic.name, partition=index, topic_id=str(topic.id), old=str(found))
        logs.delete_log(topic.name, index)
    held = logs.get(topic.name, index)
    if found is None and held is not None and held.log_end_offset:
        # Whose records these are cannot be told; what was promised is on the other replicas.
        logs.set_aside(topic.name, index)
    state = topic.partitions[index]
    if logs.is_damaged(topic.name, index) and state.isr != (own,) and state.last_known_leader != own:
        # Others have all that is committed, and this replica is none of the ISR since it has registered.
        logs.set_aside(topic.name, index)
    return logs.create_log(topic.name, topic.id, index, settings.log)


def clear_strays(logs: LogManager, image: MetadataImage, held: Container[tuple[str, int]]) -> None:
    """Put the logs out of the way that are none of the partitions `held` here, also those that could not be opened.

    What was moved to other brokers while this one was down goes for good: all that is wanted had everything before
    this replica was dropped. A log of a topic that the metadata do not know is kept beside the others. Raises DiskError
    for a log that was opened.
    """
    for key, _ in logs:
        if key not in held:
            _put_away(logs, image, *key)
    for key in list(logs.offline):
        if key not in held:
            try:
                _put_away(logs, image, *key)
            except DiskError as error:
                # It could not be read, either. The other logs may be well; at the next start this is tried again.
                log.warning("stray_left", topic=key[0], partition=key[1], error=str(error))


def _put_away(logs: LogManager, image: MetadataImage, topic: str, index: int) -> None:
    known = image.topics.get(topic)
    if known is not None and index in known.partitions and known.id == logs.topic_id(topic, index):
        logs.delete_log(topic, index)
    else:
        logs.set_aside(topic, index)

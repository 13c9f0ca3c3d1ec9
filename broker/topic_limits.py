"""What each topic allows a producer, resolved once per change of the configuration and not once per batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ottla.broker.batch_checks import BatchLimits
from ottla.controller import MetadataImage, resolve_one
from ottla.records import Compression

MAX_TOPICS = 20_000

_KEYS = (
    "max.message.bytes",
    "segment.bytes",
    "message.timestamp.type",
    "message.timestamp.before.max.ms",
    "message.timestamp.after.max.ms",
    "cleanup.policy",
    "compression.type",
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.zstd.level",
)
_CODECS = {"uncompressed": Compression.NONE, **{codec.name.lower(): codec for codec in Compression if codec}}
_USUAL_GZIP_LEVEL = -1


class TopicLimits:
    """`of(topic)` is a dictionary lookup while no config changes (the image then keeps the same `configs` mapping)."""

    def __init__(
        self, image: Callable[[], MetadataImage], broker_values: Callable[[], Mapping[str, str]], node_id: int
    ) -> None:
        self._image = image
        self._broker_values = broker_values
        self._node_id = node_id
        self._configs: object = None
        self._limits: dict[str, BatchLimits] = {}

    def of(self, topic: str) -> BatchLimits:
        """The limits of a topic; those of a topic that sets nothing when it is not known."""
        image = self._image()
        if image.configs is not self._configs:
            self._configs = image.configs
            self._limits = {}
        limits = self._limits.get(topic)
        if limits is None:
            if len(self._limits) >= MAX_TOPICS:
                self._limits = {}
            limits = self._limits[topic] = self._resolve(image, topic)
        return limits

    def _resolve(self, image: MetadataImage, topic: str) -> BatchLimits:
        values = {key: resolve_one(image, self._broker_values(), topic, key, self._node_id).text for key in _KEYS}
        return BatchLimits(
            max_message_bytes=int(values["max.message.bytes"]),
            segment_bytes=int(values["segment.bytes"]),
            log_append_time=values["message.timestamp.type"] == "LogAppendTime",
            timestamp_before_max_ms=int(values["message.timestamp.before.max.ms"]),
            timestamp_after_max_ms=int(values["message.timestamp.after.max.ms"]),
            compacted="compact" in values["cleanup.policy"],
            codec=_CODECS.get(values["compression.type"], -1),
            level=_level(values),
        )


def _level(values: Mapping[str, str]) -> int | None:
    text = values.get(f"compression.{values['compression.type']}.level")
    return None if text is None or int(text) == _USUAL_GZIP_LEVEL else int(text)

"""What a topic's configs mean to its replicas."""

import pytest

from ottla.broker.replication import topic_settings
from ottla.controller import MetadataImage, resolve


def flush_of(**configs: str) -> str:
    given = {name.replace("_", "."): value for name, value in configs.items()}
    image = MetadataImage("c", configs={("topic", "t"): given})
    return topic_settings({name: row.value for name, row in resolve(image, {}, "t").items()}).log.flush


def test_without_a_flush_config_writing_back_is_left_to_the_system() -> None:
    assert flush_of() == "os"


@pytest.mark.parametrize("configs", [{"flush_messages": "1"}, {"flush_messages": "1000"}, {"flush_ms": "0"}])
def test_any_flush_config_asks_for_a_sync(configs: dict[str, str]) -> None:
    assert flush_of(**configs) == "synced"

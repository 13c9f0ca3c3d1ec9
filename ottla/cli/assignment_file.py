"""The JSON of kafka-reassign-partitions.sh: which replicas partitions have, or shall have."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ottla.cli.main import CommandError

if TYPE_CHECKING:
    from ottla.client import TopicPartition

VERSION = 1


def write_assignment(assignment: Mapping[TopicPartition, Sequence[int]]) -> str:
    """`{"version":1,"partitions":[{"topic":...,"partition":...,"replicas":[...],"log_dirs":[...]}]}`, in order."""
    rows = [
        {"topic": tp.topic, "partition": tp.partition, "replicas": list(replicas), "log_dirs": ["any"] * len(replicas)}
        for tp, replicas in sorted(assignment.items())
    ]
    return json.dumps({"version": VERSION, "partitions": rows}, separators=(",", ":"))


def read_assignment(path: Path) -> dict[TopicPartition, tuple[int, ...]]:
    """Raises CommandError for a file that is none, that names a partition twice, or a directory: there is only one."""
    from ottla.client import TopicPartition

    assignment: dict[TopicPartition, tuple[int, ...]] = {}
    for row in _rows(path, "partitions"):
        topic, index, replicas = row.get("topic"), row.get("partition"), row.get("replicas")
        numbers = isinstance(replicas, list) and all(type(each) is int for each in replicas)
        if not (isinstance(topic, str) and type(index) is int and numbers):
            raise CommandError(f"{path}: {json.dumps(row)} is no partition with its replicas")
        if any(directory != "any" for directory in row.get("log_dirs") or ()):
            raise CommandError(f'{path}: {topic}-{index}: log_dirs other than "any" are not supported')
        if TopicPartition(topic, index) in assignment:
            raise CommandError(f"{path}: {topic}-{index} is named twice")
        assert isinstance(replicas, list)
        assignment[TopicPartition(topic, index)] = tuple(replicas)
    return assignment


def read_topics(path: Path) -> list[str]:
    """The names in `{"version":1,"topics":[{"topic":...}]}`, for --generate. Raises CommandError."""
    names = [row.get("topic") for row in _rows(path, "topics")]
    if not all(isinstance(name, str) for name in names):
        raise CommandError(f"{path}: a topic without a name")
    return [str(name) for name in names]


def read_partitions(path: Path) -> list[TopicPartition]:
    """The partitions in `{"partitions":[{"topic":...,"partition":...}]}`, for elections. Raises CommandError."""
    from ottla.client import TopicPartition

    found = []
    for row in _rows(path, "partitions"):
        topic, index = row.get("topic"), row.get("partition")
        if not (isinstance(topic, str) and type(index) is int):
            raise CommandError(f"{path}: {json.dumps(row)} is no partition")
        found.append(TopicPartition(topic, index))
    return found


def _rows(path: Path, name: str) -> list[dict[str, Any]]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise CommandError(f"{path} is not JSON: {error}") from error
    rows = document.get(name) if isinstance(document, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise CommandError(f'{path} has no list "{name}"')
    if document.get("version", VERSION) != VERSION:
        raise CommandError(f"{path}: version {document['version']} is not {VERSION}")
    return rows

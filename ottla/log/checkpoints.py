"""Kafka's small text files: offset checkpoints, leader epochs, partition.metadata, meta.properties, marker."""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from uuid import UUID

from ottla.log.disk import Disk
from ottla.log.errors import CorruptFile

RECOVERY_POINT_FILE = "recovery-point-offset-checkpoint"
LOG_START_FILE = "log-start-offset-checkpoint"
HIGH_WATERMARK_FILE = "replication-offset-checkpoint"
LEADER_EPOCH_FILE = "leader-epoch-checkpoint"
PARTITION_METADATA_FILE = "partition.metadata"
META_PROPERTIES_FILE = "meta.properties"
CLEAN_SHUTDOWN_FILE = ".kafka_cleanshutdown"
RUNNING_FILE = ".running"
LOCK_FILE = ".lock"

TopicPartition = tuple[str, int]

_CHECKSUM: TopicPartition = ("__ottla_checksum", -1)


def _encode_lines(lines: Iterable[str]) -> bytes:
    """Version 0, the count, then one line each: the count is what shows a torn file."""
    listed = list(lines)
    return "".join(f"{line}\n" for line in ("0", str(len(listed)), *listed)).encode()


def _decode_lines(data: bytes, what: str) -> list[list[str]]:
    try:
        lines = data.decode("ascii").split("\n")
        if lines[-1] != "" or lines[0] != "0":
            raise CorruptFile(f"{what}: torn, or not version 0")
        rows = [line.split() for line in lines[2:-1]]
        if int(lines[1]) != len(rows):
            raise CorruptFile(f"{what}: {lines[1]} rows declared, {len(rows)} there")
        return rows
    except (ValueError, IndexError) as error:
        raise CorruptFile(f"{what}: {error}") from error


def encode_offsets(offsets: Mapping[TopicPartition, int]) -> bytes:
    """`{(topic, partition): offset}` as Kafka's OffsetCheckpointFile writes it.

    The last row is a checksum of the others, in the shape of a partition that cannot be: Kafka takes no notice of it.
    """
    rows = [f"{topic} {partition} {offset}" for (topic, partition), offset in sorted(offsets.items())]
    return _encode_lines([*rows, f"{_CHECKSUM[0]} {_CHECKSUM[1]} {_sum_of(rows)}"])


def _sum_of(rows: Iterable[str]) -> int:
    return zlib.crc32("\n".join(rows).encode())


def decode_offsets(data: bytes, what: str = "offset checkpoint") -> dict[TopicPartition, int]:
    """The inverse of encode_offsets; a file that Kafka wrote has no checksum. Raises CorruptFile."""
    rows = _decode_lines(data, what)
    try:
        found = {(topic, int(partition)): int(offset) for topic, partition, offset in rows}
    except ValueError as error:
        raise CorruptFile(f"{what}: {error}") from error
    checksum = found.pop(_CHECKSUM, None)
    if checksum is not None and checksum != _sum_of(" ".join(row) for row in rows[:-1]):
        raise CorruptFile(f"{what}: its checksum is wrong")
    return found


def encode_epochs(entries: Iterable[tuple[int, int]]) -> bytes:
    """`(epoch, start offset)` pairs as Kafka's LeaderEpochCheckpointFile writes them."""
    return _encode_lines(f"{epoch} {start}" for epoch, start in entries)


def decode_epochs(data: bytes) -> list[tuple[int, int]]:
    """The inverse of encode_epochs. Raises CorruptFile, also when epochs or offsets do not both increase."""
    try:
        entries = [(int(epoch), int(start)) for epoch, start in _decode_lines(data, LEADER_EPOCH_FILE)]
    except ValueError as error:
        raise CorruptFile(f"{LEADER_EPOCH_FILE}: {error}") from error
    for (epoch, start), (next_epoch, next_start) in pairwise(entries):
        if next_epoch <= epoch or next_start <= start:
            raise CorruptFile(f"{LEADER_EPOCH_FILE}: {next_epoch} {next_start} follows {epoch} {start}")
    return entries


def encode_uuid(value: UUID) -> str:
    """Kafka's text form of a uuid: URL-safe base64 of its 16 bytes without padding (22 characters)."""
    return base64.urlsafe_b64encode(value.bytes).decode().rstrip("=")


def decode_uuid(text: str) -> UUID:
    """The inverse of encode_uuid. Raises ValueError."""
    try:
        return UUID(bytes=base64.b64decode(text + "==", altchars=b"-_", validate=True))
    except binascii.Error as error:
        raise ValueError(f"not a base64 uuid: {text!r}") from error


def encode_partition_metadata(topic_id: UUID) -> bytes:
    return f"version: 0\ntopic_id: {encode_uuid(topic_id)}".encode()


def decode_partition_metadata(data: bytes) -> UUID:
    """The topic id. Raises CorruptFile."""
    match = re.fullmatch(rb"version:\s+0\ntopic_id:\s+([A-Za-z0-9_-]{22})\n?", data)
    if match is None:
        raise CorruptFile(f"{PARTITION_METADATA_FILE}: {data[:80]!r}")
    return decode_uuid(match.group(1).decode())


def encode_clean_shutdown(broker_epoch: int) -> bytes:
    """The marker of a clean shutdown carries the broker epoch that was shut down (KIP-966)."""
    return json.dumps({"version": 0, "brokerEpoch": broker_epoch}, separators=(",", ":")).encode()


def decode_clean_shutdown(data: bytes) -> int:
    """The broker epoch, -1 when the marker carries none (older Kafka writes an empty file)."""
    try:
        values = json.loads(data)
        return int(values["brokerEpoch"])
    except (ValueError, KeyError, TypeError):
        return -1


@dataclass(frozen=True, slots=True)
class Running:
    """Under which registration a process runs, since when its page cache has been there, and whether every record that
    it answers for is synced first."""

    boot_id: str = ""
    broker_epoch: int = -1
    synced: bool = False

    def encode(self) -> bytes:
        return json.dumps(
            {"version": 0, "bootId": self.boot_id, "brokerEpoch": self.broker_epoch, "synced": self.synced}
        ).encode()

    @classmethod
    def decode(cls, data: bytes) -> Running:
        """The default, which promises nothing, when it cannot be read."""
        try:
            values = json.loads(data)
            return cls(str(values["bootId"]), int(values["brokerEpoch"]), values["synced"] is True)
        except (ValueError, KeyError, TypeError):
            return cls()


@dataclass(frozen=True, slots=True)
class MetaProperties:
    """meta.properties of one data directory (version 1). Keys that are not ours are kept in `other`."""

    cluster_id: str
    node_id: int
    directory_id: str
    other: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        values = {
            "version": "1",
            "cluster.id": self.cluster_id,
            "node.id": str(self.node_id),
            "directory.id": self.directory_id,
            **self.other,
        }
        return ("#\n" + "".join(f"{key}={value}\n" for key, value in values.items())).encode()

    @staticmethod
    def decode(data: bytes) -> MetaProperties:
        """Raises CorruptFile when a required key is missing or the version is not 1."""
        values: dict[str, str] = {}
        try:
            for line in data.decode("utf-8").splitlines():
                text = line.strip()
                if text and text[0] not in "#!":
                    key, separator, value = text.partition("=")
                    if not separator:
                        raise CorruptFile(f"{META_PROPERTIES_FILE}: no value in line {line!r}")
                    values[key.strip()] = value.strip().replace("\\:", ":").replace("\\=", "=")
            if values.pop("version") != "1":
                raise CorruptFile(f"{META_PROPERTIES_FILE}: version is not 1")
            return MetaProperties(
                cluster_id=values.pop("cluster.id"),
                node_id=int(values.pop("node.id")),
                directory_id=values.pop("directory.id"),
                other=values,
            )
        except (KeyError, ValueError) as error:
            raise CorruptFile(f"{META_PROPERTIES_FILE}: {error!r}") from error

    @staticmethod
    def read(disk: Disk, directory: str) -> MetaProperties | None:
        """The file of `directory`, None when there is none. Raises CorruptFile."""
        path = f"{directory}/{META_PROPERTIES_FILE}"
        return MetaProperties.decode(disk.read(path)) if disk.exists(path) else None

    def write(self, disk: Disk, directory: str) -> None:
        disk.mkdir(directory)
        disk.write_atomic(f"{directory}/{META_PROPERTIES_FILE}", self.encode())

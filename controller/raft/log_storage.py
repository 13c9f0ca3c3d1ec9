"""Raft's memory on disk, through the ``log`` package: the metadata log is a partition log like any other.

``DIR/__cluster_metadata-0/`` holds Kafka's segment files with one record batch per entry (offset = index - 1, leader
epoch = term), ``quorum-state`` (JSON, replaced atomically), and snapshots named as Kafka names them: end offset and
epoch, ``%020d-%010d.checkpoint``. A snapshot is one record batch too, so that its checksum guards it.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ottla.controller.raft.config import HardState, PersistentState, RaftInvariantError, Ready
from ottla.controller.raft.messages import Entry, Snapshot
from ottla.log import Disk, LogConfig, PartitionLog
from ottla.records import CorruptBatch, Record, decode_batch, encode_batch, iter_headers

METADATA_DIRECTORY: Final = "__cluster_metadata-0"
_QUORUM_STATE: Final = "quorum-state"
_CHECKPOINT: Final = re.compile(r"^(\d{20})-(\d{10})\.checkpoint$")
_READ_BYTES: Final = 4 * 1024 * 1024
_LOG_CONFIG: Final = LogConfig(
    segment_bytes=8 * 1024 * 1024, segment_ms=1 << 62, retention_ms=-1, retention_bytes=-1, flush="synced"
)

Natural = Annotated[int, Field(ge=0)]


class _QuorumState(BaseModel):
    """Kafka's field names where Kafka has the field; what is unknown is an error, as it may not be forgotten."""

    model_config = ConfigDict(strict=True, extra="forbid")

    data_version: int = 1
    clusterId: str
    nodeId: int
    leaderEpoch: Natural
    votedId: int
    recovering: bool
    identity: str


class LogStorage:
    """The ``Storage`` of a node whose data directory is ``data_dir``.

    ``clock`` gives wall-clock milliseconds for record timestamps. Raises DiskError when the disk fails, and
    RaftInvariantError when what is there belongs to another cluster or node, or is damaged where it was promised.
    """

    def __init__(self, disk: Disk, data_dir: str, clock: Callable[[], int], *, cluster_id: str, node_id: int) -> None:
        self._disk = disk
        self._directory = f"{data_dir}/{METADATA_DIRECTORY}"
        self._clock = clock
        self._cluster_id = cluster_id
        self._node_id = node_id
        self._log: PartitionLog | None = None

    def load(self) -> PersistentState:
        self._disk.mkdir(self._directory)
        hard_state = self._load_hard_state()
        snapshot = self._load_snapshot()
        base = snapshot.index if snapshot else 0
        log = PartitionLog.open(self._disk, self._directory, _LOG_CONFIG, clean=False, now_ms=self._clock())
        self._log = log
        if log.log_start_offset > base:
            raise RaftInvariantError(f"{self._directory}: the log begins at {log.log_start_offset} without a snapshot")
        if snapshot and not self._continues(log, snapshot):
            # It was being installed: the log before it is another history, or ends too early to be continued.
            log.truncate_fully_and_start_at(base, now_ms=self._clock())
        entries = tuple(self._read_entries(log, base))
        # What recovery found may have been written but never synced. It is answered for from now on.
        log.flush()
        return PersistentState(hard_state, snapshot, entries)

    def persist(self, ready: Ready) -> None:
        log = self._opened()
        if ready.hard_state is not None:
            self._save_hard_state(ready.hard_state)
        if ready.snapshot is not None:
            self._save_snapshot(ready.snapshot)
            if ready.install:
                log.truncate_fully_and_start_at(ready.snapshot.index, now_ms=self._clock())
        if ready.entries:
            self._append(log, ready.entries)

    def compact(self, first_index: int) -> None:
        log = self._opened()
        log.advance_log_start(first_index - 1)
        log.delete_old_segments(self._clock(), log.log_end_offset)
        for _, _, name in self._checkpoints()[:-1]:
            self._disk.remove(f"{self._directory}/{name}")

    def close(self) -> None:
        if self._log is not None:
            self._log.close(self._clock())
            self._log = None

    # -- entries

    def _opened(self) -> PartitionLog:
        if self._log is None:
            raise RaftInvariantError("the metadata log is not open")
        return self._log

    def _append(self, log: PartitionLog, entries: Sequence[Entry]) -> None:
        offset = entries[0].index - 1
        if offset > log.log_end_offset:
            raise RaftInvariantError(f"entry {offset + 1} leaves a gap: the log ends at offset {log.log_end_offset}")
        log.truncate_to(offset)
        now = self._clock()
        log.append_as_follower(b"".join(self._encode(entry, now) for entry in entries))
        log.flush()

    @staticmethod
    def _encode(entry: Entry, now: int) -> bytes:
        record = Record(entry.index - 1, now, None, entry.data, ())
        return encode_batch([record], base_offset=entry.index - 1, leader_epoch=entry.term)

    @staticmethod
    def _read_entries(log: PartitionLog, offset: int) -> list[Entry]:
        entries: list[Entry] = []
        while offset < log.log_end_offset:
            data = log.read(offset, _READ_BYTES, up_to=log.log_end_offset)
            for position, header in iter_headers(data):
                (record,) = decode_batch(data, position, max_bytes=header.size)
                entries.append(Entry(header.base_offset + 1, header.leader_epoch, record.value or b""))
                offset = header.next_offset
        return entries

    @staticmethod
    def _continues(log: PartitionLog, snapshot: Snapshot) -> bool:
        """The log holds the last entry of the snapshot, or begins exactly behind it."""
        if snapshot.index > log.log_end_offset:
            return False
        if snapshot.index == log.log_start_offset:
            return True
        return log.epoch_for_offset(snapshot.index - 1) == snapshot.term

    # -- term and vote

    def _load_hard_state(self) -> HardState | None:
        path = f"{self._directory}/{_QUORUM_STATE}"
        if not self._disk.exists(path):
            return None
        try:
            state = _QuorumState.model_validate_json(self._disk.read(path))
        except ValidationError as error:
            raise RaftInvariantError(f"{path} is damaged; a vote may not be forgotten") from error
        if (state.clusterId, state.nodeId) != (self._cluster_id, self._node_id):
            raise RaftInvariantError(
                f"{path} belongs to node {state.nodeId} of cluster {state.clusterId}, "
                f"this is node {self._node_id} of cluster {self._cluster_id}"
            )
        vote = None if state.votedId < 0 else state.votedId
        return HardState(state.leaderEpoch, vote, state.recovering, state.identity)

    def _save_hard_state(self, state: HardState) -> None:
        document = _QuorumState(
            clusterId=self._cluster_id,
            nodeId=self._node_id,
            leaderEpoch=state.term,
            votedId=-1 if state.vote is None else state.vote,
            recovering=state.recovering,
            identity=state.identity,
        )
        self._disk.write_atomic(f"{self._directory}/{_QUORUM_STATE}", json.dumps(document.model_dump()).encode())

    # -- snapshots

    def _checkpoints(self) -> list[tuple[int, int, str]]:
        """(index, term, file name), oldest first."""
        found = (_CHECKPOINT.match(name) for name in self._disk.listdir(self._directory))
        return sorted((int(match[1]), int(match[2]), match[0]) for match in found if match)

    def _load_snapshot(self) -> Snapshot | None:
        checkpoints = self._checkpoints()
        if not checkpoints:
            return None
        index, term, name = checkpoints[-1]
        try:
            content = self._disk.read(f"{self._directory}/{name}")
            (record,) = decode_batch(content, max_bytes=len(content))
        except (CorruptBatch, ValueError) as error:
            raise RaftInvariantError(f"snapshot {name} is damaged; the log before it is gone") from error
        return Snapshot(index, term, record.value or b"")

    def _save_snapshot(self, snapshot: Snapshot) -> None:
        record = Record(snapshot.index - 1, self._clock(), None, snapshot.data, ())
        content = encode_batch([record], base_offset=snapshot.index - 1, leader_epoch=snapshot.term)
        name = f"{snapshot.index:020d}-{snapshot.term:010d}.checkpoint"
        self._disk.write_atomic(f"{self._directory}/{name}", content)

"""Raft's memory on disk, through the ``log`` package: the metadata log is a partition log like any other.

``DIR/__cluster_metadata-0/`` holds Kafka's segment files with one record batch per entry (offset = index - 1, leader
epoch = term), ``quorum-state`` (replaced atomically), and snapshots named as Kafka names them: end offset and epoch,
``%020d-%010d.checkpoint``. A snapshot is one record batch too, so that its checksum guards it.

Torn or rotten. What a crash tore was never acknowledged, and is cut off. What was durable and does not check any more
was promised to others: to cut that silently could undo a committed entry. ``quorum-state`` tells them apart by the
recovery point, an offset below which everything was once durable. It is written late, but never promises too much:
before Raft itself cuts the log, it is lowered. What came later speaks for itself: each entry says in a header below
which offset all was durable when it was written. That leaves the last write, where nothing follows; a single bit that
has flipped there is flipped back, as the checksum tells which it was (see ``repair.py``), and no torn write looks like
that. A node that finds damage below it has lost its memory and must recover
from the others as one with an empty disk does (see ``leader.py``), or, if they cannot help, does not start.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import structlog

from ottla.controller.raft.config import HardState, PersistentState, Ready
from ottla.controller.raft.errors import RaftInvariantError
from ottla.controller.raft.messages import Entry, Snapshot
from ottla.controller.raft.quorum_state import QUORUM_STATE_FILE, QuorumState
from ottla.controller.raft.repair import DURABLE_HEADER, mend_tail
from ottla.log import CorruptFile, Disk, LogConfig, PartitionLog
from ottla.records import CorruptBatch, Record, decode_batch, encode_batch, iter_headers

METADATA_DIRECTORY: Final = "__cluster_metadata-0"
_CHECKPOINT: Final = re.compile(r"^(\d{20})-(\d{10})\.checkpoint$")
_READ_BYTES: Final = 4 * 1024 * 1024
_UNNOTED_ENTRIES: Final = 256  # at most so many durable entries lie above the recovery point
_LOG_CONFIG: Final = LogConfig(
    segment_bytes=8 * 1024 * 1024, segment_ms=1 << 62, retention_ms=-1, retention_bytes=-1, flush="synced"
)

log = structlog.get_logger(__name__)


class LogStorage:
    """The ``Storage`` of a node whose data directory is ``data_dir``.

    ``clock`` gives wall-clock milliseconds for record timestamps. ``replaceable``: the other voters can give back what
    is lost here (RaftConfig.is_replaceable). Raises DiskError when the disk fails, and RaftInvariantError, one line for
    whoever runs the node, when what is there belongs to another cluster or node, or is damaged where it was promised.
    """

    def __init__(
        self,
        disk: Disk,
        data_dir: str,
        clock: Callable[[], int],
        *,
        cluster_id: str,
        node_id: int,
        replaceable: bool = False,
    ) -> None:
        self._disk = disk
        self._data_dir = data_dir
        self._directory = f"{data_dir}/{METADATA_DIRECTORY}"
        self._clock = clock
        self._cluster_id = cluster_id
        self._node_id = node_id
        self._replaceable = replaceable
        self._hard_state: HardState | None = None
        self._recovery_point = 0  # as quorum-state has it
        self._log: PartitionLog | None = None

    def load(self) -> PersistentState:
        self._disk.mkdir(self._directory)
        # A process that died before its vote was durable has left it in the page cache, and it is answered by from now
        # on. The same goes for the name of the directory.
        self._disk.sync_dir(self._data_dir)
        self._disk.sync_dir(self._directory)
        self._load_quorum_state()
        snapshot = self._load_snapshot()
        log = self._open_log()
        try:
            entries = self._load_entries(log, snapshot)
            # What recovery found may have been written but never synced. It is answered for from now on.
            log.flush()
        except BaseException:
            log.abandon()
            raise
        self._log = log
        self.settle()
        return PersistentState(self._hard_state, snapshot, tuple(entries))

    def _load_entries(self, log: PartitionLog, snapshot: Snapshot | None) -> list[Entry]:
        """The entries behind the snapshot; the log is made to hold only these."""
        base = snapshot.index if snapshot else 0
        if self._hard_state is None and (snapshot or log.log_end_offset):
            raise self._damaged(f"{self._directory}/{QUORUM_STATE_FILE} is missing")
        if log.log_start_offset > base:
            raise self._damaged(f"{self._directory}: the log begins at {log.log_start_offset} without a snapshot")
        if snapshot and not self._continues(log, snapshot):
            # It was being installed: the log before it is another history, or ends too early to be continued. Only
            # then is there no recovery point; otherwise the term of the entry at the snapshot has rotted.
            if self._recovery_point:
                self._forget(f"{self._directory}: the log does not continue the snapshot at {base}")
            log.truncate_fully_and_start_at(base, now_ms=self._clock())
        entries = self._read_entries(log, base)
        end = base + len(entries)
        if end < self._recovery_point:
            self._forget(f"{self._directory}: the entry at offset {end} of the log has a wrong term")
        log.truncate_to(end)
        return entries

    def persist(self, ready: Ready) -> None:
        log = self._opened()
        if ready.hard_state is not None:
            self._hard_state = ready.hard_state
        point = self._recovery_point_before(ready, log)
        if ready.hard_state is not None or point < self._recovery_point:
            self._save_quorum_state(point)
        if ready.snapshot is not None:
            self._save_snapshot(ready.snapshot)
            if ready.install:
                log.truncate_fully_and_start_at(ready.snapshot.index, now_ms=self._clock())
        if ready.entries:
            self._append(log, ready.entries)
        if ready.snapshot is not None or log.recovery_point - self._recovery_point >= _UNNOTED_ENTRIES:
            self.settle()

    def settle(self) -> None:
        log = self._opened()
        if log.recovery_point != self._recovery_point:
            self._save_quorum_state(log.recovery_point)

    def compact(self, first_index: int) -> None:
        log = self._opened()
        log.advance_log_start(first_index - 1)
        log.delete_old_segments(self._clock(), log.log_end_offset)
        for _, _, name in self._checkpoints()[:-1]:
            self._disk.remove(f"{self._directory}/{name}")

    def close(self) -> None:
        if self._log is not None:
            self._log.close(self._clock())
            self.settle()
            self._log = None

    # -- damage

    def _open_log(self) -> PartitionLog:
        """All of it is checked, as all of it is read; what is torn is cut off."""
        durable = mend_tail(self._disk, self._directory)
        try:
            return self._open_partition_log(max(self._recovery_point, durable))
        except CorruptFile as error:
            self._forget(str(error))
            return self._open_partition_log(0)

    def _open_partition_log(self, required_end: int) -> PartitionLog:
        return PartitionLog.open(
            self._disk, self._directory, _LOG_CONFIG, clean=False, now_ms=self._clock(), required_end=required_end
        )

    def _forget(self, damage: str) -> None:
        """Entries that were promised are lost. Remember that durably, before the rest of them is cut off."""
        if not self._replaceable or self._hard_state is None:
            raise self._damaged(damage)
        log.error("metadata_log_damaged", damage=damage, then="this node recovers from the other voters")
        self._hard_state = replace(self._hard_state, recovering=True, identity="", damaged=True)
        self._save_quorum_state(0)

    def _damaged(self, what: str) -> RaftInvariantError:
        cure = f"restore {self._directory} from a backup"
        if self._replaceable:
            cure += ", or wipe it (only it, and on this node only), so that this node recovers from the other voters"
        else:
            cure += ": without this node the voters have no majority that it could recover from"
        return RaftInvariantError(f"{what}; {cure}")

    def _recovery_point_before(self, ready: Ready, log: PartitionLog) -> int:
        """What may be promised once ``ready`` has begun to be made durable: not what it cuts."""
        if ready.install:
            return 0
        if ready.entries:
            return min(log.recovery_point, ready.entries[0].index - 1)
        return log.recovery_point

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
        now, durable = self._clock(), log.recovery_point
        log.append_as_follower(b"".join(self._encode(entry, now, durable) for entry in entries))
        log.flush()

    @staticmethod
    def _encode(entry: Entry, now: int, durable: int) -> bytes:
        # The checksum of a batch does not cover its leader epoch, so the term stands in the key as well.
        record = Record(entry.index - 1, now, b"%d" % entry.term, entry.data, ((DURABLE_HEADER, b"%d" % durable),))
        return encode_batch([record], base_offset=entry.index - 1, leader_epoch=entry.term)

    @staticmethod
    def _read_entries(log: PartitionLog, offset: int) -> list[Entry]:
        """Entries from ``offset`` up to one whose term is wrong."""
        entries: list[Entry] = []
        while offset < log.log_end_offset:
            data = log.read(offset, _READ_BYTES, up_to=log.log_end_offset)
            for position, header in iter_headers(data):
                (record,) = decode_batch(data, position, max_bytes=header.size)
                if record.key not in (b"%d" % header.leader_epoch, None):
                    return entries
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

    def _load_quorum_state(self) -> None:
        path = f"{self._directory}/{QUORUM_STATE_FILE}"
        if not self._disk.exists(path):
            return
        try:
            found = QuorumState.decode(self._disk.read(path))
        except ValueError as error:
            raise self._damaged(f"{path} is damaged ({error}), and a vote may not be forgotten") from error
        if (found.clusterId, found.nodeId) != (self._cluster_id, self._node_id):
            raise RaftInvariantError(
                f"{path} belongs to node {found.nodeId} of cluster {found.clusterId}, "
                f"this is node {self._node_id} of cluster {self._cluster_id}"
            )
        self._hard_state, self._recovery_point = found.hard_state, found.recoveryPoint

    def _save_quorum_state(self, recovery_point: int) -> None:
        if self._hard_state is None:
            raise RaftInvariantError("entries may only be written after their term is")
        document = QuorumState.of(self._hard_state, recovery_point, cluster_id=self._cluster_id, node_id=self._node_id)
        self._disk.write_atomic(f"{self._directory}/{QUORUM_STATE_FILE}", document.encode())
        self._recovery_point = recovery_point

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
            raise self._damaged(f"{self._directory}/{name} is damaged, and the log before it is gone") from error
        return Snapshot.of_payload(index, term, record.value or b"")

    def _save_snapshot(self, snapshot: Snapshot) -> None:
        record = Record(snapshot.index - 1, self._clock(), None, snapshot.payload, ())
        content = encode_batch([record], base_offset=snapshot.index - 1, leader_epoch=snapshot.term)
        name = f"{snapshot.index:020d}-{snapshot.term:010d}.checkpoint"
        self._disk.write_atomic(f"{self._directory}/{name}", content)

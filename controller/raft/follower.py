"""The receiving side of replication: AppendEntries and InstallSnapshot (Raft sections 5.3 and 7)."""

from ottla.controller.raft.messages import (
    AppendRequest,
    AppendResponse,
    Snapshot,
    SnapshotChunk,
    SnapshotResponse,
)
from ottla.controller.raft.state import RaftState


class Follower(RaftState):
    def _on_append_request(self, leader: int, request: AppendRequest) -> None:
        """``request.term`` is this node's term and ``leader`` is followed already."""
        if request.readmitted and request.readmitted == self.identity:
            self.recovering = False
        if not self._holds(request.prev_index, request.prev_term):
            hint_index, hint_term = self.log.hint(request.prev_index, request.prev_term)
            self._send(leader, self._append_response(False, request.prev_index, request.stamp, hint_index, hint_term))
            return
        matched = request.prev_index
        if request.entries:
            self.log.merge(request.entries, self.commit)
            if self.log.voters is not self._adopted:
                self._adopt_voters()
            matched += len(request.entries)
        # Only what this request vouches for may be committed; the tail behind it may still be overwritten.
        if self.commit < request.commit and self.commit < matched:
            self._commit_to(min(request.commit, matched))
        self._send(leader, self._append_response(True, matched, request.stamp))

    def _holds(self, index: int, term: int) -> bool:
        """Section 5.3 consistency check. What is committed here equals every later leader's log (5.4.3)."""
        return index <= self.commit or self.log.term_at(index) == term

    def _append_response(
        self, success: bool, index: int, stamp: int, hint_index: int = 0, hint_term: int = 0
    ) -> AppendResponse:
        return AppendResponse(
            term=self.term,
            success=success,
            index=index,
            stamp=stamp,
            hint_index=hint_index,
            hint_term=hint_term,
            identity=self.identity,
            recovering=self.recovering,
        )

    def _on_snapshot_chunk(self, leader: int, chunk: SnapshotChunk) -> None:
        if chunk.index <= self.commit or self.log.term_at(chunk.index) == chunk.snapshot_term:
            # Already held: no need to replace anything, and the leader can go on with entries.
            self._drop_chunks()
            self._commit_to(max(chunk.index, self.commit))
            self._send(leader, self._append_response(True, chunk.index, chunk.stamp))
            return
        if chunk.total > self.config.max_snapshot_bytes or chunk.offset + len(chunk.data) > chunk.total:
            return
        key = (chunk.term, chunk.index, chunk.snapshot_term)
        if self._chunks_of != key:
            self._drop_chunks()
            self._chunks_of = key
        if chunk.offset == len(self._chunks):
            self._chunks += chunk.data
        if len(self._chunks) < chunk.total:
            self._send(leader, self._snapshot_response(chunk, len(self._chunks)))
            return
        snapshot = Snapshot.of_payload(chunk.index, chunk.snapshot_term, bytes(self._chunks))
        self._drop_chunks()
        self._install(snapshot)
        self._send(leader, self._append_response(True, snapshot.index, chunk.stamp))

    def _snapshot_response(self, chunk: SnapshotChunk, next_offset: int) -> SnapshotResponse:
        return SnapshotResponse(self.term, chunk.index, next_offset, chunk.stamp, self.identity, self.recovering)

    def _install(self, snapshot: Snapshot) -> None:
        self.log.reset(snapshot.index, snapshot.term, snapshot.voters)
        self.commit = self.applied = snapshot.index
        self._adopt_voters()
        self.snapshot = snapshot
        self._newest_snapshot = snapshot.index
        self._pending_snapshot = snapshot
        self._pending_install = True

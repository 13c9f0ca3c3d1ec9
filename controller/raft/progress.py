"""What a leader knows of one peer (thesis 10.2.1: pipelining)."""

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto

from ottla.controller.raft.messages import Snapshot


class Mode(Enum):
    PROBE = auto()  # where do the logs agree? one request at a time
    REPLICATE = auto()  # known: requests are pipelined, next_index runs ahead of match
    SNAPSHOT = auto()  # the entries it needs are compacted away


@dataclass(slots=True)
class Progress:
    next_index: int
    contact: float  # leader's time at which a request that was answered had been sent
    voter: bool
    eligible: bool = True  # to become one
    match: int = 0
    mode: Mode = Mode.PROBE
    probing: bool = False  # a probe is under way
    inflight: deque[int] = field(default_factory=deque)  # last index of each pipelined request
    sent_commit: int = 0
    acked_stamp: int = 0  # 0: it was not heard of in this term
    accepted_stamp: int = 0  # of the newest request that it has accepted
    mark: tuple[int, int] | None = None  # stamp of a request, and the end of the log then
    caught_up_stamp: int = 0  # of the last mark that it has reached: so far back it had all that there was
    identity: str | None = None
    recovering: bool = False
    readmit_index: int = 0  # entry that must commit without this voter before it counts again
    snapshot: Snapshot | None = None
    payload: bytes = b""  # of the snapshot
    snapshot_offset: int = 0
    snapshot_sent: float = 0.0

    def probe(self, next_index: int) -> None:
        self.mode = Mode.PROBE
        self.next_index = max(next_index, self.match + 1)
        self.probing = False
        self.inflight.clear()
        self.snapshot, self.payload = None, b""

    def replicate(self) -> None:
        self.mode = Mode.REPLICATE
        self.next_index = self.match + 1
        self.probing = False
        self.inflight.clear()
        self.snapshot, self.payload = None, b""

    def send_snapshot(self, snapshot: Snapshot) -> None:
        self.mode = Mode.SNAPSHOT
        self.snapshot = snapshot
        self.payload = snapshot.payload
        self.snapshot_offset = 0
        self.inflight.clear()

    def asked(self, stamp: int, end: int) -> None:
        """A request goes out while the log ends there."""
        if self.mark is None:
            self.mark = stamp, end

    def answered(self, stamp: int) -> None:
        """It has accepted the request of that stamp: has the peer what there was when it was asked?"""
        self.accepted_stamp = max(self.accepted_stamp, stamp)
        if self.mark is not None and stamp >= self.mark[0] and self.match >= self.mark[1]:
            self.caught_up_stamp, self.mark = self.mark[0], None

    def acknowledge(self, index: int) -> bool:
        """Entries up to ``index`` are durable there. True when that is news."""
        while self.inflight and self.inflight[0] <= index:
            self.inflight.popleft()
        self.next_index = max(self.next_index, index + 1)
        if index <= self.match:
            return False
        self.match = index
        return True

    def is_overtaken(self, index: int, stamp: int) -> bool:
        """Whether it has accepted the entry at `index`, which it did not hold by the request of that stamp, since."""
        return index <= self.match and stamp <= self.accepted_stamp

    def lost_entries(self) -> None:
        """It does not hold any more what it had acknowledged, by damage that looks to it like a write that was torn.
        `match` only counts towards what is yet to be committed, so it may go back."""
        self.match = 0
        self.mark, self.caught_up_stamp = None, 0

    def forget(self, identity: str) -> None:
        """The peer came back with an empty disk: nothing that it acknowledged before counts."""
        self.identity = identity
        self.match = 0
        self.acked_stamp = self.accepted_stamp = 0
        self.mark, self.caught_up_stamp = None, 0
        self.readmit_index = 0
        self.recovering = True
        self.probe(1)

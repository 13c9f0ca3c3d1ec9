"""What replication promises, checked on the replicas' logs as they are on the modelled disks."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from struct import Struct

from ottla.broker import LeaderState, Partition
from ottla.log import ModelledDisk, PartitionLog
from ottla.records import LOG_OVERHEAD, CorruptBatch, verify_batch
from ottla.simulation.errors import Anomaly
from ottla.simulation.invariants.compacted import BATCH, Batch, Found, Place, Unreadable, walk
from ottla.simulation.invariants.metadata import MetadataTruth
from ottla.simulation.invariants.transactions import StableReplica, TransactionTruth

# Producer id, its epoch, sequence of the first record.
_PRODUCER, _PRODUCER_AT = Struct(">qhi"), 43
_COUNT, _COUNT_AT = Struct(">i"), 57


class PartitionTruth:
    """All batches that were ever below the high watermark of a leader, up to `end`; up to `unseen_end` they were
    committed by a leader whose copy cannot be read any more.

    `loose`: nothing can be said about the records (unclean elections are permitted). `compacted`: whatever is below a
    replica's high watermark may have lost records; `records` are all batches as they were when they were committed.
    """

    def __init__(self, topic: str, index: int, metadata: MetadataTruth) -> None:
        self.name = f"{topic}-{index}"
        self.topic = topic
        self.index = index
        self.loose = self.compacted = False
        self.records: list[bytes] = []
        self.metadata = metadata
        self.batches: list[Batch] = []
        self.bases: list[int] = []
        self.end = 0
        self.unseen_end = 0
        self.ends: dict[int, int] = {}  # leader epoch -> how far it has committed
        self.replicas: dict[int, Replica] = {}  # node -> its replica, of the present or the last life
        self.transactions = TransactionTruth()
        self._sequences: dict[tuple[int, int, int], int] = {}
        self._leaders: dict[int, int] = {}

    def led_by(self, node: int, epoch: int) -> None:
        other = self._leaders.setdefault(epoch, node)
        if other != node:
            raise Anomaly(f"{self.name}: nodes {other} and {node} lead in leader epoch {epoch}")

    def add(self, batch: Batch, contents: bytearray, position: int) -> None:
        """One more batch is committed. Raises Anomaly when it follows not on the last, or is there already."""
        base, end, _, _ = batch
        if self.compacted:
            (count,) = _COUNT.unpack_from(contents, position + _COUNT_AT)
            if base < self.unseen_end and (base != self.end or count != end - base):
                self.loose = True  # what was there before the cleaner came, nobody knows
                return
            if count not in (0, end - base):  # coordinators begin with a batch without records
                raise Anomaly(
                    f"{self.name}: of the {end - base} records from {base} on {count} are left when committed"
                )
        if base != self.end and self.batches:
            raise Anomaly(f"{self.name}: offset {base} is committed, {self.end} is not")
        producer = _PRODUCER.unpack_from(contents, position + _PRODUCER_AT)
        if producer[0] >= 0 and producer[2] >= 0:
            other = self._sequences.setdefault(producer, base)
            if other != base:
                raise Anomaly(
                    f"{self.name}: committed twice, at offsets {other} and {base}: the batch of producer "
                    f"{producer[0]}, epoch {producer[1]}, from sequence {producer[2]} on"
                )
        self.batches.append(batch)
        self.bases.append(base)
        self.end = end
        self.transactions.add(base, end, contents, position)
        if self.compacted:
            self.records.append(
                bytes(contents[position : position + BATCH.unpack_from(contents, position)[1] + LOG_OVERHEAD])
            )

    def has(self, batch: Batch) -> bool:
        """Whether there was such a batch, whatever its records are by now."""
        at = bisect_left(self.bases, batch[0])
        return at < len(self.batches) and self.batches[at][:3] == batch[:3]

    def end_in(self, epoch: int) -> int:
        """Up to where leaders of this epoch and of earlier ones have committed."""
        return max((end for of, end in self.ends.items() if of <= epoch), default=0)

    def joined(self, node: int) -> None:
        """The controller has put a replica into the ISR. Raises Anomaly when it lacks what is committed."""
        replica = self.replicas.get(node)
        held = 0 if replica is None else replica.held
        if held < self.end and not self.loose:
            raise Anomaly(f"{self.name}: node {node} joins the ISR with {held} offsets, committed is {self.end}")

    def acknowledged(self, offset: int, how: str) -> None:
        if offset >= self.end and offset >= self.unseen_end and not self.loose:
            raise Anomaly(f"{self.name}: offset {offset} was {how}, committed is only up to {self.end}")


class Replica:
    """A replica in one life of a node. `offset` is how far its log was compared with the truth, `end` how long it was
    at the last look; it may only have become longer since. `since`: the leader epoch in which it began with nothing."""

    def __init__(
        self, truth: PartitionTruth, node: int, disk: ModelledDisk, partition: Partition, log: PartitionLog
    ) -> None:
        self.truth = truth
        self.node = node
        self.partition = partition
        self.log = log
        self.role: object = None
        self.leader_epoch = -1
        self.high_watermark = -1
        self.end = self.offset = log.log_start_offset
        self._disk = disk
        self._stable = StableReplica(partition, log)
        self._rotten = False
        self._path = ""
        self._place: Place | None = None
        self._base = self._position = self._at = 0
        before = truth.replicas.get(node)
        # What a machine that lost its power had not synced is gone, as it may. Until it has all of it again, this
        # replica only looks like a member of an ISR that it will be told to have left.
        self.lossy: bool = before is not None and (before.lossy or log.log_end_offset < before.held)
        self.since: int = partition.leader_epoch if before is None else before.since
        self._boot = disk.boot_id()
        self._found_durable = self.end
        if before is not None:
            # What a loss of power has left is on the platter, whether this life knows it or not.
            survived = before.held if before._boot == self._boot else log.log_end_offset
            self._found_durable = min(survived, log.log_end_offset)
        truth.replicas[node] = self
        self._seek(self.offset)

    def __str__(self) -> str:
        role = "leader" if self.partition.is_leader else "follower"
        return f"{self.truth.name} on node {self.node}, {role} in epoch {self.partition.leader_epoch}"

    @property
    def held(self) -> int:
        """Up to where this replica may be counted on."""
        log = self.log
        if log.config.flush != "synced":
            return log.log_end_offset
        return max(log.recovery_point, min(self._found_durable, log.log_end_offset))

    def look(self) -> None:
        """Something has moved. Raises Anomaly."""
        partition, log, truth = self.partition, self.log, self.truth
        if self.node not in truth.replicas:
            # It was dropped, and is a replica again: a node that has loaded a snapshot never hears of the time between.
            state = truth.metadata.latest.partition(truth.topic, truth.index)
            if state is not None and self.node in state.replicas:
                truth.replicas[self.node] = self
        if log.config.cleanup_policy != "delete":
            truth.compacted = True
        role = partition.role
        if role is not self.role:
            last = self.role
            if isinstance(last, LeaderState) and last.high_watermark > self.high_watermark:
                # It moved and the leadership ended in one step.
                self._commits(last, last.high_watermark)
                self.high_watermark = last.high_watermark
            if truth.metadata.permits_loss(truth.topic):
                truth.loose = True
            self.role = role
            self._takes_role(role)
        was_end, self.end = self.end, log.log_end_offset
        if self.end < was_end:
            self._found_durable = min(self._found_durable, self.end)
            self._was_cut(was_end)
        now = role.high_watermark
        if now < self.high_watermark and not truth.loose:
            raise Anomaly(f"{self}: the high watermark went back from {self.high_watermark} to {now}")
        if not log.log_start_offset <= now <= self.end:
            raise Anomaly(f"{self}: the high watermark is {now}, the log from {log.log_start_offset} to {self.end}")
        if now > self.high_watermark:
            self._commits(role, now)
        self.high_watermark = now
        if not truth.loose and (not truth.compacted or now >= truth.end):
            # Of a transaction whose records were cleaned away nothing is open, until what comes after it is copied.
            self._stable.look(truth.transactions, now, truth.end, self)
        if self.lossy and self.held >= truth.end:
            self.lossy = False

    def _takes_role(self, role: object) -> None:
        epoch = self.partition.leader_epoch
        if epoch < self.leader_epoch:
            raise Anomaly(f"{self}: the leader epoch went back from {self.leader_epoch}")
        self.leader_epoch = epoch
        if isinstance(role, LeaderState):
            truth = self.truth
            truth.led_by(self.node, epoch)
            self._has_everything()

    def _has_everything(self) -> None:
        """As a leader must, but for what later ones have committed: if it was stalled, it hears late of its epoch."""
        truth = self.truth
        if truth.loose:
            return
        end = truth.end_in(self.leader_epoch)
        if self.log.log_end_offset < end:
            raise Anomaly(f"{self}: leads with a log that ends at {self.log.log_end_offset}, committed is {end}")
        self._compare(end, extend=False)

    def _was_cut(self, before: int) -> None:
        truth = self.truth
        if truth.loose:
            self._place = None
            self._seek(min(self.offset, self.end))
            return
        if self.end < self.offset:
            raise Anomaly(f"{self}: was cut from {before} to {self.end}, committed is {truth.end}")
        state = truth.metadata.latest.partition(truth.topic, truth.index)
        if self.end < truth.end and state is not None and self.node in state.isr and not self.lossy:
            raise Anomaly(
                f"{self}: in the ISR {state.isr}, was cut from {before} to {self.end}, committed is {truth.end}"
            )

    def _commits(self, role: object, now: int) -> None:
        truth = self.truth
        if truth.loose:
            return
        fresh = now > truth.end
        if fresh and not isinstance(role, LeaderState) and now > truth.unseen_end:
            raise Anomaly(f"{self}: takes {now} for committed, leaders have committed {truth.end}")
        self._compare(now, extend=True)
        if fresh and self._rotten:
            # What it commits cannot be read here any more, but will be at others.
            truth.unseen_end = max(truth.unseen_end, now)
        if fresh and isinstance(role, LeaderState):
            truth.ends[role.leader_epoch] = now
            self._is_held(role, now)
            for other in truth.replicas.values():
                if other.leader_epoch > self.leader_epoch and isinstance(other.role, LeaderState):
                    other._has_everything()

    def _is_held(self, role: LeaderState, now: int) -> None:
        """Every member of the ISR holds what was just committed, and as many replicas as were promised.

        A member that was removed held it then. A leader that was stalled hears late of that, or of that and of its own
        ISR in one step; the node may have a new, empty replica by now.
        """
        holders = 0
        for node in role.replicas:
            replica = self.truth.replicas.get(node)
            if self._was_removed(node, replica, role):
                holders += node in self._isr(role)
            elif replica is None:
                continue
            elif replica.lossy or replica.held >= now:
                holders += 1
            elif node in (isr := self._isr(role)):
                raise Anomaly(f"{self}: committed {now}, of its ISR {sorted(isr)} {node} has {replica.held}")
        promised = role.effective_min_insync
        if holders < promised:
            raise Anomaly(f"{self}: committed {now}, which {holders} replicas hold, promised are {promised}")

    def _was_removed(self, node: int, replica: Replica | None, role: LeaderState) -> bool:
        """Whether the replica that the leader means is one no more."""
        if replica is not None:
            return replica.since > role.leader_epoch
        state = self.truth.metadata.latest.partition(self.truth.topic, self.truth.index)
        return state is None or node not in state.replicas

    def _isr(self, role: LeaderState) -> set[int]:
        """Whoever may be a member by now: for the leader, by what it has asked for, and for the controller."""
        isr = {*role.isr.maximal}
        if role.proposal is not None:
            isr.update(node for node, _ in role.proposal.members)
        state = self.truth.metadata.latest.partition(self.truth.topic, self.truth.index)
        if state is not None and state.leader_epoch == role.leader_epoch:
            isr.update(state.isr)
        return isr

    # -- the bytes

    def _compare(self, end: int, *, extend: bool) -> None:
        """The log up to `end` with the truth; with `extend` what goes beyond that becomes true."""
        truth = self.truth
        if truth.compacted:
            self._compare_compacted(end, extend=extend)
            return
        batches = truth.batches
        if self.offset < self.log.log_start_offset:
            self._seek(self.log.log_start_offset)
        while self.offset < end and not self._rotten:
            contents, position = self._disk.peek(self._path), self._position
            if position + BATCH.size > len(contents):
                if position < len(contents) or not self._goes_on():
                    self._rotten = True
                continue
            base, length, epoch, _, crc, _, delta = BATCH.unpack_from(contents, position)
            batch = (base, base + delta + 1, epoch, crc)
            if self._at < len(batches):
                if batches[self._at] != batch:
                    self._differs(batch, contents)
                    return
            elif extend:
                if self._disk.is_rotten(self._path):
                    # A bit has flipped somewhere in this file: what is true has to be read at another replica.
                    self._rotten = True
                    return
                truth.add(batch, contents, position)
            else:
                return
            if base in truth.transactions.ended:
                self._stable.passes(truth.transactions, base, self)
            self._at += 1
            self._position = position + length + LOG_OVERHEAD
            self.offset = batch[1]

    def _compare_compacted(self, end: int, *, extend: bool) -> None:
        """Nothing above the high watermark is ever cleaned, so what becomes true is there as it was written."""
        try:
            for found in walk(self.log, self._disk, max(self.offset, self.log.log_start_offset), self._place):
                if found.batch[0] >= end or self._rotten:
                    return
                if not self._agrees(found, extend=extend):
                    return
                self._place, self.offset = found.next, found.batch[1]
        except Unreadable:
            self._rotten = True

    def _agrees(self, found: Found, *, extend: bool) -> bool:
        truth, batch = self.truth, found.batch
        if batch[0] >= truth.end:
            if extend:
                truth.add(batch, found.contents, found.position)
            return extend
        if not truth.has(batch) and not truth.loose:
            raise Anomaly(
                f"{self}: has the batch (base, end, epoch, CRC) {batch} below its high watermark, never committed"
            )
        if batch[0] in truth.transactions.ended:
            self._stable.passes(truth.transactions, batch[0], self, compacted=True)
        return True

    def _reads(self, contents: bytearray) -> bool:
        """Whether a batch can begin here: a length that rotted leads anywhere."""
        if self._position + BATCH.size > len(contents):
            self._rotten = True
        return not self._rotten

    def _differs(self, batch: Batch, contents: bytearray) -> None:
        try:
            verify_batch(bytes(contents), self._position)
            rotten = self._disk.is_rotten(self._path)
        except CorruptBatch:
            rotten = True
        if not rotten:
            raise Anomaly(
                f"{self}: has the batch (base, end, epoch, CRC) {batch} below the high watermark, "
                f"where {self.truth.batches[self._at]} is committed"
            )
        self._rotten = True  # at rest; whether it is served is another question

    def _goes_on(self) -> bool:
        """Whether another file holds the batch at `offset`: then that is the one from now on."""
        was = self._base, self._position
        if self.log.segments[-1].base_offset != self._base:
            self._seek(self.offset)
        return (self._base, self._position) != was

    def _seek(self, offset: int) -> None:
        """Go to the batch that begins at `offset`, or that contains it."""
        segments = self.log.segments
        found = max(bisect_right([segment.base_offset for segment in segments], offset) - 1, 0)
        segment = segments[found]
        self._base, self._position = segment.base_offset, 0
        self._path = segment.path(".log")
        self.offset = segment.base_offset
        contents = self._disk.peek(self._path)
        while self._position < segment.size and self._reads(contents):
            base, length, _, _, _, _, delta = BATCH.unpack_from(contents, self._position)
            if base + delta + 1 > offset:
                break
            self._position += length + LOG_OVERHEAD
            self.offset = base + delta + 1
        self._at = bisect_left(self.truth.bases, self.offset)

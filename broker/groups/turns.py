"""Decisions about KIP-848 groups, one at a time for each group.

A decision is made on the committed state only. So one that comes while records of its group are on their way waits for
them, and those that waited are decided together, each on what the ones before it make of the group, and written as one
batch; the common heartbeat has nothing to write and nothing to wait for. When records are not committed in time, nobody
waits any longer, but nothing is decided either before it is certain what becomes of them: two decisions on the same
state could give one partition to two members.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kio.schema.errors import ErrorCode

from ottla.broker.groups.consumer import ConsumerGroup
from ottla.broker.groups.records import Entry, GroupKey, Key, OffsetKey

MAX_WAITING = 10_000
"""Heartbeats of one group that wait for its records."""

MAX_BATCH = 1000
"""Records of one batch after which no further decision is put into it."""

Refuse = Callable[[ErrorCode], None]


class Proposal(NamedTuple):
    """What a decision comes to: records to write, and what to do when they are committed (or why they are not)."""

    entries: Sequence[Entry]
    done: Refuse


Step = Callable[[ConsumerGroup], Proposal]
"""A decision. The group that it is given may be a draft, of which nothing is committed yet: change nothing there."""


class _Turn(NamedTuple):
    step: Step
    refuse: Refuse


@dataclass(slots=True, eq=False)
class _Busy:
    """Records of a group are on their way. `refused` is why nobody waits for them any more."""

    turns: deque[_Turn] = field(default_factory=deque)
    refused: ErrorCode | None = None


class Turns:
    """Of the `groups` of a shard. `append` is `ShardLog.write`; `decided` is told of each group whose records were
    committed."""

    def __init__(
        self,
        groups: Mapping[str, ConsumerGroup],
        append: Callable[[Sequence[Entry], Refuse, Refuse], None],
        decided: Callable[[str], None],
    ) -> None:
        self._groups = groups
        self._append = append
        self._decided = decided
        self._busy: dict[str, _Busy] = {}

    def is_busy(self, group_id: str) -> bool:
        """Whether records of the group are on their way."""
        return group_id in self._busy

    def take(self, group_id: str, step: Step, refuse: Refuse) -> None:
        """Take the step once nothing of the group is on its way, or say why it is not to be waited for."""
        busy = self._busy.get(group_id)
        if busy is None:
            self._take(group_id, deque((_Turn(step, refuse),)))
        elif busy.refused is not None:
            refuse(busy.refused)
        elif len(busy.turns) < MAX_WAITING:
            busy.turns.append(_Turn(step, refuse))
        else:
            refuse(ErrorCode.coordinator_not_available)

    def _take(self, group_id: str, turns: deque[_Turn]) -> None:
        """Decide as many as go into one batch. Only the last value of a key is written: nobody sees those between."""
        group = draft = self._groups.get(group_id) or ConsumerGroup(group_id)
        entries: dict[Key, Entry] = {}
        told: list[Refuse] = []
        while turns and len(entries) < MAX_BATCH:
            proposal = turns.popleft().step(draft)
            if not proposal.entries and not entries:
                proposal.done(ErrorCode.none)
                continue
            told.append(proposal.done)
            if draft is group:
                draft = group.draft()
            for entry in proposal.entries:
                entries.pop(entry.key, None)
                entries[entry.key] = entry
                if not isinstance(entry.key, OffsetKey | GroupKey):
                    draft.replay(entry.key, entry.value)  # type: ignore[arg-type]
        if entries:
            self._write(group_id, list(entries.values()), told, turns)

    def write(self, group_id: str, entries: Sequence[Entry], done: Refuse) -> None:
        """Write for a group of which nothing is on its way."""
        self._write(group_id, entries, (done,), deque())

    def _write(self, group_id: str, entries: Sequence[Entry], dones: Sequence[Refuse], turns: deque[_Turn]) -> None:
        busy = self._busy[group_id] = _Busy(turns)

        def told(error: ErrorCode) -> None:
            if error is ErrorCode.message_too_large:
                error = ErrorCode.unknown_server_error
            for done in dones:
                done(error)
            if error is not ErrorCode.none:
                busy.refused = error
                _refuse_all(busy)

        def decided(error: ErrorCode) -> None:
            del self._busy[group_id]
            if error is ErrorCode.none:
                self._decided(group_id)
            if group_id not in self._busy:
                self._take(group_id, busy.turns)
                return
            for turn in busy.turns:
                self.take(group_id, *turn)

        self._append(entries, told, decided)

    def send_away(self, group_id: str, why: ErrorCode) -> None:
        """If records of the group are on their way: nobody waits for them."""
        busy = self._busy.get(group_id)
        if busy is not None:
            busy.refused = why


def _refuse_all(busy: _Busy) -> None:
    turns, busy.turns = busy.turns, deque()
    for turn in turns:
        turn.refuse(busy.refused or ErrorCode.coordinator_not_available)

"""The active controller's look, every few seconds, for replicas that have to be rebuilt elsewhere."""

import asyncio
from dataclasses import dataclass

import structlog

from ottla.controller.active.absences import Absences
from ottla.controller.active.reign import Reign
from ottla.controller.metadata import MetadataImage, repair
from ottla.controller.raft import NotLeader, Overloaded, RaftStopped

log = structlog.get_logger(__name__)

MIN_PAUSE_S, MAX_PAUSE_S = 0.25, 5.0
NOTES = 16
"""How often an absence is noted in the metadata before its end is due: what a change of controller costs of it."""


@dataclass(frozen=True, slots=True)
class RepairSettings:
    """A broker that has been away for `after_s` seconds is replaced, in `partitions` partitions at a time."""

    after_s: float
    partitions: int


class Repairs:
    """Lives as long as one reign; `stop` ends it."""

    def __init__(self, reign: Reign, settings: RepairSettings) -> None:
        self._reign = reign
        self._settings = settings
        self._absences = Absences()
        self._pause = min(max(settings.after_s / NOTES, MIN_PAUSE_S), MAX_PAUSE_S)
        self._last: tuple[MetadataImage, frozenset[int]] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._look()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        reign = self._reign
        if reign.over:
            return
        image, now = reign.image, reign.now()
        self._absences.look(image, now)
        self._note(image, now)
        gone = self._absences.longer_than(self._settings.after_s, now)
        image = reign.image
        if self._last is None or self._last[0] is not image or self._last[1] != gone:
            self._last = image, gone
            self._repair(image, gone)
        self._timer = asyncio.get_running_loop().call_later(self._pause, self._look)

    def _note(self, image: MetadataImage, now: float) -> None:
        after = self._settings.after_s
        notes = list(self._absences.notes(image, now, step=after / NOTES, most=after))
        try:
            if notes:
                self._reign.submit(notes)
        except (NotLeader, RaftStopped, Overloaded) as error:
            # The next look has the same to note.
            log.warning("absence_not_noted", reason=str(error))

    def _repair(self, image: MetadataImage, gone: frozenset[int]) -> None:
        reign = self._reign
        changes = repair(image, reign.policy, gone, limit=self._settings.partitions)
        if not changes:
            return
        try:
            reign.submit(changes)
        except (NotLeader, RaftStopped, Overloaded) as error:
            self._last = None
            log.warning("repair_put_off", reason=str(error))
            return
        for change in changes:
            log.info(
                "repair_begun" if change.automatic else "repair_called_off",
                topic=image.topic_names[change.topic_id],
                partition=change.partition,
                adding=list(change.adding),
                removing=list(change.removing),
                gone=sorted(gone),
                term=reign.term,
            )

"""What the process that had a data directory before has left about its end, and what this one leaves for the next."""

from __future__ import annotations

import structlog

from ottla.log.checkpoints import (
    CLEAN_SHUTDOWN_FILE,
    RUNNING_FILE,
    Running,
    decode_clean_shutdown,
    encode_clean_shutdown,
)
from ottla.log.disk import Disk, overwrite
from ottla.log.errors import DiskError

log = structlog.get_logger(__name__)


class LastStop:
    """`was_clean`: the last process closed every log. `was_durable`: all that it had answered for is on the disk.
    `broker_epoch`: its registration, -1 if unknown.

    `kept_promises`: all that it had answered for is still there: it stopped cleanly, or only the process died and the
    page cache has survived it, or it synced before it answered.
    """

    def __init__(self, disk: Disk, directory: str) -> None:
        self.was_clean = False
        self.was_durable = False
        self.kept_promises = False
        self.broker_epoch = -1
        self._disk = disk
        self._clean = f"{directory}/{CLEAN_SHUTDOWN_FILE}"
        self._running = f"{directory}/{RUNNING_FILE}"
        self._directory = directory

    def take(self) -> None:
        """Read what was left. The mark of a clean stop is durably removed: from here on a crash is no clean stop.

        Raises DiskError, CorruptFile.
        """
        # A process that died on the way may have removed, or written, what only the page cache knows of.
        self._disk.sync_dir(self._directory)
        if self._disk.exists(self._clean):
            self.broker_epoch = decode_clean_shutdown(self._disk.read(self._clean))
            self._note_until_registered()
            self._disk.remove(self._clean)
            self._disk.sync_dir(self._directory)
            self.was_clean = self.was_durable = self.kept_promises = True
        elif self._disk.exists(self._running):
            ran = Running.decode(self._disk.read(self._running))
            if ran.synced or (ran.boot_id and ran.boot_id == self._disk.boot_id()):
                self.kept_promises = True
                self.was_durable = ran.synced
                self.broker_epoch = ran.broker_epoch

    def _note_until_registered(self) -> None:
        """This process answers for nothing until it is registered: whatever happens to it before, all is still there
        that the one before has answered for, and on the disk."""
        try:
            self._write_note(self.broker_epoch, synced=True)
        except DiskError as error:
            # A node has to come up also if it cannot write. Then a loss of power from here on counts as one of records.
            log.warning("clean_stop_not_noted", epoch=self.broker_epoch, error=str(error))

    def before_cut(self, torn: bool) -> None:
        """Something will be cut. It may have been answered for, unless it is `torn`, and everything else was synced
        first. Raises DiskError."""
        if not (torn and self.was_durable):
            self.note_loss()

    def note_loss(self) -> None:
        """Something is missing that may have been answered for. That is noted durably, as the process after this one
        will not see it, and this one may not live to tell. Raises DiskError."""
        self.kept_promises = False
        self._remove_note()

    def note_running(self, broker_epoch: int, *, synced: bool) -> None:
        """Durably note under which registration this process runs. Raises DiskError, and then nothing is noted."""
        try:
            self._write_note(broker_epoch, synced=synced)
        except DiskError:
            # What the note before says may hold for this process no longer.
            self._remove_note()
            raise

    def _write_note(self, broker_epoch: int, *, synced: bool) -> None:
        note = Running(self._disk.boot_id(), broker_epoch, synced).encode()
        if synced:
            self._disk.write_atomic(self._running, note)
            return
        # In the place of the one before, which a full disk has room for. If it is torn it promises nothing.
        overwrite(self._disk, self._running, note, synced=True)

    def _remove_note(self) -> None:
        if self._disk.exists(self._running):
            self._disk.remove(self._running)
            self._disk.sync_dir(self._directory)

    def mark_clean(self, broker_epoch: int) -> None:
        """Every log is closed, and all of it is durable. Raises DiskError."""
        self._disk.write_atomic(self._clean, encode_clean_shutdown(broker_epoch))

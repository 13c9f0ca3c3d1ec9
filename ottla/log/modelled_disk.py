"""A file system in memory that behaves as badly as a real one may, for tests and simulation.

What POSIX does not promise does not hold here: contents live only once synced, names only once their directory is
synced, writes between two syncs survive a crash in any subset and may be torn, and a failed sync drops what it was
asked to keep while reads still show it. All from one seed. Rename is atomic, as on every journalling file system.
"""

from __future__ import annotations

import contextlib
import errno
import posixpath
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass

from ottla.log.disk import Volume
from ottla.log.errors import DiskError, DiskFull, DiskLocked
from ottla.log.modelled_file import Contents, Crashed, ModelledFile, ModelledLock, apply_change

SECTOR = 512
CHANGES = frozenset({"open", "append", "pwrite", "truncate", "sync", "rename", "remove", "mkdir", "sync_dir"})


_NameChange = tuple[str, str, str | None, Contents | None]
"""Kind, path, target of a rename, node of a new name."""


@dataclass(slots=True)
class _Failure:
    operation: str
    error: DiskError
    path_contains: str
    times: int
    partial: int


class ModelledDisk:
    """`capacity` in bytes of file contents, None for no limit; may be set while in use.

    `on_operation(name, path)` is called before every operation and may raise, count, or make the caller slow.
    `operations` counts those that change something; set `crash_at` to a count to raise Crashed in place of that one.
    """

    def __init__(self, rng: random.Random, capacity: int | None = None) -> None:
        self.capacity = capacity
        self.on_operation: Callable[[str, str], None] | None = None
        self.operations = 0
        self.crash_at: int | None = None
        self.generation = 0
        self.boots = 0
        self.locks: set[str] = set()
        self.mutex = threading.RLock()
        self._rng = rng
        self._names: dict[str, Contents | None] = {}  # None: a directory
        self._durable_names: dict[str, Contents | None] = {}
        self._name_changes: list[_NameChange] = []
        self._failures: list[_Failure] = []

    # --- faults

    def crash(self) -> None:
        """Lose power: any subset of what was not synced survives, torn at will. Files opened before are dead."""
        with self.mutex:
            self.generation += 1
            self.boots += 1
            self.crash_at = None
            self.locks.clear()
            names = dict(self._durable_names)
            for kind, path, target, node in self._name_changes:
                if self._rng.random() < 0.5:
                    _rename_in(names, kind, path, target, node)
            for node in {id(node): node for node in self._names.values() if node is not None}.values():
                self._settle(node)
            for node in {id(node): node for node in names.values() if node is not None}.values():
                self._settle(node)
            self._names = names
            self._durable_names = dict(names)
            self._name_changes.clear()

    def kill(self) -> None:
        """The process dies: what it wrote stays in the page cache; its locks and open files are gone."""
        with self.mutex:
            self.generation += 1
            self.crash_at = None
            self.locks.clear()

    def _settle(self, node: Contents) -> None:
        """Decide what of a file's unsynced changes reached the platter."""
        keep = self._rng.choice((0.0, 0.5, 0.9, 1.0))
        for at, data in node.pending:
            if self._rng.random() >= keep:
                continue
            if data and self._rng.random() < 0.3:
                self._tear(node.durable, at, data)
            else:
                apply_change(node.durable, at, data)
        node.pending.clear()
        node.data = bytearray(node.durable)

    def _tear(self, contents: bytearray, at: int, data: bytes) -> None:
        """Keep a prefix, or only some sectors of a write; the rest reads as zeroes where the file was grown."""
        if self._rng.random() < 0.5:
            apply_change(contents, at, data[: self._rng.randrange(len(data) + 1)])
            return
        for start in range(0, len(data), SECTOR):
            if self._rng.random() < 0.5:
                apply_change(contents, at + start, data[start : start + SECTOR])

    def fail_next(
        self,
        operation: str,
        error: DiskError | None = None,
        *,
        path_contains: str = "",
        times: int = 1,
        partial: int = 0,
    ) -> None:
        """Let the next `times` operations of this name on a matching path fail (EIO unless said otherwise).

        All until `mend` if `times` is 0.

        `partial`: bytes of a write that get through before it fails.
        """
        failure = error or DiskError(errno.EIO, "modelled failure")
        self._failures.append(_Failure(operation, failure, path_contains, times, partial))

    def mend(self) -> None:
        """Nothing fails any more, and there is room without end. What was lost or has rotted stays so."""
        self._failures.clear()
        self.capacity = None

    def wipe(self) -> None:
        """Replace it by an empty one, as after a repair. Files opened before are dead."""
        with self.mutex:
            self.generation += 1
            self.locks.clear()
            self._names.clear()
            self._durable_names.clear()
            self._name_changes.clear()

    def files(self) -> dict[str, int]:
        """The size in bytes of every file that programs see, by path in order."""
        return {path: len(node.data) for path, node in sorted(self._names.items()) if node is not None}

    def flip_bit(self, path: str, position: int | None = None, bit: int = 0) -> int:
        """Rot one bit of a file, durable and visible. A random byte unless said. Returns its position."""
        node = self._file(path)
        at = self._rng.randrange(len(node.data)) if position is None else position
        node.rotten = True
        node.data[at] ^= 1 << bit
        if at < len(node.durable):
            node.durable[at] ^= 1 << bit
        return at

    @property
    def rotten(self) -> set[str]:
        """The files in which a bit was flipped, by the names that they have now."""
        return {path for path, node in self._names.items() if node is not None and node.rotten}

    def is_rotten(self, path: str) -> bool:
        """Whether a bit was flipped in the file that has this name now."""
        node = self._names.get(path)
        return node is not None and node.rotten

    def peek(self, path: str) -> bytearray:
        """A file as programs see it, empty if there is none, without that this is an operation. Not to be changed."""
        node = self._names.get(path) or self._names.get(posixpath.normpath(path))
        return bytearray() if node is None else node.data

    # --- what files call

    def step(self, operation: str, path: str) -> _Failure | None:
        """Account for an operation. Raises Crashed or the failure that is due, except a partial one: it is returned."""
        if self.on_operation is not None:
            self.on_operation(operation, path)
        if operation in CHANGES:
            self.operations += 1
            if self.crash_at is not None and self.operations >= self.crash_at:
                raise Crashed(f"{operation} {path}")
        for failure in self._failures:
            if failure.operation == operation and failure.path_contains in path:
                if failure.times:
                    failure.times -= 1
                    if failure.times == 0:
                        self._failures.remove(failure)
                if failure.partial:
                    return failure
                raise failure.error
        return None

    def write_through(self, operation: str, path: str, node: Contents, at: int, data: bytes) -> None:
        failure: _Failure | None
        try:
            failure = self.step(operation, path)
        except Crashed:
            # Under way when the process was killed, or the power went; then any part of this may be there.
            node.change(at, data[: self._reached(at, len(data))])
            raise
        error: DiskError | None = None
        fits = len(data)
        if failure is not None:
            error, fits = failure.error, failure.partial
        with self.mutex:
            if self.capacity is not None:
                room = self.capacity - self.used() + max(len(node.data) - at, node.reserved - at, 0)
                if fits > room:
                    fits, error = max(room, 0), DiskFull(errno.ENOSPC, "modelled disk is full", path)
            if fits:
                node.change(at, data[:fits])
        if error is not None:
            raise error

    def _reached(self, at: int, size: int) -> int:
        """Up to where a write got whose process was killed: the kernel looks for that after each page. Those here are
        small, for batches in simulations are."""
        pages = range(SECTOR - at % SECTOR, size, SECTOR)
        reached: int = self._rng.choice((0, *pages, size))
        return reached

    def sync_node(self, path: str, node: Contents) -> None:
        """Keep what was written before the call; what comes while it runs may wait for the next one."""
        covered = len(node.pending)
        generation = self.generation
        try:
            self.step("sync", path)
        except DiskError:
            # The kernel marks the pages clean: they never get another chance, though reads still show them.
            del node.pending[:covered]
            raise
        with self.mutex:
            if generation != self.generation:
                raise Crashed(path)
            for at, data in node.pending[:covered]:
                apply_change(node.durable, at, data)
            del node.pending[:covered]

    def reserve(self, node: Contents, size: int) -> bool:
        """Set room aside for a file, if there is so much."""
        with self.mutex:
            held = max(len(node.data), node.reserved)
            if self.capacity is not None and size - held > self.capacity - self.used():
                return False
            node.reserved = max(node.reserved, size)
            return True

    def used(self) -> int:
        """Bytes of file contents, or set aside, as `capacity` counts them."""
        return sum(max(len(node.data), node.reserved) for node in self._names.values() if node is not None)

    # --- Disk

    def volume(self, path: str) -> Volume:
        with self.mutex:
            if self.capacity is None:
                return Volume(path, -1, -1)
            return Volume(path, self.capacity, max(self.capacity - self.used(), 0))

    def open(self, path: str, *, create: bool = False) -> ModelledFile:
        path = posixpath.normpath(path)
        with self.mutex:
            if path not in self._names:
                if not create:
                    raise DiskError(errno.ENOENT, "no such file", path)
                self.step("open", path)
                self._change_name("link", path, None, Contents())
            return ModelledFile(self, path, self._file(path))

    def exists(self, path: str) -> bool:
        return posixpath.normpath(path) in self._names

    def read(self, path: str) -> bytes:
        self.step("read", path)
        return bytes(self._file(path).data)

    def write_atomic(self, path: str, data: bytes) -> None:
        path = posixpath.normpath(path)
        file = self.open(path + ".tmp", create=True)
        try:
            file.truncate(0)
            file.append((data,))
            file.sync()
        except DiskError:
            with contextlib.suppress(DiskError):
                self.remove(path + ".tmp")
            raise
        self.rename(path + ".tmp", path)
        self.sync_dir(posixpath.dirname(path))

    def rename(self, source: str, target: str) -> None:
        source, target = posixpath.normpath(source), posixpath.normpath(target)
        self.step("rename", source)
        with self.mutex:
            if source not in self._names:
                raise DiskError(errno.ENOENT, "no such file or directory", source)
            self._change_name("rename", source, target, None)

    def remove(self, path: str) -> None:
        path = posixpath.normpath(path)
        self.step("remove", path)
        with self.mutex:
            self._file(path)
            self._change_name("unlink", path, None, None)

    def mkdir(self, path: str, *, durable: bool = True) -> None:
        path = posixpath.normpath(path)
        with self.mutex:
            missing = []
            while path and path not in ("/", ".") and path not in self._names:
                missing.append(path)
                path = posixpath.dirname(path)
            for name in reversed(missing):
                self.step("mkdir", name)
                if self.capacity is not None and self.used() >= self.capacity:
                    raise DiskFull(errno.ENOSPC, "modelled disk is full", name)
                if durable:
                    self._names[name] = self._durable_names[name] = None
                else:
                    self._change_name("link", name, None, None)

    def listdir(self, path: str) -> list[str]:
        path = posixpath.normpath(path)
        with self.mutex:
            if path not in self._names:
                raise DiskError(errno.ENOENT, "no such directory", path)
            return sorted(posixpath.basename(name) for name in self._names if posixpath.dirname(name) == path)

    def sync_dir(self, path: str) -> None:
        path = posixpath.normpath(path)
        self.step("sync_dir", path)
        with self.mutex:
            rest: list[_NameChange] = []
            for change in self._name_changes:
                kind, name, target, node = change
                here = posixpath.dirname(name) == path or (target is not None and posixpath.dirname(target) == path)
                if here:
                    _rename_in(self._durable_names, kind, name, target, node)
                    if target is not None:
                        rest = [_moved(each, name, target) for each in rest]
                else:
                    rest.append(change)
            self._name_changes = rest

    def remove_tree(self, path: str) -> None:
        path = posixpath.normpath(path)
        with self.mutex:
            for name in sorted(self._names, reverse=True):
                if name == path or name.startswith(path + "/"):
                    self.step("remove", name)
                    self._change_name("unlink", name, None, None)

    def lock(self, path: str) -> ModelledLock:
        path = posixpath.normpath(path)
        if path in self.locks:
            raise DiskLocked(errno.EAGAIN, "in use by another process", path)
        self.locks.add(path)
        return ModelledLock(self, path)

    def boot_id(self) -> str:
        return f"boot {self.boots}"

    def _change_name(self, kind: str, path: str, target: str | None, node: Contents | None) -> None:
        _rename_in(self._names, kind, path, target, node)
        self._name_changes.append((kind, path, target, node))

    def _file(self, path: str) -> Contents:
        path = posixpath.normpath(path)
        node = self._names.get(path)
        if node is None:
            raise DiskError(errno.ENOENT if path not in self._names else errno.EISDIR, "not a file", path)
        return node


def _moved(change: _NameChange, source: str, target: str) -> _NameChange:
    """What was changed in a directory before it was moved has moved with it."""
    kind, path, to, node = change

    def new(name: str) -> str:
        return target + name[len(source) :] if name.startswith(source + "/") else name

    return kind, new(path), to and new(to), node


def _rename_in(
    names: dict[str, Contents | None], kind: str, path: str, target: str | None, node: Contents | None
) -> None:
    """Apply one change of names. One that lost what it builds on is lost too."""
    if kind == "link":
        parent = posixpath.dirname(path)
        if parent in ("", "/", ".") or parent in names:
            names[path] = node
    elif kind == "unlink":
        if path in names and names[path] is None:
            # Of a directory: it was empty, so what was in it has gone before it.
            for name in [name for name in names if name.startswith(path + "/")]:
                del names[name]
        names.pop(path, None)
    elif target is not None and path in names:
        for name in [name for name in names if name == path or name.startswith(path + "/")]:
            names[target + name[len(path) :]] = names.pop(name)

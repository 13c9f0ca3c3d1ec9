"""The seam to the file system: the only way in which the packages touch files, and its real form.

A File has one owner that appends at the end it tracks itself, so an append needs no fstat and no O_APPEND. `sync` may
run in another thread while the owner appends: it covers at least every append that returned before it was called.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from ottla.log.errors import DiskError, DiskFull, DiskLocked, FileClosed

Buffer = bytes | bytearray | memoryview

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_sync_data = getattr(os, "fdatasync", os.fsync)
# Python has posix_fallocate only, which makes the file as large as what is set aside.
_fallocate = getattr(ctypes.CDLL(None), "fallocate", None)
_KEEP_SIZE = 1


class File(Protocol):
    """One open file. Every method raises DiskError (DiskFull when there is no room, FileClosed after close)."""

    path: str

    def append(self, buffers: Sequence[Buffer]) -> None:
        """Write all buffers at the end, normally with one system call.

        On an error the tracked size does not move, but a part may have reached the file: truncate(size()) removes it.
        """

    def pread(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`; fewer only at the end of the file."""

    def pwrite(self, offset: int, data: Buffer) -> None: ...

    def truncate(self, size: int) -> None: ...

    def reserve(self, size: int) -> bool:
        """Set `size` bytes aside on the disk for this file, which does not grow by that; `truncate` gives back what is
        beyond its end. False where the system cannot, or has not so much left: then nothing is set aside."""

    def sync(self) -> None:
        """Make the contents durable. After an error the unsynced contents count as lost: never call it again."""

    def size(self) -> int: ...

    def close(self) -> None: ...


class Lock(Protocol):
    def release(self) -> None: ...


class Volume(NamedTuple):
    """Where a directory is: its absolute path, and the bytes of the file system that it is in, -1 where that is not
    known. Usable is what this process may still write."""

    path: str
    total_bytes: int
    usable_bytes: int


class Disk(Protocol):
    """A file system. Paths are strings, absolute or relative to the process; errors are DiskError."""

    def open(self, path: str, *, create: bool = False) -> File: ...

    def exists(self, path: str) -> bool: ...

    def read(self, path: str) -> bytes: ...

    def write_atomic(self, path: str, data: bytes) -> None:
        """Replace the whole file durably: after a crash it holds the old or the new contents, never a mixture. Whoever
        fails leaves nothing that takes room."""

    def rename(self, source: str, target: str) -> None: ...

    def remove(self, path: str) -> None: ...

    def mkdir(self, path: str, *, durable: bool = True) -> None:
        """Make the directory and its parents; no error when it exists. Unless `durable`, that takes `sync_dir`."""

    def listdir(self, path: str) -> list[str]: ...

    def sync_dir(self, path: str) -> None:
        """Make creations, renames and removals of names in this directory durable."""

    def remove_tree(self, path: str) -> None: ...

    def lock(self, path: str) -> Lock:
        """Take an exclusive lock that dies with the process. Raises DiskLocked."""

    def volume(self, path: str) -> Volume:
        """What an existing directory is on."""

    def boot_id(self) -> str:
        """What stays the same as long as the page cache does, and never comes again; "" if that cannot be told."""


def overwrite(disk: Disk, path: str, data: bytes, *, synced: bool = False) -> None:
    """Replace the contents of a file that can be rebuilt, or need not be whole. Not atomic; its name is not synced."""
    file = disk.open(path, create=True)
    try:
        file.truncate(0)
        file.append((data,))
        if synced:
            file.sync()
    finally:
        file.close()


@contextlib.contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except DiskError:
        raise
    except OSError as error:
        raise _disk_error(error, path) from error


def _disk_error(error: OSError, path: str) -> DiskError:
    kind = DiskFull if error.errno in _FULL else DiskError
    return kind(error.errno or errno.EIO, error.strerror or str(error), path)


class OsFile:
    """A file descriptor with a tracked end. Closing waits for no sync: the last user closes the descriptor."""

    __slots__ = ("_closed", "_end", "_fd", "_lock", "_syncing", "path")

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self._fd = fd
        self._end = os.fstat(fd).st_size
        self._lock = threading.Lock()
        self._syncing = 0
        self._closed = False

    def append(self, buffers: Sequence[Buffer]) -> None:
        self._check_open()
        total = 0
        for buffer in buffers:
            total += len(buffer)
        try:
            written = os.pwritev(self._fd, buffers, self._end)
            if written != total:
                self._append_rest(buffers, written)
        except OSError as error:
            raise _disk_error(error, self.path) from error
        self._end += total

    def _append_rest(self, buffers: Sequence[Buffer], written: int) -> None:
        """A short write: go on until all is written or the system says why not."""
        rest = memoryview(b"".join(buffers))
        while written < len(rest):
            more = os.pwrite(self._fd, rest[written:], self._end + written)
            if more <= 0:
                raise OSError(errno.EIO, "write made no progress")
            written += more

    def pread(self, offset: int, size: int) -> bytes:
        self._check_open()
        try:
            data = os.pread(self._fd, size, offset)
            if len(data) == size or offset + len(data) >= self._end:
                return data
            chunks = [data]
            got = len(data)
            while got < size:
                data = os.pread(self._fd, size - got, offset + got)
                if not data:
                    break
                chunks.append(data)
                got += len(data)
            return b"".join(chunks)
        except OSError as error:
            raise _disk_error(error, self.path) from error

    def pwrite(self, offset: int, data: Buffer) -> None:
        self._check_open()
        with _translated(self.path):
            rest = memoryview(data)
            done = 0
            while done < len(rest):
                written = os.pwrite(self._fd, rest[done:], offset + done)
                if written <= 0:
                    raise OSError(errno.EIO, "write made no progress")
                done += written
        self._end = max(self._end, offset + len(rest))

    def truncate(self, size: int) -> None:
        self._check_open()
        with _translated(self.path):
            os.ftruncate(self._fd, size)
        self._end = size

    def reserve(self, size: int) -> bool:
        self._check_open()
        if _fallocate is None:
            return False
        return bool(_fallocate(self._fd, _KEEP_SIZE, ctypes.c_int64(0), ctypes.c_int64(size)) == 0)

    def sync(self) -> None:
        with self._lock:
            self._check_open()
            self._syncing += 1
        try:
            with _translated(self.path):
                _sync_data(self._fd)
        finally:
            with self._lock:
                self._syncing -= 1
                last = self._closed and self._syncing == 0
            if last:
                os.close(self._fd)

    def size(self) -> int:
        return self._end

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._syncing:
                return
        with _translated(self.path):
            os.close(self._fd)

    def _check_open(self) -> None:
        if self._closed:
            raise FileClosed(errno.EBADF, "file is closed", self.path)


class OsLock:
    def __init__(self, fd: int) -> None:
        self._fd = fd

    def release(self) -> None:
        """Unlock; the lock file itself stays, so that no two processes lock different files of one name."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class OsDisk:
    """The operating system's file system."""

    def open(self, path: str, *, create: bool = False) -> OsFile:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        with _translated(path):
            return OsFile(path, os.open(path, flags, 0o644))

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def read(self, path: str) -> bytes:
        with _translated(path), open(path, "rb") as file:
            return file.read()

    def write_atomic(self, path: str, data: bytes) -> None:
        temporary = path + ".tmp"
        with _translated(path):
            try:
                with open(temporary, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                # On a full disk half a file takes room.
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
            os.replace(temporary, path)
        self.sync_dir(os.path.dirname(path) or ".")

    def rename(self, source: str, target: str) -> None:
        with _translated(source):
            os.replace(source, target)

    def remove(self, path: str) -> None:
        with _translated(path):
            os.unlink(path)

    def mkdir(self, path: str, *, durable: bool = True) -> None:
        missing = []
        while path and not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for name in reversed(missing):
            with _translated(name):
                os.makedirs(name, exist_ok=True)
            if durable:
                self.sync_dir(os.path.dirname(name) or ".")

    def listdir(self, path: str) -> list[str]:
        with _translated(path):
            return sorted(os.listdir(path))

    def sync_dir(self, path: str) -> None:
        with _translated(path):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def remove_tree(self, path: str) -> None:
        with _translated(path):
            shutil.rmtree(path)

    def lock(self, path: str) -> OsLock:
        with _translated(path):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            raise DiskLocked(error.errno or errno.EAGAIN, "in use by another process", path) from error
        return OsLock(fd)

    def volume(self, path: str) -> Volume:
        with _translated(path):
            found = os.statvfs(path)
        return Volume(os.path.abspath(path), found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)

    def boot_id(self) -> str:
        try:
            return self.read(_BOOT_ID).decode("ascii").strip()
        except DiskError:
            return ""

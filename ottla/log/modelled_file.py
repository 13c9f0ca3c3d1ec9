"""The files of a `ModelledDisk`: what programs see of one, what is on the platter, and what happened in between."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ottla.log.disk import Buffer
from ottla.log.errors import FileClosed

if TYPE_CHECKING:
    from ottla.log.modelled_disk import ModelledDisk


class Crashed(BaseException):
    """The power went in the middle of an operation. Not an Exception: no code may handle it and go on."""


@dataclass(slots=True)
class Contents:
    """A file: contents as programs see them, contents on the platter, and the changes in between. `reserved`: bytes
    that are set aside for it, counted from its beginning. `rotten`: a bit of it was flipped."""

    data: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)  # (position, bytes) or (size, None: truncate)
    reserved: int = 0
    rotten: bool = False

    def change(self, at: int, data: bytes | None) -> None:
        contents = self.data
        if data is not None and at == len(contents):
            contents += data
        else:
            apply_change(contents, at, data)
        self.pending.append((at, data))


def apply_change(contents: bytearray, at: int, data: bytes | None) -> None:
    """A write beyond the end leaves zeroes between, as does growing by truncate."""
    if len(contents) < at:
        contents.extend(bytes(at - len(contents)))
    if data is None:
        del contents[at:]
    else:
        contents[at : at + len(data)] = data


class ModelledFile:
    __slots__ = ("_disk", "_generation", "_node", "_open", "path")

    def __init__(self, disk: ModelledDisk, path: str, node: Contents) -> None:
        self.path = path
        self._disk = disk
        self._node = node
        self._generation = disk.generation
        self._open = True

    def append(self, buffers: Sequence[Buffer]) -> None:
        self._check()
        data = b"".join(buffers)
        self._disk.write_through("append", self.path, self._node, len(self._node.data), data)

    def pread(self, offset: int, size: int) -> bytes:
        self._check()
        self._disk.step("pread", self.path)
        return bytes(self._node.data[offset : offset + size])

    def pwrite(self, offset: int, data: Buffer) -> None:
        self._check()
        self._disk.write_through("pwrite", self.path, self._node, offset, bytes(data))

    def truncate(self, size: int) -> None:
        self._check()
        self._disk.step("truncate", self.path)
        with self._disk.mutex:
            self._node.change(size, None)
            self._node.reserved = 0

    def reserve(self, size: int) -> bool:
        self._check()
        self._disk.step("reserve", self.path)
        return self._disk.reserve(self._node, size)

    def sync(self) -> None:
        self._check()
        self._disk.sync_node(self.path, self._node)

    def size(self) -> int:
        return len(self._node.data)

    def close(self) -> None:
        self._open = False

    def _check(self) -> None:
        if self._generation != self._disk.generation:
            raise Crashed(f"{self.path} was opened before the crash")
        if not self._open:
            raise FileClosed(errno.EBADF, "file is closed", self.path)


class ModelledLock:
    def __init__(self, disk: ModelledDisk, path: str) -> None:
        self._disk = disk
        self._path = path

    def release(self) -> None:
        self._disk.locks.discard(self._path)

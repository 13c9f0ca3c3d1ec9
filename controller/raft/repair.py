"""The end of a metadata log that does not check: was it torn by a crash, or has it changed since it was durable?

Entries that were torn were never acknowledged. Those that were durable may have been, and a voter that cuts them off as
if torn could help to elect a leader without them (Jepsen on NATS 2.12.1, issue 7549).
"""

import struct
from typing import Final

import structlog

from ottla.log import Disk
from ottla.records import BatchHeader, CorruptBatch, decode_batch, flip_back, sound_batch

DURABLE_HEADER: Final = "durable"
"""Of each entry: everything below this offset was durable when the entry was written."""

_TERM_AT = 12
_LENGTH: Final = struct.Struct(">i")

log = structlog.get_logger(__name__)


def mend_tail(disk: Disk, directory: str) -> int:
    """Flip back single bits at the end of the log, and tell below which offset everything was durable according to
    whole entries that stand behind what does not check; 0 if nothing is wrong. Raises DiskError."""
    durable, term = 0, -1
    names = sorted(name for name in disk.listdir(directory) if name.endswith(".log") and len(name) == 24)
    damaged = False
    for name in names:
        path, expected = f"{directory}/{name}", int(name[:20])
        data = bytearray(disk.read(path))
        position = 0
        while position < len(data):
            header = sound_batch(data, position)
            if header is None or (header.base_offset != expected and not damaged):
                if not damaged and flip_back(data, position, expected) is not None:
                    _rewrite(disk, path, data)
                    log.warning("metadata_entry_mended", file=path, position=position, offset=expected)
                    continue
                damaged = True
                position += 1
                position = _next_candidate(data, position)
                continue
            if header.leader_epoch != term and _mend_term(data, position, header):
                _rewrite(disk, path, data)
                log.warning("metadata_entry_mended", file=path, position=position, offset=expected)
                continue
            term = header.leader_epoch
            if damaged:
                durable = max(durable, _durable_before(data, position, header))
            expected = header.next_offset
            position += header.size
    return durable


def _next_candidate(data: bytearray, position: int) -> int:
    """The next place where a batch may begin: the byte of its magic is right, and its length positive and not huge."""
    while True:
        at = data.find(b"\x02", position + 16)
        if at < 0:
            return len(data)
        position = at - 16
        if data[position : position + 4] == bytes(4) and data[position + 8] == 0:
            return position
        position += 1


def _mend_term(data: bytearray, position: int, header: BatchHeader) -> bool:
    """The term of an entry stands in its key too, which the checksum covers."""
    try:
        (record,) = decode_batch(bytes(data[position : position + header.size]), max_bytes=header.size)
        term = header.leader_epoch if record.key is None else int(record.key)
    except (CorruptBatch, ValueError):
        return False
    if term == header.leader_epoch:
        return False
    _LENGTH.pack_into(data, position + _TERM_AT, term)
    return True


def _durable_before(data: bytearray, position: int, header: BatchHeader) -> int:
    try:
        (record,) = decode_batch(bytes(data[position : position + header.size]), max_bytes=header.size)
        return int(dict(record.headers).get(DURABLE_HEADER) or b"0")
    except (CorruptBatch, ValueError):
        return 0


def _rewrite(disk: Disk, path: str, data: bytearray) -> None:
    disk.write_atomic(path, bytes(data))

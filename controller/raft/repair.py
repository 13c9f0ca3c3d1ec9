"""The end of a metadata log that does not check: was it torn by a crash, or has it changed since it was durable?

Entries that were torn were never acknowledged. Those that were durable may have been, and a voter that cuts them off as
if torn could help to elect a leader without them (Jepsen on NATS 2.12.1, issue 7549).
"""

import struct
from typing import Final

import structlog
from crc32c import crc32c

from ottla.log import Disk
from ottla.records import HEADER_SIZE, LOG_OVERHEAD, BatchHeader, CorruptBatch, decode_batch, read_header, verify_batch

DURABLE_HEADER: Final = "durable"
"""Of each entry: everything below this offset was durable when the entry was written."""

# Longer entries are not searched for a flipped bit: every bit of one costs a look.
MAX_SEARCHED: Final = 64 * 1024
_TERM_AT, _CRC_AT, _COVERED_FROM, _MAGIC = 12, 17, 21, 2
_LENGTH: Final = struct.Struct(">i")
_POLYNOMIAL: Final = 0x82F63B78  # CRC-32C, reflected

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
            header = _sound(data, position)
            if header is None or (header.base_offset != expected and not damaged):
                if not damaged and _flip_back(data, position, expected):
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


def _sound(data: bytearray, position: int) -> BatchHeader | None:
    if position + HEADER_SIZE > len(data):
        return None
    size = _LENGTH.unpack_from(data, position + 8)[0] + LOG_OVERHEAD
    if not HEADER_SIZE <= size <= len(data) - position:
        return None
    try:
        return verify_batch(bytes(data[position : position + size]))
    except CorruptBatch:
        return None


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


# -- one bit


def _flip_back(data: bytearray, position: int, offset: int) -> bool:
    """Whether flipping one bit makes a whole entry of what stands at `position`; then it is flipped."""
    if position + HEADER_SIZE > len(data):
        return False
    where = _flipped_length(data, position) or _flipped_elsewhere(data, position, offset)
    if where is None:
        return False
    byte, bit = where
    data[byte] ^= 1 << bit
    header = _sound(data, position)
    if header is not None and header.base_offset == offset:
        return True
    data[byte] ^= 1 << bit
    return False


def _flipped_length(data: bytearray, position: int) -> tuple[int, int] | None:
    for number in range(32):
        byte, bit = position + 8 + number // 8, number % 8
        data[byte] ^= 1 << bit
        sound = _sound(data, position)
        data[byte] ^= 1 << bit
        if sound is not None:
            return byte, bit
    return None


def _flipped_elsewhere(data: bytearray, position: int, offset: int) -> tuple[int, int] | None:
    header = read_header(bytes(data[position : position + HEADER_SIZE]))
    size = header.batch_length + LOG_OVERHEAD
    if not HEADER_SIZE <= size <= min(len(data) - position, MAX_SEARCHED):
        return None
    wrong = (header.base_offset ^ offset) & 0xFFFF_FFFF_FFFF_FFFF
    if wrong:
        return _only_bit(wrong, position, 8)
    if header.magic != _MAGIC:
        return _only_bit((header.magic & 0xFF) ^ _MAGIC, position + 16, 1)
    syndrome = crc32c(bytes(data[position + _COVERED_FROM : position + size])) ^ header.crc
    if not syndrome:
        return None
    return _only_bit(syndrome, position + _CRC_AT, 4) or _covered_bit(syndrome, position + size, size - _COVERED_FROM)


def _only_bit(wrong: int, start: int, width: int) -> tuple[int, int] | None:
    """Where a big-endian number of so many bytes is wrong, if in one bit."""
    if wrong & (wrong - 1):
        return None
    number = wrong.bit_length() - 1
    return start + width - 1 - number // 8, number % 8


def _covered_bit(syndrome: int, end: int, length: int) -> tuple[int, int] | None:
    """Which of the `length` bytes before `end` has the bit whose change changes the checksum by `syndrome`.

    The change that a bit makes is that of the bit after it, one step of the register further.
    """
    change = _POLYNOMIAL  # of the highest bit of the last byte, which goes last through the reflected register
    for number in range(length * 8):
        if change == syndrome:
            return end - 1 - number // 8, 7 - number % 8
        change = (change >> 1) ^ (_POLYNOMIAL if change & 1 else 0)
    return None

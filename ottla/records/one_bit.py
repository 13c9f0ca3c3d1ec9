"""A single bit that has flipped in a batch: the checksum tells which. No torn write looks like that. Pure."""

import struct
from typing import Final

from crc32c import crc32c

from ottla.records.header import HEADER_SIZE, LOG_OVERHEAD, BatchHeader, CorruptBatch, read_header, verify_batch

MAX_SEARCHED: Final = 64 * 1024
"""Longer batches are not searched for a flipped bit: every bit of one costs a look."""

_CRC_AT, _COVERED_FROM, _MAGIC = 17, 21, 2
_LENGTH: Final = struct.Struct(">i")
_POLYNOMIAL: Final = 0x82F63B78  # CRC-32C, reflected


def sound_batch(data: bytearray, position: int) -> BatchHeader | None:
    """The header of the batch at `position`, if one stands there whole."""
    if position + HEADER_SIZE > len(data):
        return None
    size = _LENGTH.unpack_from(data, position + 8)[0] + LOG_OVERHEAD
    if not HEADER_SIZE <= size <= len(data) - position:
        return None
    try:
        return verify_batch(bytes(data[position : position + size]))
    except CorruptBatch:
        return None


def flip_back(data: bytearray, position: int, offset: int) -> int | None:
    """Where the bit has flipped that keeps what stands at `position` from being a batch that begins at `offset`; it is
    flipped back then. None if it is not for one bit alone."""
    if position + HEADER_SIZE > len(data):
        return None
    where = _flipped_length(data, position) or _flipped_elsewhere(data, position, offset)
    if where is None:
        return None
    byte, bit = where
    data[byte] ^= 1 << bit
    header = sound_batch(data, position)
    if header is not None and header.base_offset == offset:
        return byte
    data[byte] ^= 1 << bit
    return None


def _flipped_length(data: bytearray, position: int) -> tuple[int, int] | None:
    for number in range(32):
        byte, bit = position + 8 + number // 8, number % 8
        data[byte] ^= 1 << bit
        sound = sound_batch(data, position)
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

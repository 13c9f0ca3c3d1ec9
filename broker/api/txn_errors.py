"""What the transactional APIs have in common: error codes that older versions of them do not know."""

from __future__ import annotations

from kio.schema.errors import ErrorCode

_FENCED_SINCE = {22: 4, 24: 2, 25: 2, 26: 2}
"""The version of each API from which on its clients know PRODUCER_FENCED (KIP-588)."""


def known_error(api_key: int, version: int, error: ErrorCode) -> ErrorCode:
    """INVALID_PRODUCER_EPOCH, which means the same, for a client that does not know PRODUCER_FENCED."""
    if error is ErrorCode.producer_fenced and version < _FENCED_SINCE[api_key]:
        return ErrorCode.invalid_producer_epoch
    return error

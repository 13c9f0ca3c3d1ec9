"""What the arguments of a consumer mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, Literal

from ottla.client.consumer.grouping import GroupSettings
from ottla.client.consumer.position import Reset
from ottla.client.group.assignors import ASSIGNORS
from ottla.client.group.model import MemberConfig
from ottla.client.offsets import EARLIEST, LATEST

Strategy = Literal["range", "roundrobin", "sticky", "cooperative-sticky"]

ISOLATION: Final = {"read_uncommitted": 0, "read_committed": 1}
_RESETS: Final = {"earliest": EARLIEST, "latest": LATEST, "none": None}
_BY_DURATION: Final = "by_duration:"
_ISO_8601: Final = re.compile(
    r"P(?:(?P<days>\d+)D)?(?:T(?=.)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d{1,9})?)S)?)?"
)


def parse_duration(text: str) -> timedelta:
    """An ISO 8601 duration of days, hours, minutes and seconds, such as "P1DT12H". Raises ValueError."""
    match = _ISO_8601.fullmatch(text)
    parts = {} if match is None else {name: float(part) for name, part in match.groupdict().items() if part}
    if not parts:
        raise ValueError(f"{text!r} is not an ISO 8601 duration such as PT1H30M")
    return timedelta(**parts)


def reset_policy(text: str) -> Reset | None:
    """What `auto_offset_reset` says. Raises ValueError."""
    if text.startswith(_BY_DURATION):
        return parse_duration(text.removeprefix(_BY_DURATION))
    if text not in _RESETS:
        raise ValueError(f"auto_offset_reset {text!r} is none of {', '.join(_RESETS)}, {_BY_DURATION}DURATION")
    return _RESETS[text]


def group_settings(
    group_id: str,
    *,
    instance_id: str | None,
    protocol: str,
    strategy: Strategy | Sequence[Strategy],
    remote_assignor: str | None,
    auto_commit_ms: float | None,
    session_timeout_ms: float,
    heartbeat_interval_ms: float,
    max_poll_interval_ms: float,
    rack: str | None,
    require_stable: bool,
) -> GroupSettings:
    """The settings of a member. Raises ValueError."""
    if not group_id:
        raise ValueError("group_id is empty")
    if protocol not in ("classic", "consumer"):
        raise ValueError(f"group_protocol {protocol!r} is none of classic, consumer")
    if remote_assignor is not None and protocol == "classic":
        raise ValueError("group_remote_assignor needs group_protocol consumer")
    names: Sequence[str] = [strategy] if isinstance(strategy, str) else list(strategy)
    unknown = [name for name in names if name not in ASSIGNORS]
    if unknown or not names:
        raise ValueError(f"partition_assignment_strategy {unknown} is none of {', '.join(ASSIGNORS)}")
    if not 0 < heartbeat_interval_ms < session_timeout_ms:
        raise ValueError("heartbeat_interval_ms must be below session_timeout_ms")
    if max_poll_interval_ms <= 0:
        raise ValueError("max_poll_interval_ms must be above 0")
    if auto_commit_ms is not None and auto_commit_ms <= 0:
        raise ValueError("auto_commit_interval_ms must be above 0")
    member = MemberConfig(
        group_id,
        instance_id,
        session_timeout_ms / 1000,
        heartbeat_interval_ms / 1000,
        max_poll_interval_ms / 1000,
        rack,
    )
    auto_commit = None if auto_commit_ms is None else auto_commit_ms / 1000
    assignors = [ASSIGNORS[name] for name in names] if protocol == "classic" else None
    return GroupSettings(member, assignors, remote_assignor, auto_commit, require_stable)

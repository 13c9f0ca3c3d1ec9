"""Broker sessions: who has been heard of, and until when that counts. Pure; times are seconds of one clock."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(slots=True)
class _Session:
    deadline: float
    heard: bool


class Sessions:
    """The sessions of one controller's reign.

    A session that was only taken over from the image has not been `heard`: it keeps its broker from being fenced
    for one timeout, but is no proof that the broker lives.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._sessions: dict[int, _Session] = {}

    def take_over(self, broker_ids: Iterable[int], now: float) -> None:
        """A new controller cannot know when these were last heard of: they get a whole timeout."""
        for broker_id in broker_ids:
            self._sessions[broker_id] = _Session(now + self._timeout, heard=False)

    def touch(self, broker_id: int, now: float) -> None:
        self._sessions[broker_id] = _Session(now + self._timeout, heard=True)

    def end(self, broker_ids: Iterable[int]) -> None:
        for broker_id in broker_ids:
            self._sessions.pop(broker_id, None)

    def expire(self, broker_ids: Iterable[int], now: float) -> None:
        """These are known to be gone. They stay until `end`, so that whoever fences them may try again."""
        for broker_id in broker_ids:
            self._sessions[broker_id] = _Session(now, heard=False)

    def live(self, broker_id: int, now: float) -> bool:
        """Whether this broker has been heard of within the timeout."""
        session = self._sessions.get(broker_id)
        return session is not None and session.heard and session.deadline > now

    def expired(self, now: float) -> list[int]:
        return [broker_id for broker_id, session in self._sessions.items() if session.deadline <= now]

    def next_deadline(self) -> float | None:
        return min((session.deadline for session in self._sessions.values()), default=None)

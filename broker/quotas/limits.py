"""Which quota holds for a client: the most specific one that is set (KIP-55). Pure.

user and client id, user and default client id, user,
default user and client id, default user and default client id, default user,
client id, default client id
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

NO_ONE = None
"""Stands for the default user or client id in an entity."""

_Entity = tuple[tuple[str, str | None], ...]
_ORDER = (
    (("user", True), ("client-id", True)),
    (("user", True), ("client-id", False)),
    (("user", True),),
    (("user", False), ("client-id", True)),
    (("user", False), ("client-id", False)),
    (("user", False),),
    (("client-id", True),),
    (("client-id", False),),
)
"""Parts of an entity, and whether each is meant by its name or as the default."""


class Limit(NamedTuple):
    """`rate` in units a second, shared by all connections of the same `sharers`: (user, client id), of which one is
    None where the quota does not tell by it."""

    rate: float
    sharers: tuple[str | None, str | None]


class Limits:
    """The quotas of one image. `find` remembers nothing: who asks often keeps the answer until the image changes."""

    def __init__(self, quotas: Iterable[tuple[Mapping[str, str | None], Mapping[str, float]]] = ()) -> None:
        self._by_entity: dict[_Entity, Mapping[str, float]] = {
            tuple(sorted(entity.items())): values for entity, values in quotas
        }
        self.keys = frozenset(key for values in self._by_entity.values() for key in values)

    def find(self, key: str, user: str, client_id: str) -> Limit | None:
        """The limit for quota `key`, None where there is none."""
        if key not in self.keys:
            return None
        names = {"user": user, "client-id": client_id}
        for parts in _ORDER:
            entity = tuple(sorted((kind, names[kind] if named else NO_ONE) for kind, named in parts))
            rate = self._by_entity.get(entity, {}).get(key)
            if rate is not None:
                kinds = [kind for kind, _ in parts]
                return Limit(rate, (user if "user" in kinds else None, client_id if "client-id" in kinds else None))
        return None

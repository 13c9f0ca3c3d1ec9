"""The part of the admin client that is about client quotas (KIP-546)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

from ottla.client.admin import quotas
from ottla.client.admin.structs import AnyName, ClientQuota
from ottla.client.network import Network


class QuotaAdmin(ABC):
    """What an `Admin` can do with quotas.

    An entity is given by its parts, of which there is at least one: ``{"user": "alice", "client-id": "app"}``; None in
    place of a name stands for all that have no quota of their own. Quotas are `producer_byte_rate` and
    `consumer_byte_rate` in bytes a second and broker, and `request_percentage` of one core.
    """

    _timeout: float

    @abstractmethod
    def _ready(self) -> Network:
        """Raises IllegalStateError."""

    async def describe_client_quotas(
        self, components: Mapping[str, str | AnyName | None] | None = None, *, strict: bool = False
    ) -> list[ClientQuota]:
        """The quotas of all entities that have these parts, with ANY_NAME for any name; with `strict` and no others."""
        return await quotas.describe(self._ready(), components or {}, self._timeout, strict=strict)

    async def alter_client_quotas(
        self,
        changes: Iterable[tuple[Mapping[str, str | None], Mapping[str, float | None]]],
        *,
        validate_only: bool = False,
    ) -> None:
        """Set the quotas of entities, or remove those that are given as None. Each entity is changed as a whole.

        Raises a BrokerResponseError of INVALID_REQUEST for what is no entity, no quota or no value for it.
        """
        await quotas.alter(self._ready(), list(changes), self._timeout, validate_only=validate_only)

"""The part of the admin client that is about groups."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

from ottla.client.admin import groups
from ottla.client.network import Network
from ottla.client.structs import GroupDescription, GroupListing, OffsetAndMetadata, TopicPartition


class GroupAdmin(ABC):
    """What an `Admin` can do with groups."""

    _timeout: float

    @abstractmethod
    def _ready(self) -> Network:
        """Raises IllegalStateError."""

    async def list_groups(
        self, *, states: Iterable[str] = (), types: Iterable[str] = (), protocol_types: Iterable[str] = ()
    ) -> list[GroupListing]:
        """All groups, by name; only those in one of these states (KIP-518), of one of these types (KIP-848), or with
        one of these protocol types ("consumer", "connect", "" for a group that only has offsets; KIP-1043)."""
        found = await groups.list_all(self._ready(), self._timeout, list(states), list(types))
        wanted = set(protocol_types)
        return [group for group in found if not wanted or group.protocol_type in wanted]

    async def list_consumer_groups(
        self, *, states: Iterable[str] = (), types: Iterable[str] = ()
    ) -> list[GroupListing]:
        """`list_groups` of consumers: of either protocol, and those that only have offsets."""
        return await self.list_groups(states=states, types=types, protocol_types=("consumer", ""))

    async def describe_consumer_groups(self, group_ids: Iterable[str]) -> dict[str, GroupDescription]:
        """Groups of either protocol with their members and what these have. Raises GroupIdNotFoundError."""
        network = self._ready()
        return {name: await groups.describe(network, name, self._timeout) for name in group_ids}

    async def describe_classic_groups(self, group_ids: Iterable[str]) -> dict[str, GroupDescription]:
        """Groups of the classic protocol, whatever it is that their members share out (KIP-1043). Raises
        GroupIdNotFoundError, also for a group of another protocol."""
        network = self._ready()
        return {name: await groups.describe_classic(network, name, self._timeout) for name in group_ids}

    async def remove_members_from_consumer_group(
        self, group_id: str, group_instance_ids: Iterable[str] | None = None, *, reason: str | None = None
    ) -> None:
        """Take static members out of a group, by their instance ids, or (None) all members (KIP-345, KIP-571). The
        coordinator logs the reason (KIP-800).

        A member that is alive joins again. Raises the error of the first that could not be removed:
        UnknownMemberIdError for one that is not there; GroupIdNotFoundError.
        """
        wanted = None if group_instance_ids is None else list(group_instance_ids)
        await groups.remove_members(self._ready(), group_id, wanted, reason, self._timeout)

    async def delete_consumer_groups(self, group_ids: Iterable[str]) -> None:
        """Delete groups and their offsets. Raises the error of the first that could not be deleted:
        GroupIdNotFoundError, NonEmptyGroupError."""
        network = self._ready()
        for name in group_ids:
            await groups.delete(network, name, self._timeout)

    async def list_consumer_group_offsets(
        self, group_id: str, partitions: Iterable[TopicPartition] | None = None, *, require_stable: bool = False
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """Where a group is: what it has committed of these partitions, or of all; without those that have no offset."""
        return await groups.offsets(self._ready(), group_id, partitions, self._timeout, require_stable)

    async def alter_consumer_group_offsets(
        self, group_id: str, offsets: Mapping[TopicPartition, int | OffsetAndMetadata]
    ) -> None:
        """Set where a group goes on. Raises NonEmptyGroupError while it has members."""
        places = {
            TopicPartition(*tp): OffsetAndMetadata(place) if isinstance(place, int) else OffsetAndMetadata(*place)
            for tp, place in offsets.items()
        }
        await groups.alter_offsets(self._ready(), group_id, places, self._timeout)

    async def delete_consumer_group_offsets(self, group_id: str, partitions: Iterable[TopicPartition]) -> None:
        """Forget where a group is in these partitions. Raises a BrokerResponseError of GROUP_SUBSCRIBED_TO_TOPIC while
        a member reads the topic."""
        await groups.delete_offsets(self._ready(), group_id, partitions, self._timeout)

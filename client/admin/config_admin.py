"""The part of the admin client that is about configs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

from ottla.client.admin import configs
from ottla.client.admin.structs import AlterConfigOp
from ottla.client.network import Network
from ottla.client.structs import ConfigEntry, ConfigResource


class ConfigAdmin(ABC):
    """What an `Admin` can do with configs."""

    _timeout: float

    @abstractmethod
    def _ready(self) -> Network:
        """Raises IllegalStateError."""

    async def describe_configs(
        self,
        resources: Iterable[ConfigResource],
        *,
        include_synonyms: bool = False,
        include_documentation: bool = False,
    ) -> dict[ConfigResource, dict[str, ConfigEntry]]:
        """All configs of topics, brokers and groups, by name. A broker is asked about itself."""
        wanted = [ConfigResource(*resource) for resource in resources]
        return await configs.describe(
            self._ready(), wanted, self._timeout, synonyms=include_synonyms, documentation=include_documentation
        )

    async def incremental_alter_configs(
        self,
        changes: Mapping[ConfigResource, Mapping[str, str | AlterConfigOp | None]],
        *,
        validate_only: bool = False,
    ) -> None:
        """Change configs; what is not named stays as it is (KIP-339). A text is set, None goes back to the default.

        Each resource is changed wholly or not at all. Raises the error of the first that was not; the others are
        changed.
        """
        await configs.alter(self._ready(), changes, self._timeout, validate_only)

    async def alter_configs(
        self, values: Mapping[ConfigResource, Mapping[str, str]], *, validate_only: bool = False
    ) -> None:
        """Set all configs of these resources: what is not named goes back to the default. Where two do this at the same
        time one undoes the other, which is why Kafka would rather see `incremental_alter_configs`."""
        await configs.replace(self._ready(), values, self._timeout, validate_only)

    async def list_config_resources(self, kinds: Iterable[str] = ()) -> list[ConfigResource]:
        """What has configs, of these kinds ("topic", "broker", "group", ...) or of all (KIP-1142). Raises
        UnsupportedVersionError where brokers cannot tell."""
        return await configs.list_resources(self._ready(), list(kinds), self._timeout)

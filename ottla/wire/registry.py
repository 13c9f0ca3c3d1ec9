"""Which APIs a server speaks: the one table that dispatch and ApiVersions are answered from.

ApiVersions (key 18, v0-v4) is answered here. A version that is not known gets the v0 body with
UNSUPPORTED_VERSION and the range of ApiVersions itself, so that a newer client can step down (KIP-511).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from kio.index import KioIndexError
from kio.schema.errors import ErrorCode

from ottla.wire.api import Answer, Api, Raw, Request
from ottla.wire.framing import Frame
from ottla.wire.metering import Meter
from ottla.wire.schema import (
    decode,
    encode,
    request_header_flexible,
    request_type,
    response_header_flexible,
    response_type,
)
from ottla.wire.walk import EntityType

API_VERSIONS: Final = 18
API_VERSIONS_MAX: Final = 4
MAX_API_VERSIONS_BYTES: Final = 64 * 1024
_MAX_SOFTWARE = 256
_SOFTWARE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")


@dataclass(frozen=True, slots=True)
class Feature:
    """A cluster feature as ApiVersions tells it (KIP-584): what this node supports, what the cluster uses."""

    name: str
    min_version: int
    max_version: int
    finalized: int | None = None


@dataclass
class Route:
    """One API in one version: how its requests are read and its answers written."""

    api: Api
    version: int
    flexible_request: bool = field(init=False)
    flexible_response: bool = field(init=False)

    def __post_init__(self) -> None:
        self.flexible_request = request_header_flexible(self.api.key, self.version)
        self.flexible_response = response_header_flexible(self.api.key, self.version)

    @cached_property
    def _request(self) -> EntityType:
        return request_type(self.api.key, self.version)

    @cached_property
    def _response(self) -> EntityType:
        return response_type(self.api.key, self.version)

    def parse(self, frame: Frame, pos: int) -> object:
        """The body that starts at `pos`. Raises ProtocolError."""
        if self.api.parser is not None:
            return self.api.parser(frame, self.version, pos)
        return decode(self._request, frame, pos)

    def encode(self, answer: Mapping[str, Any] | Any) -> bytes:
        """The body of the response."""
        return encode(self._response, answer)


class Registry:
    """APIs by key. `features` is asked each time a client asks for versions; it returns the features and the
    epoch of their finalized levels (-1: none). `meter`, if there is one, is told what every request took."""

    def __init__(self, features: Callable[[], tuple[list[Feature], int]] | None = None) -> None:
        self.meter: Meter | None = None
        self._features = features
        self._apis: dict[int, Api] = {}
        self._routes: dict[tuple[int, int], Route] = {}
        self._told: tuple[object, Raw] | None = None
        self.add(
            Api(
                API_VERSIONS,
                "ApiVersions",
                0,
                API_VERSIONS_MAX,
                self._api_versions,
                max_request_bytes=MAX_API_VERSIONS_BYTES,
            )
        )

    def add(self, api: Api) -> None:
        """Raises ValueError for a key that is there already or a version that has no schema."""
        if api.key in self._apis:
            raise ValueError(f"{api.name} and {self._apis[api.key].name} both have key {api.key}")
        if api.min_version > api.max_version:
            raise ValueError(f"{api.name} has no versions")
        for version in (api.min_version, api.max_version):
            try:
                request_type(api.key, version)
                response_type(api.key, version)
            except KioIndexError as error:
                raise ValueError(f"{api.name} v{version} has no schema") from error
        self._apis[api.key] = api
        self._told = None

    def lookup(self, key: int) -> Api | None:
        return self._apis.get(key)

    def __iter__(self) -> Iterator[Api]:
        """In the order of keys."""
        return iter([self._apis[key] for key in sorted(self._apis)])

    def route(self, key: int, version: int) -> Route | None:
        """None for a key or a version that is not served."""
        route = self._routes.get((key, version))
        if route is None:
            api = self._apis.get(key)
            if api is None or not api.min_version <= version <= api.max_version:
                return None
            route = self._routes[key, version] = Route(api, version)
        return route

    def unsupported_api_versions(self) -> Raw:
        """The v0 body for a client that asked ApiVersions in a version of the future."""
        api = self._apis[API_VERSIONS]
        return Raw([encode(response_type(API_VERSIONS, 0), _versions_body([api], ErrorCode.unsupported_version))])

    def _api_versions(self, request: Request) -> Answer:
        if request.api_version >= 3:
            name, version = request.body.client_software_name, request.body.client_software_version
            if not (_SOFTWARE.fullmatch(name) and _SOFTWARE.fullmatch(version)):
                return _versions_body([], ErrorCode.invalid_request)
            request.connection.client_software = f"{name}/{version}"[:_MAX_SOFTWARE]
        version = request.api_version
        features, epoch = self._features() if self._features is not None and version >= 3 else (None, -1)
        state = (version, None if features is None else tuple(features), epoch)
        if self._told is None or self._told[0] != state:
            body = _versions_body(list(self), ErrorCode.none)
            if features is not None:
                body |= _features_body(features, epoch, version)
            # Every new connection begins with this question, most of them in the same version.
            self._told = state, Raw([encode(response_type(API_VERSIONS, version), body)])
        return self._told[1]


def _versions_body(apis: list[Api], error: ErrorCode) -> dict[str, Any]:
    keys = [{"api_key": api.key, "min_version": api.min_version, "max_version": api.max_version} for api in apis]
    return {"error_code": error, "api_keys": keys}


def _features_body(features: list[Feature], epoch: int, version: int) -> dict[str, Any]:
    # Clients of v3 fail on a feature that goes down to 0, so that v4 was made for it (KAFKA-17011).
    supported = [
        {"name": f.name, "min_version": f.min_version, "max_version": f.max_version}
        for f in features
        if f.min_version > 0 or version >= 4
    ]
    finalized = [
        {"name": f.name, "max_version_level": f.finalized, "min_version_level": f.finalized}
        for f in features
        if f.finalized is not None
    ]
    return {"supported_features": supported, "finalized_features_epoch": epoch, "finalized_features": finalized}

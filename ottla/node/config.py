"""NodeConfig: what one node is told, checked as a whole before anything starts."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from ottla.controller import TOPIC_DEFAULTS, ConfigDef, InvalidConfig, MetadataImage
from ottla.node.definitions import BROKER_CONFIGS, SETTINGS
from ottla.node.endpoints import (
    Endpoint,
    Voter,
    parse_address,
    parse_listeners,
    parse_overrides,
    parse_protocol_map,
    parse_servers,
    parse_voters,
    split_list,
)
from ottla.node.kafka_keys import INERT, REFUSED, UNDESCRIBED, why
from ottla.node.rules import advertised_of, check, inter_broker_name
from ottla.node.settings import Settings
from ottla.node.sources import ConfigError, Given, from_environment, from_toml, to_variable

_ALIASES = {"log.dir": "log.dirs", "broker.id": "node.id"}


class NodeConfig(Settings):
    """A node's settings, valid by themselves and together. Made by `load_config` or `NodeConfig.parse`.

    `topic_defaults` are the given broker configs that topics take their defaults from, as text; `ignored` the given
    settings without effect; `given` all given settings as text but for secrets, by Kafka's names, as far as they are
    described.
    """

    topic_defaults: Mapping[str, str] = Field(default_factory=dict, exclude=True)
    ignored: tuple[str, ...] = Field(default=(), exclude=True)
    given: Mapping[str, str] = Field(default_factory=dict, exclude=True, repr=False)

    @field_validator("process_roles", mode="before")
    @classmethod
    def _roles(cls, value: Any) -> Any:
        return tuple(split_list(value)) if isinstance(value, str) else value

    @field_validator("listeners", "advertised_listeners", mode="before")
    @classmethod
    def _listeners(cls, value: Any) -> Any:
        return parse_listeners(value) if isinstance(value, str) else value

    @field_validator("listener_security_protocol_map", mode="before")
    @classmethod
    def _protocols(cls, value: Any) -> Any:
        return parse_protocol_map(value) if isinstance(value, str) else value

    @field_validator("controller_quorum_voters", mode="before")
    @classmethod
    def _voters(cls, value: Any) -> Any:
        return parse_voters(value) if isinstance(value, str) else value

    @field_validator("controller_quorum_bootstrap_servers", mode="before")
    @classmethod
    def _servers(cls, value: Any) -> Any:
        return parse_servers(value) if isinstance(value, str) else value

    @field_validator("ottla_http_listener", mode="before")
    @classmethod
    def _address(cls, value: Any) -> Any:
        return parse_address(value) if isinstance(value, str) else value

    @field_validator("max_connections_per_ip_overrides", mode="after")
    @classmethod
    def _overrides(cls, value: str) -> str:
        parse_overrides(value)
        return value

    @field_validator("inter_broker_listener_name", "controller_listener_names", mode="after")
    @classmethod
    def _name(cls, value: str) -> str:
        return value.strip().upper()

    @model_validator(mode="after")
    def _together(self) -> "NodeConfig":
        check(self)
        return self

    @property
    def is_controller(self) -> bool:
        return "controller" in self.process_roles

    @property
    def is_broker(self) -> bool:
        return "broker" in self.process_roles

    @property
    def controller_listener(self) -> Endpoint:
        """Where the RPC between nodes listens."""
        return next(each for each in self.listeners if each.name == self.controller_listener_names)

    @property
    def broker_listeners(self) -> tuple[Endpoint, ...]:
        """Where clients and other brokers come in; empty on a controller-only node."""
        return tuple(each for each in self.listeners if each.name != self.controller_listener_names)

    @property
    def advertised(self) -> tuple[Endpoint, ...]:
        """Where clients and other brokers are told to come: one for each of `broker_listeners`, in that order."""
        return tuple(advertised_of(self, each) for each in self.broker_listeners)

    @property
    def advertised_controller(self) -> Endpoint:
        """Where the other nodes reach this one: its entry among the voters, or else the advertised listener."""
        for voter in self.controller_quorum_voters:
            if voter.id == self.node_id:
                return Endpoint(self.controller_listener_names, voter.host, voter.port)
        return advertised_of(self, self.controller_listener)

    @property
    def inter_broker_listener(self) -> str:
        """The name of the listener that brokers replicate through."""
        return inter_broker_name(self)

    @property
    def voters(self) -> dict[int, Voter]:
        return {voter.id: voter for voter in self.controller_quorum_voters}

    @property
    def secret(self) -> bytes | None:
        """The cluster's secret. None only for the sole voter of a cluster of one, which may draw its own."""
        return self.ottla_cluster_secret.get_secret_value().encode() if self.ottla_cluster_secret else None

    def kafka_values(self) -> Mapping[str, str]:
        """What file and environment gave, by Kafka's names, for DescribeConfigs and topic defaults. No secrets."""
        return self.given

    @property
    def definitions(self) -> Mapping[str, ConfigDef]:
        """What settings there are."""
        return BROKER_CONFIGS

    def in_force(self, image: MetadataImage) -> "NodeConfig":
        """This configuration with what the metadata says for this broker, or for all, in place of the dynamic ones.

        What topics take their defaults from is not among them: that is resolved for each topic.
        """
        layers = (image.configs.get(("broker", name), {}) for name in ("", str(self.node_id)))
        given = {name: text for layer in layers for name, text in layer.items()}
        changed = {
            name.replace(".", "_"): BROKER_CONFIGS[name].parse(text)
            for name, text in given.items()
            if name in SETTINGS and BROKER_CONFIGS[name].dynamic
        }
        return self.model_copy(update=changed) if changed else self

    @classmethod
    def parse(cls, settings: Mapping[str, Given]) -> "NodeConfig":
        """From text by Kafka's names. Raises ConfigError, one line for whatever is wrong first."""
        own: dict[str, str] = {}
        topic_defaults: dict[str, str] = {}
        inert: dict[str, str] = {}
        ignored: list[str] = []
        for written, (text, origin) in settings.items():
            name = _ALIASES.get(written, written)
            if name in SETTINGS:
                if name in own and written != name:
                    continue  # the alias gives way to the name itself
                own[name] = text.strip()
            elif name in TOPIC_DEFAULTS:
                topic_defaults[name] = _checked(TOPIC_DEFAULTS[name], text.strip(), origin)
            elif name in INERT:
                inert[name] = _checked(INERT[name], text.strip(), origin)
                ignored.append(name)
            elif name in UNDESCRIBED:
                ignored.append(name)
            elif (reason := why(REFUSED, name)) is not None:
                raise ConfigError(f"{_what(written, origin)} is not supported: {reason}")
            else:
                raise ConfigError(_unknown(written, origin))
        given = {name: text for name, text in own.items() if "secret" not in name} | topic_defaults | inert
        try:
            return cls.model_validate(
                {**own, "topic.defaults": topic_defaults, "ignored": tuple(ignored), "given": given}
            )
        except ValidationError as error:
            raise ConfigError(_explain(error, settings)) from None


def _checked(definition: ConfigDef, text: str, origin: str) -> str:
    try:
        definition.parse(text)
    except InvalidConfig as error:
        raise ConfigError(f"{error} (from {origin})") from None
    return text


def _unknown(name: str, origin: str) -> str:
    close = difflib.get_close_matches(name, _known_names(), n=1)
    wanted = to_variable(close[0]) if close and origin.startswith("KAFKA_") else "".join(close)
    hint = f"; did you mean {wanted}?" if wanted else ""
    return f"{_what(name, origin)} is not a known setting{hint}"


def _what(name: str, origin: str) -> str:
    return origin if origin.startswith("KAFKA_") else f"{name} in {origin}"


def _known_names() -> Iterable[str]:
    return [*BROKER_CONFIGS, *UNDESCRIBED]


def _explain(error: ValidationError, settings: Mapping[str, Given]) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    message = str(first["msg"]).removeprefix("Value error, ")
    if not first["loc"]:
        return message
    name = str(first["loc"][0])
    if first["type"] == "missing":
        return f"{name} is not set (neither in a file nor as {to_variable(name)})"
    written = next((each for each in settings if _ALIASES.get(each, each) == name), name)
    given = settings.get(written)
    if given is None or "secret" in name:
        return f"{name}: {message}"
    return f"{name} = {given.text!r}: {message} (from {given.origin})"


def load_config(path: str | None, environ: Mapping[str, str], read: Callable[[str], bytes]) -> NodeConfig:
    """The configuration from a TOML file (None: none) and the environment, which wins.

    `read` returns a file's bytes (`Disk.read`); it is used for the file and for `ottla.cluster.secret.file`.
    Raises ConfigError with one line that says what is wrong and where.
    """
    settings: dict[str, Given] = {}
    if path is not None:
        settings |= from_toml(_read(path, read), path)
    variables = from_environment(environ)
    for name in variables:
        # A variable for either of two ways to say the same overrides both.
        for one, other in (("log.dir", "log.dirs"), ("ottla.cluster.secret", "ottla.cluster.secret.file")):
            if name in (one, other):
                settings.pop(one, None)
                settings.pop(other, None)
    settings |= variables
    return NodeConfig.parse(_with_secret(settings, read))


def _with_secret(settings: dict[str, Given], read: Callable[[str], bytes]) -> dict[str, Given]:
    file = settings.get("ottla.cluster.secret.file")
    if file is None:
        return settings
    if "ottla.cluster.secret" in settings:
        raise ConfigError("ottla.cluster.secret and ottla.cluster.secret.file are both set")
    return {**settings, "ottla.cluster.secret": Given(_read(file.text, read).strip(), file.text)}


def _read(path: str, read: Callable[[str], bytes]) -> str:
    try:
        return read(path).decode()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text") from None

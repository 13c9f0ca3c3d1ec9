"""Where settings come from: a TOML file with Kafka's dotted names, and KAFKA_* variables. Pure.

Both end as the same thing, a flat mapping of Kafka's names to text, with where each one was found.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import NamedTuple


class ConfigError(Exception):
    """The configuration is wrong; the text is one line for the person who wrote it."""


class Given(NamedTuple):
    """A setting's text, and where it was found: `KAFKA_NODE_ID` or the file's name."""

    text: str
    origin: str


# Variables of the official image and of its start scripts that are no settings.
_IMAGE_VARIABLES = frozenset(
    {
        "KAFKA_HEAP_OPTS",
        "KAFKA_OPTS",
        "KAFKA_JVM_PERFORMANCE_OPTS",
        "KAFKA_GC_LOG_OPTS",
        "KAFKA_JMX_OPTS",
        "KAFKA_JMX_PORT",
        "KAFKA_JMX_HOSTNAME",
        "KAFKA_LOG4J_OPTS",
        "KAFKA_LOG4J_LOGGERS",
        "KAFKA_LOG4J_ROOT_LOGLEVEL",
        "KAFKA_LOG4J_CMD_OPTS",
        "KAFKA_TOOLS_LOG4J_LOGLEVEL",
        "KAFKA_DEBUG",
        "KAFKA_CLUSTER_ID",
        "KAFKA_VERSION",
        "KAFKA_HOME",
        "KAFKA_CLASSPATH",
    }
)
# Kubernetes puts these into every pod of a namespace that has a service named "kafka" or "kafka-...".
_SERVICE_LINK = re.compile(r"KAFKA_(\w+_)?(SERVICE_(HOST|PORT)\w*|PORT(_\d+_(TCP|UDP)\w*)?)")
_SEPARATORS = {"___": "-", "__": "_", "_": "."}
_SPELLINGS = str.maketrans({separator: spelling for spelling, separator in _SEPARATORS.items()})


def _flatten(table: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{name}.")
        else:
            yield name, value


def _as_text(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list):
        return ",".join(_as_text(name, member) for member in value)
    raise ConfigError(f"{name}: a {type(value).__name__} is no value for a setting")


def from_toml(text: str, origin: str) -> dict[str, Given]:
    """The settings of a TOML file. `node.id = 1`, `"node.id" = 1` and `[node]` with `id = 1` all mean the same.

    Raises ConfigError for text that is not TOML, and for a setting that is there twice under two of those forms.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{origin}: {error}") from None
    settings: dict[str, Given] = {}
    for name, value in _flatten(table):
        if name in settings:
            raise ConfigError(f"{name} is set twice in {origin}")
        settings[name] = Given(_as_text(name, value), origin)
    return settings


def from_environment(environ: Mapping[str, str]) -> dict[str, Given]:
    """The settings among environment variables, by the official image's convention: KAFKA_ and then the name in
    upper case with `.` as `_`, `_` as `__` and `-` as `___`. CLUSTER_ID is `cluster.id`, as there.
    """
    settings: dict[str, Given] = {}
    for variable in sorted(environ):
        if variable in ("CLUSTER_ID", "KAFKA_CLUSTER_ID"):
            settings["cluster.id"] = Given(environ[variable], variable)
        elif variable.startswith("KAFKA_") and variable not in _IMAGE_VARIABLES:
            if _SERVICE_LINK.fullmatch(variable):
                continue
            rest = variable.removeprefix("KAFKA_")
            name = re.sub("___|__|_", lambda found: _SEPARATORS[found[0]], rest).lower()
            settings[name] = Given(environ[variable], variable)
    return settings


def to_variable(name: str) -> str:
    """The environment variable of a setting: `node.id` gives `KAFKA_NODE_ID`."""
    return "KAFKA_" + name.upper().translate(_SPELLINGS)

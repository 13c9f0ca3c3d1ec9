"""Every setting of a node as clients see it: its type, default, bounds and meaning, and whether it is dynamic.

Made from the tables that the node itself reads, so that the two cannot disagree.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, get_args

from annotated_types import Ge, Le
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from ottla.controller import TOPIC_DEFAULTS, ConfigDef, ConfigType
from ottla.node.endpoints import Endpoint
from ottla.node.kafka_keys import INERT
from ottla.node.settings import Settings

SETTINGS: Mapping[str, FieldInfo] = {str(field.alias): field for field in Settings.model_fields.values()}
"""By Kafka's names."""

_TYPES = {bool: ConfigType.BOOLEAN, int: ConfigType.INT, str: ConfigType.STRING, SecretStr: ConfigType.STRING}


def _definitions() -> Iterator[ConfigDef]:
    for name, field in SETTINGS.items():
        extra: Any = field.json_schema_extra
        least, most = (
            next((getattr(each, bound) for each in field.metadata if isinstance(each, kind)), None)
            for kind, bound in ((Ge, "ge"), (Le, "le"))
        )
        yield ConfigDef(
            name=name,
            type=ConfigType[extra["kind"].upper()] if extra["kind"] else _type(field.annotation),
            default=None if field.is_required() else _text(field.default),
            doc=field.description or "",
            least=least,
            most=most,
            check=extra["check"],
            dynamic=extra["dynamic"],
            sensitive=SecretStr in get_args(field.annotation),
        )


def _type(annotation: Any) -> ConfigType:
    found = _TYPES.get(annotation)
    if found is None:
        members = get_args(annotation)
        several = Ellipsis in members or annotation in (dict, tuple) or str(annotation).startswith("dict")
        found = ConfigType.LIST if several else ConfigType.STRING
    return found


def _text(value: object) -> str | None:
    """A default as it would be written; None for none."""
    if isinstance(value, Endpoint):
        return f"{value.name}://{value.host}:{value.port}"
    if isinstance(value, tuple):
        return ",".join(_text(member) or "" for member in value) or None
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value in (None, "", {}) else str(value)


BROKER_CONFIGS: Mapping[str, ConfigDef] = MappingProxyType(
    dict(sorted({**TOPIC_DEFAULTS, **INERT, **{row.name: row for row in _definitions()}}.items()))
)
"""By name, sorted."""

"""The reference of all settings, made from the tables that the node itself reads."""

from typing import get_args

from ottla.controller import BROKER_CONFIGS
from ottla.node.config import SETTINGS, WITHOUT_EFFECT
from ottla.node.endpoints import Endpoint

__all__ = ["WITHOUT_EFFECT", "describe_settings"]

_NAMES = {bool: "boolean", int: "int", str: "string"}


def describe_settings() -> list[tuple[str, str, str, str]]:
    """Every setting of a node as (name, type, default, meaning), by name."""
    own = [
        (
            name,
            _type(field.annotation),
            "(required)" if field.is_required() else _text(field.default),
            field.description,
        )
        for name, field in SETTINGS.items()
    ]
    shared = [
        (row.name, row.type.name.lower(), row.default or "", row.doc)
        for row in BROKER_CONFIGS.values()
        if row.name not in SETTINGS
    ]
    return sorted((name, kind, default, doc or "") for name, kind, default, doc in own + shared)


def _type(annotation: object) -> str:
    if isinstance(annotation, type):
        return _NAMES.get(annotation, "list" if annotation in (dict, tuple) else "string")
    members = get_args(annotation)
    return "list" if Ellipsis in members or str(annotation).startswith("dict") else "string"


def _text(value: object) -> str:
    if isinstance(value, Endpoint):
        return f"{value.name}://{value.host}:{value.port}"
    if isinstance(value, tuple):
        return ",".join(_text(member) for member in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None or value == {} else str(value)

"""The reference of all settings, for people."""

from ottla.node.config import WITHOUT_EFFECT
from ottla.node.definitions import BROKER_CONFIGS, SETTINGS

__all__ = ["WITHOUT_EFFECT", "describe_settings"]


def describe_settings() -> list[tuple[str, str, str, str]]:
    """Every setting of a node as (name, type, default, meaning), by name."""
    return [
        (
            row.name,
            row.type.name.lower(),
            "(required)" if row.name in SETTINGS and SETTINGS[row.name].is_required() else row.default or "",
            row.doc,
        )
        for row in BROKER_CONFIGS.values()
    ]

"""The reference of all settings, for people."""

from ottla.node.definitions import BROKER_CONFIGS, SETTINGS


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

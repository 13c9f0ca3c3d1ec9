"""Which topic names are good: Kafka's rule, since the name is a directory's and a metric's as well."""

import re

MAX_LENGTH = 249

_LEGAL = re.compile(r"[a-zA-Z0-9._-]+", re.ASCII)


def topic_name_error(name: str) -> str | None:
    """What is wrong with the name, or None."""
    if not name:
        return "Topic name is invalid: the empty string is not allowed"
    if name in (".", ".."):
        return f"Topic name is invalid: '{name}' is not allowed"
    if len(name) > MAX_LENGTH:
        return f"Topic name is invalid: the length of '{name}' is longer than the max allowed length {MAX_LENGTH}"
    if not _LEGAL.fullmatch(name):
        return (
            f"Topic name is invalid: '{name}' contains one or more characters other than "
            "ASCII alphanumerics, '.', '_' and '-'"
        )
    return None


def metric_name(name: str) -> str:
    """The form in which names that differ in '.' and '_' alone are the same, as they are in metrics."""
    return name.replace(".", "_")

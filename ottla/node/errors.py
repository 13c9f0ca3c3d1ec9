"""Errors that end a node."""


class NodeError(Exception):
    """The node cannot start or go on; the text is one line for the person who runs it."""

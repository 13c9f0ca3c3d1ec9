"""The `ottla` command."""

from ottla.cli.main import main

__all__ = ["main"]

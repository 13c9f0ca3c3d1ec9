"""Cluster ids as Kafka makes them: 16 random bytes in URL-safe base64 without padding, never starting with a dash."""

from __future__ import annotations

import base64
import secrets


def new_cluster_id() -> str:
    """A fresh cluster id of 22 characters."""
    while True:
        text = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode("ascii").rstrip("=")
        if not text.startswith("-"):
            return text

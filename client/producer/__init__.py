"""Sending records."""

from ottla.client.producer.producer import Producer

__all__ = ["Producer"]

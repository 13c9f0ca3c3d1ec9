"""Reading records."""

from ottla.client.consumer.consumer import Consumer

__all__ = ["Consumer"]

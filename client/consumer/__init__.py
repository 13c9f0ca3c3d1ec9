"""Reading records."""

from ottla.client.consumer.consumer import Consumer
from ottla.client.consumer.listener import ConsumerRebalanceListener

__all__ = ["Consumer", "ConsumerRebalanceListener"]

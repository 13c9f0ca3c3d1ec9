"""The client library: producer, consumer by assignment, admin. Names follow aiokafka."""

from ottla.client.structs import TopicPartition

__all__ = ["TopicPartition"]

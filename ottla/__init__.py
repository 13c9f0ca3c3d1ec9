"""Ottla: an event-streaming cluster that speaks the Apache Kafka wire protocol."""

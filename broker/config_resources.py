"""The kinds of things that have configs, by Kafka's numbers, and why some have none here."""

from __future__ import annotations

TOPIC = 2
BROKER = 4
BROKER_LOGGER = 8
CLIENT_METRICS = 16
GROUP = 32

NO_CONFIGS = {
    BROKER_LOGGER: "The loggers of this broker have no levels that could be shown or set.",
    CLIENT_METRICS: "This broker takes no metrics of clients, so there are no subscriptions of them.",
}

"""For how long brokers have been away, as far as this controller can tell. Pure; times are seconds of one clock.

A new active controller cannot know since when: it counts from the moment at which it took over.
"""

from ottla.controller.metadata import MetadataImage


class Absences:
    """The brokers that are fenced, leaving, or not registered though they hold replicas."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}

    def look(self, image: MetadataImage, now: float) -> None:
        """Take note of who is away. Whoever is back in between two looks has not been away."""
        away = {broker.id for broker in image.brokers.values() if not broker.eligible}
        away.update(
            replica
            for _, _, state in image.all_partitions()
            for replica in state.replicas
            if replica not in image.brokers
        )
        self._since = {broker: self._since.get(broker, now) for broker in away}

    def longer_than(self, seconds: float, now: float) -> frozenset[int]:
        return frozenset(broker for broker, since in self._since.items() if now - since >= seconds)

"""For how long brokers have been away, as far as controllers have seen it. Pure; times are seconds of one clock.

What one controller has seen it notes in the metadata now and then, and the next one counts on from there. So a change
of controller costs the time between two notes, and the time without one. No wall clock is asked: one that is put
forward must not make replicas move.
"""

from collections.abc import Iterator

from ottla.controller.metadata import BrokerAway, MetadataImage


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
        known = self._since
        self._since = {
            broker: known[broker] if broker in known else now - image.away.get(broker, 0) / 1000 for broker in away
        }

    def longer_than(self, seconds: float, now: float) -> frozenset[int]:
        return frozenset(broker for broker, since in self._since.items() if now - since >= seconds)

    def notes(self, image: MetadataImage, now: float, *, step: float, most: float) -> Iterator[BrokerAway]:
        """What the metadata lacks: absences that are longer by `step` seconds than they say, up to `most` seconds; and
        those of brokers that are no part of the cluster any more."""
        for broker, since in sorted(self._since.items()):
            seen = min(round((now - since) * 1000), round(most * 1000))
            noted = image.away.get(broker, 0)
            if seen > noted and (seen - noted >= step * 1000 or seen == round(most * 1000)):
                yield BrokerAway(id=broker, for_ms=seen)
        for broker in sorted(image.away.keys() - self._since.keys()):
            if broker not in image.brokers:
                yield BrokerAway(id=broker, for_ms=0)

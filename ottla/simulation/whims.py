"""What else a seed decides for a storm: how the cluster is set, and how much is written to it."""

from __future__ import annotations

import random

# Few records are enough for most of what can go wrong, and cost little; some runs have many.
RATES = {2.0: 5, 5.0: 4, 10.0: 3, 50.0: 1}
NEARBY = "replica.selector.class"
RACK_AWARE = "org.apache.kafka.common.replica.RackAwareReplicaSelector"
# Limits are small in part of the runs, so that what is rare happens all the time: a segment rolls, a snapshot is taken,
# a fetch does not hold all there is.
CHOICES: dict[str, tuple[str, ...]] = {
    "broker.session.timeout.ms": ("3000", "1500", "6000"),
    "controller.quorum.election.timeout.ms": ("2000", "1000", "500"),
    "leader.imbalance.check.interval.seconds": ("300", "5"),
    "log.flush.offset.checkpoint.interval.ms": ("60000", "1000"),
    "log.index.interval.bytes": ("4096", "100"),
    "log.segment.bytes": ("1073741824", "20000", "3000"),
    "max.incremental.fetch.session.cache.slots": ("1000", "1"),
    "metadata.log.max.record.bytes.between.snapshots": ("20971520", "10000", "1000"),
    "replica.fetch.max.bytes": ("1048576", "500"),
    "replica.fetch.wait.max.ms": ("1000", "500", "200"),
    "replica.high.watermark.checkpoint.interval.ms": ("5000", "500"),
    "replica.lag.time.max.ms": ("5000", "2000", "10000"),
}


def draw_settings(rng: random.Random, *, synced: bool) -> dict[str, str]:
    """Settings of all nodes, by Kafka's names. `synced`: flush = synced is a must."""
    settings = {"ottla.flush": "synced" if rng.random() < 0.3 or synced else "os"}
    for name, values in CHOICES.items():
        # Half of the runs have the first, which is the default or near to it. What only makes an idle cluster talk is
        # slower than that: heartbeats and empty fetches are most of what a quiet simulated second costs.
        settings[name] = values[0] if rng.random() < 0.5 else rng.choice(values)
    settings["broker.heartbeat.interval.ms"] = str(int(settings["broker.session.timeout.ms"]) // 4)
    return settings


def draw_readers(rng: random.Random) -> dict[str, str]:
    """In a part of the runs consumers read from the replica in their rack (KIP-392)."""
    return {NEARBY: RACK_AWARE} if rng.random() < 0.2 else {}


def draw_repairs(rng: random.Random) -> dict[str, str]:
    """In a part of the runs replicas of brokers that are away are soon rebuilt elsewhere."""
    if rng.random() < 0.5:
        return {}
    return {"ottla.repair.after.ms": rng.choice(("500", "3000")), "ottla.repair.partitions": rng.choice(("1", "20"))}


def draw_cleaning(rng: random.Random) -> dict[str, str]:
    """In a part of the runs the topics of coordinators are compacted all the time."""
    if rng.random() < 0.4:
        return {}
    return {
        "offsets.topic.segment.bytes": rng.choice(("2000", "20000")),
        "transaction.state.log.segment.bytes": rng.choice(("2000", "20000")),
        "log.cleaner.backoff.ms": rng.choice(("300", "3000")),
        "log.cleaner.min.cleanable.ratio": rng.choice(("0.01", "0.5")),
    }


def draw_retention(rng: random.Random) -> dict[str, str]:
    """How soon what may go is gone."""
    return {"log.retention.check.interval.ms": rng.choice(("300", "3000"))}


def draw_rate(rng: random.Random) -> float:
    """Records per second."""
    return rng.choices(list(RATES), list(RATES.values()))[0]

"""The topic configs: names, types, defaults and bounds are Kafka's unless the row says so.

Each has its broker configs ("synonyms"), which give the default for topics that do not set it (KIP-226).
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from ottla.controller.metadata.config_def import INT_MAX, LONG_MAX, ConfigDef, ConfigType, ConfigValue, Synonym

_MINUTE = 60_000
_HOUR = 60 * _MINUTE


def _row(
    name: str,
    kind: ConfigType,
    default: object,
    synonyms: str | tuple[Synonym, ...],
    doc: str,
    *,
    least: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] = (),
    check: Callable[[ConfigValue], str | None] | None = None,
) -> ConfigDef:
    if isinstance(synonyms, str):
        synonyms = (Synonym(synonyms),) if synonyms else ()
    return ConfigDef(
        name=name,
        type=kind,
        default=str(default),
        doc=doc,
        least=least,
        most=most,
        choices=choices,
        check=check,
        synonyms=synonyms,
    )


def _replica_list(value: ConfigValue) -> str | None:
    """KIP-73."""
    assert isinstance(value, tuple)
    if value == ("*",) or all(_REPLICA.fullmatch(member) for member in value):
        return None
    return (
        "must be the literal '*' or a list of replicas in the following format: "
        "[partitionId]:[brokerId],[partitionId]:[brokerId],..."
    )


_REPLICA = re.compile(r"[0-9]+:[0-9]+", re.ASCII)


_BOOLEAN, _STRING, _INT = ConfigType.BOOLEAN, ConfigType.STRING, ConfigType.INT
_LONG, _DOUBLE, _LIST = ConfigType.LONG, ConfigType.DOUBLE, ConfigType.LIST

_ROWS = (
    _row(
        "cleanup.policy",
        _LIST,
        "delete",
        "log.cleanup.policy",
        "What is done with old segments: delete them, or keep the last record of each key.",
        choices=("compact", "delete"),
    ),
    _row(
        "compression.type",
        _STRING,
        "producer",
        "compression.type",
        "How records are compressed in the log. 'producer' keeps what the producer chose; with any other the leader "
        "compresses batches anew that came in another codec.",
        choices=("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"),
    ),
    _row(
        "compression.gzip.level",
        _INT,
        -1,
        "compression.gzip.level",
        "The level if compression.type is gzip: 1 is fast, 9 is small, -1 is gzip's own default (KIP-390).",
        least=-1,
        most=9,
        check=lambda level: "must be between 1 and 9 or equal to -1" if level == 0 else None,
    ),
    _row(
        "compression.lz4.level",
        _INT,
        9,
        "compression.lz4.level",
        "The level if compression.type is lz4: 1 to 17, which is small; 9 is the fast compressor (KIP-390).",
        least=1,
        most=17,
    ),
    _row(
        "compression.zstd.level",
        _INT,
        3,
        "compression.zstd.level",
        "The level if compression.type is zstd: the lower the faster, 22 is small (KIP-390).",
        least=-131_072,
        most=22,
    ),
    _row(
        "delete.retention.ms",
        _LONG,
        86_400_000,
        "log.cleaner.delete.retention.ms",
        "How long delete markers stay in a compacted topic.",
        least=0,
    ),
    _row(
        "file.delete.delay.ms",
        _LONG,
        60_000,
        "log.segment.delete.delay.ms",
        "How long the files of a deleted partition stay before they are removed. Those of single segments that "
        "retention or the log cleaner gives up go at once, as nobody can be reading them any more (in Kafka they wait "
        "too).",
        least=0,
    ),
    _row(
        "flush.messages",
        _LONG,
        LONG_MAX,
        "log.flush.interval.messages",
        "Any value but the default syncs records to disk before they are acknowledged, many producers at a time: "
        "never less often than Kafka would.",
        least=1,
    ),
    _row(
        "flush.ms",
        _LONG,
        LONG_MAX,
        (Synonym("log.flush.interval.ms"), Synonym("log.flush.scheduler.interval.ms", static=True)),
        "Any value but the default syncs records to disk before they are acknowledged, as flush.messages does.",
        least=0,
    ),
    _row(
        "follower.replication.throttled.replicas",
        _LIST,
        "",
        "",
        "Replicas that catch up no faster than follower.replication.throttled.rate, as PARTITION:BROKER,... or * "
        "(KIP-73).",
        check=_replica_list,
    ),
    _row(
        "index.interval.bytes",
        _INT,
        4096,
        "log.index.interval.bytes",
        "Bytes of log between two entries of the offset index.",
        least=0,
    ),
    _row(
        "leader.replication.throttled.replicas",
        _LIST,
        "",
        "",
        "Replicas that, when they lead, serve those that catch up no faster than leader.replication.throttled.rate, as "
        "PARTITION:BROKER,... or * (KIP-73).",
        check=_replica_list,
    ),
    _row(
        "max.compaction.lag.ms",
        _LONG,
        LONG_MAX,
        "log.cleaner.max.compaction.lag.ms",
        "The longest that a record stays uncompacted.",
        least=1,
    ),
    _row(
        "max.message.bytes",
        _INT,
        1_048_588,
        "message.max.bytes",
        "The largest record batch taken, after compression.",
        least=0,
    ),
    _row(
        "message.timestamp.after.max.ms",
        _LONG,
        3_600_000,
        "log.message.timestamp.after.max.ms",
        "How far a record's timestamp may lie ahead of the broker's clock (KIP-937).",
        least=0,
    ),
    _row(
        "message.timestamp.before.max.ms",
        _LONG,
        LONG_MAX,
        "log.message.timestamp.before.max.ms",
        "How far a record's timestamp may lie behind the broker's clock (KIP-937).",
        least=0,
    ),
    _row(
        "message.timestamp.type",
        _STRING,
        "CreateTime",
        "log.message.timestamp.type",
        "Whose time a record carries: the producer's, or the broker's at append.",
        choices=("CreateTime", "LogAppendTime"),
    ),
    _row(
        "min.cleanable.dirty.ratio",
        _DOUBLE,
        0.5,
        "log.cleaner.min.cleanable.ratio",
        "The share of uncompacted bytes from which on a log is worth compacting.",
        least=0,
        most=1,
    ),
    _row(
        "min.compaction.lag.ms",
        _LONG,
        0,
        "log.cleaner.min.compaction.lag.ms",
        "The shortest that a record stays uncompacted.",
        least=0,
    ),
    _row(
        "min.insync.replicas",
        _INT,
        1,
        "min.insync.replicas",
        "In-sync replicas needed for a write with acks=all; below it the high watermark does not move (KIP-966).",
        least=1,
    ),
    _row(
        "preallocate",
        _BOOLEAN,
        "false",
        "log.preallocate",
        "Whether room for a whole segment is set aside on the disk when its file is made, where the system can do "
        "that. The file does not look larger for it (in Kafka it does).",
    ),
    _row(
        "retention.bytes",
        _LONG,
        -1,
        "log.retention.bytes",
        "Bytes per partition beyond which old segments go; -1 for no limit.",
    ),
    _row(
        "retention.ms",
        _LONG,
        604_800_000,
        (
            Synonym("log.retention.ms"),
            Synonym("log.retention.minutes", _MINUTE),
            Synonym("log.retention.hours", _HOUR),
        ),
        "Age at which segments go; -1 for no limit.",
        least=-1,
    ),
    _row(
        "segment.bytes",
        _INT,
        1_073_741_824,
        "log.segment.bytes",
        "Size at which a segment is closed. Kafka's floor of 1 MB is not kept: small segments are useful in tests.",
        least=14,
        most=INT_MAX,
    ),
    _row(
        "segment.index.bytes",
        _INT,
        10_485_760,
        "log.index.size.max.bytes",
        "The largest size of a segment's offset index.",
        least=4,
    ),
    _row(
        "segment.jitter.ms",
        _LONG,
        0,
        (Synonym("log.roll.jitter.ms"), Synonym("log.roll.jitter.hours", _HOUR)),
        "The most that is taken from segment.ms, by chance for each segment, so that not all logs roll at once.",
        least=0,
    ),
    _row(
        "segment.ms",
        _LONG,
        604_800_000,
        (Synonym("log.roll.ms"), Synonym("log.roll.hours", _HOUR)),
        "Age at which a segment is closed even if it is not full.",
        least=1,
    ),
    _row(
        "unclean.leader.election.enable",
        _BOOLEAN,
        "false",
        "unclean.leader.election.enable",
        "Whether a replica outside the ISR may lead when no other is left, at the price of lost records.",
    ),
)

TOPIC_CONFIGS: Mapping[str, ConfigDef] = MappingProxyType({row.name: row for row in _ROWS})

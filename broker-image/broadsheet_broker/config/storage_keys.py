"""Properties of logs: those of the broker, and those of a topic, which take their defaults from the broker's."""

from __future__ import annotations

from broadsheet_broker.config.key import (
    BOOLEAN,
    CLUSTER_WIDE,
    DOUBLE,
    INT,
    LIST,
    LONG,
    STRING,
    Allowed,
    Key,
    Kind,
    Value,
    at_least,
    between,
    one_of,
    some_of,
    whole_number,
)

_LONG_MAX = "9223372036854775807"
_CODECS = one_of("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer")
_LEVEL = "where the broker compresses, it uses the codec's own level"
_LOCAL = at_least(-2)
_POLICIES = some_of("compact", "delete")
_TIMESTAMPS = one_of("CreateTime", "LogAppendTime")
_MIB = 1024 * 1024


def _gzip_level(value: Value) -> str | None:
    return None if value == -1 or (isinstance(value, int) and 1 <= value <= 9) else "1 to 9, or -1"


def _throttled_replicas(value: Value) -> str | None:
    """`*`, nothing, or partition:broker pairs (KIP-73)."""
    items = value if isinstance(value, list) else []
    good = items in ([], ["*"]) or all(
        len(pair) == 2 and None not in map(whole_number, pair) for pair in (item.split(":") for item in items)
    )
    return None if good else "*, or pairs partition:broker separated by commas"


BROKER_LOG_KEYS = (
    Key("log.dirs", LIST, None, "Directories of the logs, separated by commas."),
    Key("log.dir", LIST, "/tmp/kafka-logs", "Directories of the logs, used when log.dirs is not set."),
    Key(
        "num.recovery.threads.per.data.dir", INT, "2",
        "Threads per directory that open logs at start.", at_least(1), CLUSTER_WIDE,
    ),
    Key("log.retention.check.interval.ms", LONG, "300000", "How often (ms) retention is checked.", at_least(1)),
    Key(
        "log.flush.offset.checkpoint.interval.ms", INT, "60000",
        "How often (ms) recovery points are saved.", at_least(0),
    ),
    Key(
        "log.flush.start.offset.checkpoint.interval.ms", INT, "60000",
        "How often (ms) log start offsets are saved.", at_least(0),
    ),
    Key(
        "log.flush.scheduler.interval.ms", LONG, _LONG_MAX,
        "How often (ms) flush.ms is checked; also the default of log.flush.interval.ms.",
    ),
    Key("log.retention.minutes", INT, None, "log.retention.ms in minutes; used when that is not set."),
    Key("log.retention.hours", INT, "168", "log.retention.ms in hours; used when neither ms nor minutes is set."),
    Key("log.roll.hours", INT, "168", "log.roll.ms in hours; used when that is not set.", at_least(1)),
    Key("log.roll.jitter.hours", INT, "0", "log.roll.jitter.ms in hours; used when that is not set.", at_least(0)),
    Key("log.cleaner.enable", BOOLEAN, "true", "Whether logs with the cleanup policy compact are compacted."),
    Key("log.cleaner.threads", INT, "1", "", at_least(0), CLUSTER_WIDE, no_effect="one log is compacted at a time"),
    Key(
        "log.cleaner.backoff.ms", LONG, "15000",
        "Pause (ms) of the cleaner when there is nothing to compact.", at_least(0), CLUSTER_WIDE,
    ),
    Key(
        "log.cleaner.dedupe.buffer.size", LONG, "134217728",
        "Maximum bytes for the map of keys of the cleaner.", None, CLUSTER_WIDE,
    ),
    Key(
        "producer.id.expiration.ms", INT, "86400000",
        "Time (ms) after which the state of an inactive producer id is removed.",
        at_least(1), CLUSTER_WIDE,
    ),
)  # fmt: skip


def _pair(
    topic: str,
    broker: str,
    kind: Kind,
    default: str | None,
    doc: str,
    allowed: Allowed | None = None,
    *,
    topic_default: str | None = None,
    topic_allowed: Allowed | None = None,
    more: tuple[str, ...] = (),
    no_effect: str = "",
) -> tuple[Key, Key]:
    """A topic property and the broker property that is its default."""
    return (
        Key(
            topic,
            kind,
            topic_default or default,
            doc,
            topic_allowed or allowed,
            synonyms=(broker, *more),
            no_effect=no_effect,
        ),
        Key(
            broker,
            kind,
            default,
            doc and f"Default of the topic property {topic}.",
            allowed,
            CLUSTER_WIDE,
            no_effect=no_effect,
        ),
    )


_PAIRS = (
    _pair(
        "cleanup.policy", "log.cleanup.policy", LIST, "delete",
        "What happens to old records: delete, compact, or both.", _POLICIES,
    ),
    _pair(
        "compression.type", "compression.type", STRING, "producer",
        "Codec of stored batches; producer: as they arrive.", _CODECS,
    ),
    _pair("compression.gzip.level", "compression.gzip.level", INT, "-1", "", _gzip_level, no_effect=_LEVEL),
    _pair("compression.lz4.level", "compression.lz4.level", INT, "9", "", between(1, 17), no_effect=_LEVEL),
    _pair("compression.zstd.level", "compression.zstd.level", INT, "3", "", between(-131072, 22), no_effect=_LEVEL),
    _pair(
        "delete.retention.ms", "log.cleaner.delete.retention.ms", LONG, "86400000",
        "How long (ms) a compacted topic keeps tombstones.", at_least(0),
    ),
    _pair(
        "file.delete.delay.ms", "log.segment.delete.delay.ms", LONG, "60000",
        "Time (ms) between the deletion of a segment and that of its files.", at_least(0),
    ),
    _pair(
        "flush.messages", "log.flush.interval.messages", LONG, _LONG_MAX,
        "Records after which the log is flushed to disk.", at_least(1),
    ),
    _pair(
        "flush.ms", "log.flush.interval.ms", LONG, None, "Time (ms) after which the log is flushed to disk.",
        topic_default=_LONG_MAX, topic_allowed=at_least(0), more=("log.flush.scheduler.interval.ms",),
    ),
    _pair(
        "index.interval.bytes", "log.index.interval.bytes", INT, "4096",
        "Bytes of log per entry of its index.", at_least(0),
    ),
    _pair(
        "max.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms", LONG, _LONG_MAX,
        "Longest time (ms) before a record can be compacted.", at_least(1),
    ),
    _pair("max.message.bytes", "message.max.bytes", INT, "1048588", "The largest record batch.", at_least(0)),
    _pair(
        "message.timestamp.after.max.ms", "log.message.timestamp.after.max.ms", LONG, "3600000",
        "How far (ms) a timestamp may be in the future.", at_least(0),
    ),
    _pair(
        "message.timestamp.before.max.ms", "log.message.timestamp.before.max.ms", LONG, _LONG_MAX,
        "How far (ms) a timestamp may be in the past.", at_least(0),
    ),
    _pair(
        "message.timestamp.type", "log.message.timestamp.type", STRING, "CreateTime",
        "The clock of the timestamps: the producer's or the broker's.", _TIMESTAMPS,
    ),
    _pair(
        "min.cleanable.dirty.ratio", "log.cleaner.min.cleanable.ratio", DOUBLE, "0.5",
        "Share of the log that must be uncompacted before it is compacted.", between(0, 1),
    ),
    _pair(
        "min.compaction.lag.ms", "log.cleaner.min.compaction.lag.ms", LONG, "0",
        "Shortest time (ms) before a record is compacted.", at_least(0),
    ),
    _pair(
        "min.insync.replicas", "min.insync.replicas", INT, "1",
        "In-sync replicas that a write with acks=all requires.", at_least(1),
    ),
    _pair(
        "retention.bytes", "log.retention.bytes", LONG, "-1",
        "Size in bytes of a partition above which old segments are deleted; -1: no limit.",
    ),
    _pair(
        "retention.ms", "log.retention.ms", LONG, None, "Age (ms) above which old segments are deleted; -1: no limit.",
        topic_default="604800000", topic_allowed=at_least(-1), more=("log.retention.minutes", "log.retention.hours"),
    ),
    _pair(
        "segment.bytes", "log.segment.bytes", INT, "1073741824",
        "Size in bytes at which a segment is closed.", at_least(_MIB),
    ),
    _pair(
        "segment.index.bytes", "log.index.size.max.bytes", INT, "10485760",
        "Maximum size in bytes of the index of a segment.", at_least(4),
    ),
    _pair(
        "segment.jitter.ms", "log.roll.jitter.ms", LONG, None, "Random time (ms) by which segments are closed earlier.",
        topic_default="0", topic_allowed=at_least(0), more=("log.roll.jitter.hours",),
    ),
    _pair(
        "segment.ms", "log.roll.ms", LONG, None, "Age (ms) at which a segment is closed.",
        topic_default="604800000", topic_allowed=at_least(1), more=("log.roll.hours",),
    ),
    _pair(
        "unclean.leader.election.enable", "unclean.leader.election.enable", BOOLEAN, "false",
        "Whether a replica outside of the ISR may become the leader; records may be lost.",
    ),
)  # fmt: skip

_TIERED = "tiered storage is not built"


def _untiered(value: Value) -> str | None:
    return None if value is False else f"false, since {_TIERED}"


_TOPIC_ONLY = (
    Key(
        "leader.replication.throttled.replicas", LIST, "",
        "Replicas to which leaders send at leader.replication.throttled.rate: *, or pairs partition:broker.",
        _throttled_replicas,
    ),
    Key(
        "follower.replication.throttled.replicas", LIST, "",
        "Replicas that fetch at follower.replication.throttled.rate: *, or pairs partition:broker.",
        _throttled_replicas,
    ),
    Key("internal.segment.bytes", INT, None, "", at_least(1), no_effect="internal to Apache Kafka"),
    Key("preallocate", BOOLEAN, "false", "", synonyms=("log.preallocate",), no_effect="segments grow as needed"),
    Key("remote.storage.enable", BOOLEAN, "false", "", _untiered, no_effect=_TIERED),
    Key("remote.log.copy.disable", BOOLEAN, "false", "", no_effect=_TIERED),
    Key("remote.log.delete.on.disable", BOOLEAN, "false", "", no_effect=_TIERED),
    Key("local.retention.bytes", LONG, "-2", "", _LOCAL, synonyms=("log.local.retention.bytes",), no_effect=_TIERED),
    Key("local.retention.ms", LONG, "-2", "", _LOCAL, synonyms=("log.local.retention.ms",), no_effect=_TIERED),
)  # fmt: skip

TOPIC_KEYS: dict[str, Key] = {
    key.name: key for key in sorted((*(topic for topic, _ in _PAIRS), *_TOPIC_ONLY), key=lambda key: key.name)
}
"""Every property of a topic, by name."""

STORAGE_KEYS = (*BROKER_LOG_KEYS, *(broker for _, broker in _PAIRS))

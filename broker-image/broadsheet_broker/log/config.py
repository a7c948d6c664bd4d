"""The topic configs that a log obeys, parsed once so that the hot path reads plain attributes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random

from broadsheet_broker.wire.compression import CODEC_NAMES

DELETE = "delete"
COMPACT = "compact"

PRODUCER_COMPRESSION = -1
"""`compression.type=producer`: keep each batch as the producer compressed it."""

NEVER_MS = 2**63 - 1
"""Kafka's way to switch a time or a number off."""


@dataclass(frozen=True, slots=True)
class LogConfig:
    """Defaults and meaning are those of Apache Kafka 4.3's topic configs of the same names. Times in ms."""

    segment_bytes: int = 1024 * 1024 * 1024
    segment_ms: int = 7 * 24 * 3600 * 1000
    segment_jitter_ms: int = 0
    retention_bytes: int = -1
    retention_ms: int = 7 * 24 * 3600 * 1000
    index_interval_bytes: int = 4096
    segment_index_bytes: int = 10 * 1024 * 1024
    max_message_bytes: int = 1024 * 1024 + 12
    cleanup_policy: frozenset[str] = frozenset((DELETE,))
    log_append_time: bool = False
    """`message.timestamp.type=LogAppendTime`."""
    timestamp_before_max_ms: int = NEVER_MS
    timestamp_after_max_ms: int = 3600 * 1000
    compression: int = PRODUCER_COMPRESSION
    flush_messages: int = NEVER_MS
    flush_ms: int = NEVER_MS
    file_delete_delay_ms: int = 60_000
    delete_retention_ms: int = 24 * 3600 * 1000
    min_cleanable_dirty_ratio: float = 0.5
    min_compaction_lag_ms: int = 0
    max_compaction_lag_ms: int = NEVER_MS
    min_insync_replicas: int = 1
    max_segment_ms: int = field(init=False)
    """Age at which the active segment is closed. What is compacted lies in closed segments, so a bound of the time
    until then (`max.compaction.lag.ms`) bounds this too (KIP-354)."""

    def __post_init__(self) -> None:
        longest = min(self.segment_ms, self.max_compaction_lag_ms) if self.compacts else self.segment_ms
        object.__setattr__(self, "max_segment_ms", longest)

    def random_jitter_ms(self, random: Random) -> int:
        """By how much one segment is closed earlier, so that not all that were begun together end together."""
        most = min(self.segment_jitter_ms, self.segment_ms)
        return random.randrange(most) if most > 0 else 0

    @property
    def compacts(self) -> bool:
        return COMPACT in self.cleanup_policy

    @property
    def deletes(self) -> bool:
        return DELETE in self.cleanup_policy

    @classmethod
    def of(cls, configs: Mapping[str, str | None]) -> LogConfig:
        """From effective topic configs by Kafka's names. Keys that do not concern a log are ignored; a value that does
        not parse is the caller's mistake (it was validated when it was set) and raises ValueError with the key."""
        values: dict[str, object] = {}
        for key, text in configs.items():
            parse = _PARSERS.get(key)
            if parse is None or text is None:
                continue
            name, convert = parse
            try:
                values[name] = convert(str(text).strip())
            except (KeyError, ValueError) as error:
                raise ValueError(f"{key}={text}: {error}") from error
        return cls(**values)  # type: ignore[arg-type]


def _policy(text: str) -> frozenset[str]:
    policy = frozenset(part.strip() for part in text.split(",") if part.strip())
    if not policy <= {DELETE, COMPACT}:
        raise ValueError("allowed are delete and compact")
    return policy


def _compression(text: str) -> int:
    return PRODUCER_COMPRESSION if text == "producer" else CODEC_NAMES[text]


def _append_time(text: str) -> bool:
    return {"CreateTime": False, "LogAppendTime": True}[text]


_PARSERS: dict[str, tuple[str, Callable[[str], object]]] = {
    "segment.bytes": ("segment_bytes", int),
    "segment.ms": ("segment_ms", int),
    "segment.jitter.ms": ("segment_jitter_ms", int),
    "retention.bytes": ("retention_bytes", int),
    "retention.ms": ("retention_ms", int),
    "index.interval.bytes": ("index_interval_bytes", int),
    "segment.index.bytes": ("segment_index_bytes", int),
    "max.message.bytes": ("max_message_bytes", int),
    "cleanup.policy": ("cleanup_policy", _policy),
    "message.timestamp.type": ("log_append_time", _append_time),
    "message.timestamp.before.max.ms": ("timestamp_before_max_ms", int),
    "message.timestamp.after.max.ms": ("timestamp_after_max_ms", int),
    "compression.type": ("compression", _compression),
    "flush.messages": ("flush_messages", int),
    "flush.ms": ("flush_ms", int),
    "file.delete.delay.ms": ("file_delete_delay_ms", int),
    "delete.retention.ms": ("delete_retention_ms", int),
    "min.cleanable.dirty.ratio": ("min_cleanable_dirty_ratio", float),
    "min.compaction.lag.ms": ("min_compaction_lag_ms", int),
    "max.compaction.lag.ms": ("max_compaction_lag_ms", int),
    "min.insync.replicas": ("min_insync_replicas", int),
}

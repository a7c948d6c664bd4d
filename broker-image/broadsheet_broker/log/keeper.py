"""What the LogManager is to those that look after its logs: its settings, and a Protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from broadsheet_broker.log.config import NEVER_MS
from broadsheet_broker.log.file_pool import DEFAULT_LIMIT

if TYPE_CHECKING:
    from broadsheet_broker.log.checkpoints import TopicPartition
    from broadsheet_broker.log.errors import StorageError
    from broadsheet_broker.log.log import Log
    from broadsheet_broker.log.log_directory import LogDirectory
    from broadsheet_broker.seams import Environment


@dataclass(frozen=True, slots=True)
class LogManagerSettings:
    """Broker properties, with Kafka's defaults."""

    retention_check_interval_ms: int = 300_000
    flush_scheduler_interval_ms: int = NEVER_MS
    """How often logs are checked for flush.ms; they are at every checkpoint, too."""
    flush_offset_checkpoint_interval_ms: int = 60_000
    flush_start_offset_checkpoint_interval_ms: int = 60_000
    recovery_threads: int = 2
    producer_id_expiration_ms: int = 24 * 3600 * 1000
    cleaner_enable: bool = True
    cleaner_backoff_ms: int = 15_000
    cleaner_dedupe_buffer_bytes: int = 16 * 1024 * 1024
    """Memory that one cleaning may use. Kafka holds its 128 MiB at all times; this is held while a log is cleaned."""
    open_files: int = DEFAULT_LIMIT


class LogKeeper(Protocol):
    """The LogManager, as housekeeping and the cleaner know it."""

    environment: Environment
    settings: LogManagerSettings
    high_watermark_of: Callable[[Log], int]
    closing: bool
    live: dict[str, LogDirectory]
    """The directories that are in use, by path."""
    failed: dict[TopicPartition, tuple[str, StorageError]]
    """Partitions whose log cannot be opened: their directory and why."""

    def __iter__(self) -> Iterator[Log]: ...

    def get(self, topic: str, partition: int) -> Log | None: ...

    def logs(self) -> Mapping[TopicPartition, Log]: ...

    def lose(self, path: str, error: StorageError) -> StorageError: ...

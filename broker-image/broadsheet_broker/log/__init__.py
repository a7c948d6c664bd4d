"""One partition's log and the directories that hold them, in Apache Kafka's formats.

| module | what |
| --- | --- |
| `log`, `reading` | append and read: the hot path |
| `segment`, `index_file`, `scan` | a segment's files: batches, offset index, time index |
| `recovery`, `replay` | opening a log after a clean stop or a crash |
| `durability` | fsync, recovery point, clean close |
| `producer_state`, `transaction_index`, `leader_epochs` | what is known of producers, aborted transactions, leaders |
| `truncation`, `retention`, `lookup` | moving the ends; offsets by time |
| `cleaner` | compaction |
| `manager` | all logs of a broker: directories, locks, checkpoints, timers |
"""

from broadsheet_broker.log.config import LogConfig
from broadsheet_broker.log.errors import CorruptLogError, RecordValidationError, StorageError
from broadsheet_broker.log.log import CLIENT, COORDINATOR, RAFT, Log
from broadsheet_broker.log.manager import LogManager, LogManagerSettings
from broadsheet_broker.log.results import AppendInfo, Fetched

__all__ = [
    "CLIENT",
    "COORDINATOR",
    "RAFT",
    "AppendInfo",
    "CorruptLogError",
    "Fetched",
    "Log",
    "LogConfig",
    "LogManager",
    "LogManagerSettings",
    "RecordValidationError",
    "StorageError",
]

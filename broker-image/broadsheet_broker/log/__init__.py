"""One partition's log and the directories that hold them, in Apache Kafka's formats.

| module | what |
| --- | --- |
| `log` | a partition's log, as others know it: stands above the two parts below |
| `tail`, `appending`, `rolling` | the end: batches get their offsets and wait for the write; new segments |
| `segments`, `reading`, `lookup` | what is on disk: segments in their order, reads, offsets by time |
| `segment`, `index_file`, `scan` | a segment's files: batches, offset index, time index |
| `recovery`, `replay` | opening a log after a clean stop or a crash |
| `durability` | fsync, recovery point, clean close |
| `producer_state`, `transaction_index`, `leader_epochs` | what is known of producers, aborted transactions, leaders |
| `truncation`, `retention` | moving the ends |
| `cleaner`, `cleaner_schedule` | compaction, and which log is next |
| `manager`, `log_directory` | all logs of a broker: directories, locks, failures |
| `housekeeping`, `keeper` | what is done from time to time: retention, syncs, checkpoints |
"""

from broadsheet_broker.log.config import LogConfig
from broadsheet_broker.log.errors import CorruptLogError, RecordValidationError, StorageError
from broadsheet_broker.log.keeper import LogManagerSettings
from broadsheet_broker.log.log import CLIENT, COORDINATOR, RAFT, Log
from broadsheet_broker.log.manager import LogManager
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

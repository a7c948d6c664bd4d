"""The metadata log and its snapshots on disk."""

from __future__ import annotations

from broadsheet_broker.raft.messages import SnapshotId
from broadsheet_broker.raft.snapshot import encode_snapshot
from broadsheet_broker.raft.storage import MetadataLog
from broadsheet_broker.wire.records import build_batch
from tests.raft.test_raft_files import STATIC
from tests.support.memory_environment import MemoryEnvironment, memory_environment

OLD, NEW = SnapshotId(3, 1), SnapshotId(10, 2)


def opened(environment: MemoryEnvironment) -> MetadataLog:
    log = MetadataLog(environment, "/logs", 1 << 20, 1 << 30)
    log.open()
    return log


def append(log: MetadataLog, count: int, epoch: int) -> None:
    for _ in range(count):
        log.append(build_batch([(0, None, b"value", ())]), epoch, 0)
    log.log.flush_appends()


def data(id: SnapshotId) -> bytes:
    return encode_snapshot([b"state"], id.epoch, 0, 0, STATIC)


def fetched(log: MetadataLog, id: SnapshotId) -> bool:
    log.write_piece(id, 0, data(id))
    log.finish_pieces(id)
    return log.adopt(id)


def checkpoints(environment: MemoryEnvironment) -> list[str]:
    return [name for name in environment.files.list("/logs/__cluster_metadata-0") if name.endswith(".checkpoint")]


def test_a_replica_that_took_a_snapshot_of_the_leader_can_lead_those_who_end_where_it_does() -> None:
    """An older snapshot of its own, from before the log's start, made it send them that snapshot for ever."""
    environment = memory_environment()
    log = opened(environment)
    append(log, 5, 1)
    log.write_snapshot(OLD, data(OLD))
    log.add_snapshot(OLD)
    assert fetched(log, NEW)
    assert (log.start_offset, log.end_offset, log.last_epoch) == (10, 10, 2)
    assert log.oldest_snapshot == log.newest_snapshot == NEW
    append(log, 1, 3)
    assert log.end_of_epoch(2) == (2, 10)
    assert checkpoints(environment) == [NEW.file_name]


def test_a_snapshot_that_was_being_written_when_a_newer_one_was_taken_over_is_let_go() -> None:
    environment = memory_environment()
    log = opened(environment)
    append(log, 5, 1)
    assert fetched(log, NEW)
    log.write_snapshot(OLD, data(OLD))
    log.add_snapshot(OLD)
    assert log.snapshots == [NEW] and checkpoints(environment) == [NEW.file_name]


def test_snapshots_from_before_the_logs_start_are_let_go_at_the_start() -> None:
    environment = memory_environment()
    log = opened(environment)
    append(log, 5, 1)
    assert fetched(log, NEW)
    log.write_snapshot(OLD, data(OLD))  # and the process ends
    log.log.close()
    again = opened(environment)
    assert (again.start_offset, again.end_offset, again.snapshots) == (10, 10, [NEW])


def test_a_snapshot_of_what_the_log_has_leaves_older_ones_alone() -> None:
    environment = memory_environment()
    log = opened(environment)
    append(log, 5, 1)
    log.write_snapshot(OLD, data(OLD))
    log.add_snapshot(OLD)
    append(log, 10, 2)
    assert not fetched(log, NEW)
    assert (log.start_offset, log.end_offset, log.snapshots) == (0, 15, [OLD, NEW])

"""What a coordinator finds when its partition has just changed leaders; deleting, and writing, what cannot be."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from broadsheet_broker.log import StorageError
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.partition_change_record import PartitionChangeRecord
from broadsheet_broker.wire.records import decode_records, iterate_batches
from tests.replication.support import Stage
from tests.replication.test_restart import produce
from tests.support.replica_services import Bench, run

ONE = uuid.UUID(int=901)


def test_a_new_coordinator_reads_what_the_last_leader_acknowledged_above_its_own_high_watermark(tmp_path: Path) -> None:
    """A follower learns of the high watermark one fetch late; what is above it as it takes over may be acknowledged."""
    topic_id = uuid.uuid4()

    async def scenario(bench: Bench) -> None:
        bench.create(topic_id=topic_id, leader=2)
        bench.move_leader(topic_id, 1)
        await produce(bench, b"a")
        await produce(bench, b"b")
        partition = bench.replicas.partition("orders", 0)
        partition.update_follower(2, 1, 0, 0)
        assert (partition.high_watermark, partition.log.log_end_offset) == (1, 2)
        read = [
            record.value
            for chunk in bench.replicas.read_committed_log("orders", 0)
            for _, part in iterate_batches(memoryview(chunk))
            for record in decode_records(part)
        ]
        assert read == [b"a", b"b"]

    run(tmp_path, scenario)


def test_a_damaged_log_that_cannot_be_moved_aside_does_not_keep_others_from_the_metadata(tmp_path: Path) -> None:
    topic_id = uuid.uuid4()

    async def first(bench: Bench) -> None:
        bench.create(topic_id=topic_id)
        await produce(bench, b"a")

    async def second(bench: Bench) -> None:
        bench.create(topic_id=topic_id)
        assert bench.replicas.offline_count == 1

        def refuse(name: str, index: int) -> None:
            raise OSError(5, "Input/output error")

        bench.logs.delete = refuse  # type: ignore[method-assign]
        bench.delete(topic_id)
        assert bench.replicas.offline_count == 0
        bench.create("other")
        assert bench.replicas.partition("other", 0).is_leader

    run(tmp_path, first)
    (tmp_path / "orders-0" / "partition.metadata").write_text("rubbish")
    run(tmp_path, second)


def test_a_damaged_replica_that_moves_to_another_broker_is_not_counted_as_offline_for_ever(tmp_path: Path) -> None:
    topic_id = uuid.uuid4()

    async def first(bench: Bench) -> None:
        bench.create(topic_id=topic_id)
        await produce(bench, b"a")

    async def second(bench: Bench) -> None:
        bench.create(topic_id=topic_id)
        assert bench.replicas.offline_count == 1
        bench.metadata.replay(
            PartitionChangeRecord(partition_id=0, topic_id=topic_id, replicas=[2], isr=[2], leader=2, directories=[ONE])
        )
        assert bench.replicas.offline_count == 0

    run(tmp_path, first)
    (tmp_path / "orders-0" / "partition.metadata").write_text("rubbish")
    run(tmp_path, second)
    assert any(path.name.endswith("-stray") for path in tmp_path.iterdir())


def test_a_disk_that_stays_full_is_told_of_once_until_it_has_room_again(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage()
    partition = stage.partition()
    log: Any = partition.log
    for failure in (StorageError("full"), StorageError("full"), None, StorageError("full")):
        log.fail = failure
        stage.append(partition, b"a")
        stage.loop.settle()
    assert [record.message for record in caplog.records if "cannot append" in record.message] == [
        "cannot append to orders-0: full",
        "cannot append to orders-0: full",
    ]


def test_who_appended_to_a_topic_that_was_deleted_in_the_same_turn_hears_that_it_is_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage()
    partition = stage.partition()
    log: Any = partition.log
    stage.append(partition, b"a")
    partition.retire()
    log.fail = StorageError("orders-0 was deleted")
    heard: list[ErrorCode | None] = []

    class Waiting:
        def written(self) -> None:
            heard.append(partition.flush_error)

    stage.turn.after_flush(Waiting())
    stage.loop.settle()
    assert heard == [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
    assert not caplog.records

"""Produce over real logs: acks, refusals, what a failed write answers."""

from __future__ import annotations

import errno
import os
import uuid
from pathlib import Path
from typing import Any

import pytest

import broadsheet_broker.apis.produce  # noqa: F401 - registers the handler
from broadsheet_broker.apis.request import AT_WORK
from broadsheet_broker.seams import LocalFiles
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData
from broadsheet_broker.wire.records import iterate_batches
from tests.support.replica_services import NOW_MS, Bench, batch, run


def request(
    records: bytes | None, *, topic: str = "orders", acks: int = -1, topic_id: Any = None, index: int = 0
) -> Any:
    return ProduceRequest(
        acks=acks,
        timeout_ms=1000,
        topic_data=[
            TopicProduceData(
                name=topic,
                topic_id=topic_id or uuid.UUID(int=0),
                partition_data=[PartitionProduceData(index=index, records=records)],
            )
        ],
    )


def row_of(response: Any) -> Any:
    ((row,),) = [topic.partition_responses for topic in response.responses]
    return row


@pytest.mark.parametrize("version", range(3, 14))
@pytest.mark.parametrize("acks", [1, -1])
def test_batches_get_the_next_offsets_in_every_version(tmp_path: Path, version: int, acks: int) -> None:
    async def scenario(bench: Bench) -> None:
        topic_id = bench.create()
        for expected in (0, 2, 4):
            row = row_of(await bench.call(0, version, request(batch(b"a", b"b"), acks=acks, topic_id=topic_id)))
            assert (row.error_code, row.base_offset, row.log_append_time_ms) == (0, expected, -1)
        partition = bench.replicas.partition("orders", 0)
        assert partition.high_watermark == 6
        assert partition.counters.messages_in == 6
        offsets = [header.base_offset for header, _ in iterate_batches(memoryview(partition.log.read(0, 10_000).data))]
        assert offsets == [0, 2, 4]

    run(tmp_path, scenario)


def test_requests_of_one_turn_share_a_write(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.create()
        calls = [bench.begin(0, 9, request(batch(b"a"))) for _ in range(20)]
        assert all(call.outcome is None for call in calls), "nothing is acknowledged before the write"
        await bench.until(lambda: all(call.outcome for call in calls))
        assert [row_of(call.outcome).base_offset for call in calls] == list(range(20))

    run(tmp_path, scenario)


@pytest.mark.parametrize("acks", [0, 1, -1])
def test_a_write_is_work_and_replication_is_waiting(tmp_path: Path, acks: int) -> None:
    async def scenario(bench: Bench) -> None:
        bench.create(replicas=[1, 2])
        call = bench.begin(0, 9, request(batch(b"a"), acks=acks))
        assert call.waits_since == AT_WORK, "it is written at the end of the turn"
        if acks == -1:
            await bench.until(lambda: call.waits_since > 0)
            assert call.outcome is None
            call.on_gone()
        await bench.until(lambda: call.silent or call.outcome)
        assert (call.waits_since > 0) == (acks == -1)

    run(tmp_path, scenario)


def test_acks_0_has_no_answer(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.create()
        call = await bench.call(0, 9, request(batch(b"a"), acks=0))
        assert call.silent
        assert not call.hung_up
        assert bench.replicas.partition("orders", 0).high_watermark == 1

    run(tmp_path, scenario)


def test_acks_0_that_fails_loses_its_connection(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        call = await bench.call(0, 9, request(batch(b"a"), acks=0))
        assert call.hung_up

    run(tmp_path, scenario)


async def refused(bench: Bench, code: ErrorCode, records: bytes | None, *, version: int = 9, **options: Any) -> Any:
    row = row_of(await bench.call(0, version, request(records, **options)))
    assert ErrorCode(row.error_code) == code
    assert row.base_offset == -1
    return row


def test_requests_that_no_topic_takes(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.create()
        bench.create("__consumer_offsets")
        good = batch(b"a")
        await refused(bench, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, good, topic="nobody")
        await refused(bench, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, good, index=7)
        await refused(bench, ErrorCode.UNKNOWN_TOPIC_ID, good, topic_id=uuid.uuid4(), version=13)
        await refused(bench, ErrorCode.INVALID_REQUIRED_ACKS, good, acks=2)
        await refused(bench, ErrorCode.INVALID_TOPIC_EXCEPTION, good, topic="__consumer_offsets")
        await refused(bench, ErrorCode.INVALID_RECORD, None)
        await refused(bench, ErrorCode.INVALID_RECORD, b"")
        await refused(bench, ErrorCode.INVALID_RECORD, good + good)
        await refused(bench, ErrorCode.CORRUPT_MESSAGE, good[:-1])
        await refused(bench, ErrorCode.CORRUPT_MESSAGE, good[:-1] + b"?")
        await refused(bench, ErrorCode.INVALID_RECORD, good[:16] + b"\1" + good[17:])
        await refused(bench, ErrorCode.INVALID_RECORD, batch(b"a", control=True))
        transactional = batch(b"a", transactional=True, producer_id=1, producer_epoch=0, base_sequence=0)
        await refused(bench, ErrorCode.INVALID_TXN_STATE, transactional)
        await refused(bench, ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, batch(b"a", compression=4), version=6)
        assert bench.replicas.partition("orders", 0).log.log_end_offset == 0
        row = row_of(await bench.call(0, 9, request(batch(b"a", compression=4))))
        assert row.base_offset == 0

    run(tmp_path, scenario)


def test_limits_of_the_topic(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.create("small", max_message_bytes="200")
        row = await refused(bench, ErrorCode.MESSAGE_TOO_LARGE, batch(b"x" * 300), topic="small")
        assert "max.message.bytes" in row.error_message
        bench.create("compacted", cleanup_policy="compact")
        row = await refused(bench, ErrorCode.INVALID_RECORD, batch(b"a", b"b", key=None), topic="compacted")
        assert [error.batch_index for error in row.record_errors] == [0, 1]
        await refused(bench, ErrorCode.INVALID_RECORD, batch(b"a", key=None), topic="compacted", version=7)
        bench.create("timely", message_timestamp_after_max_ms="1000", message_timestamp_before_max_ms="1000")
        for timestamp in (NOW_MS + 1001, NOW_MS - 1001):
            await refused(bench, ErrorCode.INVALID_TIMESTAMP, batch(b"a", timestamp=timestamp), topic="timely")
        bench.create("stamped", message_timestamp_type="LogAppendTime")
        stamped = row_of(await bench.call(0, 9, request(batch(b"a", timestamp=5), topic="stamped")))
        assert stamped.log_append_time_ms == NOW_MS

    run(tmp_path, scenario)


def test_configuration_changes_take_effect_at_once(tmp_path: Path) -> None:
    from broadsheet_broker.wire.messages.config_record import ConfigRecord

    async def scenario(bench: Bench) -> None:
        bench.create()
        bench.metadata.replay(
            ConfigRecord(resource_type=2, resource_name="orders", name="max.message.bytes", value="100")
        )
        await refused(bench, ErrorCode.MESSAGE_TOO_LARGE, batch(b"x" * 300))

    run(tmp_path, scenario)


def test_a_configuration_that_does_not_parse_holds_up_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from broadsheet_broker.wire.messages.config_record import ConfigRecord

    async def scenario(bench: Bench) -> None:
        bench.create()
        bench.create("small")
        bench.metadata.replay(
            ConfigRecord(resource_type=2, resource_name="orders", name="retention.ms", value="soon"),
            ConfigRecord(resource_type=2, resource_name="small", name="max.message.bytes", value="100"),
        )
        assert "orders keeps its old configuration: retention.ms=soon" in caplog.text
        await refused(bench, ErrorCode.MESSAGE_TOO_LARGE, batch(b"x" * 300), topic="small")
        assert row_of(await bench.call(0, 9, request(batch(b"a")))).error_code == 0

    run(tmp_path, scenario)


def test_the_log_says_why_a_sequence_was_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Producers hide the message of the refusal, for many it is fatal, and what they sent before is acknowledged."""

    async def scenario(bench: Bench) -> None:
        bench.create()
        for sequence in (0, 2, 9, 9):
            records = batch(b"a", b"b", producer_id=7, producer_epoch=0, base_sequence=sequence)
            await bench.call(0, 9, request(records))

    run(tmp_path, scenario)
    (line,) = [record.getMessage() for record in caplog.records if "refuses a batch" in record.getMessage()]
    assert line.startswith("orders-0 refuses a batch of client ")
    assert line.endswith(
        "sequence 9 of producer 7 does not follow its last sequence 3, and is none of the batches that are remembered: "
        "0 to 1 at offset 0, 2 to 3 at offset 2"
    )


def test_idempotent_producers(tmp_path: Path) -> None:
    def sequenced(sequence: int, epoch: int = 0) -> bytes:
        return batch(b"a", b"b", producer_id=7, producer_epoch=epoch, base_sequence=sequence)

    async def scenario(bench: Bench) -> None:
        bench.create()
        for sequence in (0, 2):
            assert row_of(await bench.call(0, 9, request(sequenced(sequence)))).base_offset == sequence
        again = row_of(await bench.call(0, 9, request(sequenced(0))))
        assert (again.error_code, again.base_offset) == (0, 0), "a duplicate is answered with where it went"
        assert bench.replicas.partition("orders", 0).log.log_end_offset == 4
        await refused(bench, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, sequenced(8))
        assert row_of(await bench.call(0, 9, request(sequenced(0, epoch=1)))).base_offset == 4
        await refused(bench, ErrorCode.INVALID_PRODUCER_EPOCH, sequenced(4, epoch=0))
        assert bench.replicas.partition("orders", 0).counters.messages_in == 6

    run(tmp_path, scenario)


def test_a_client_at_the_wrong_broker_hears_who_leads(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        topic_id = bench.create(leader=2)
        for version, wanted in ((9, -1), (10, 2), (13, 2)):
            response = await bench.call(0, version, request(batch(b"a"), topic_id=topic_id))
            row = row_of(response)
            assert ErrorCode(row.error_code) == ErrorCode.NOT_LEADER_OR_FOLLOWER
            assert row.current_leader.leader_id == wanted
            if wanted > 0:
                (node,) = response.node_endpoints
                assert (node.node_id, node.host, node.port) == (2, "host-2", 9092)

    run(tmp_path, scenario)


def test_acks_all_waits_for_the_isr_and_times_out(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        topic_id = bench.create(leader=2)
        bench.move_leader(topic_id, 1)
        partition = bench.replicas.partition("orders", 0)
        call = bench.begin(0, 9, request(batch(b"a"), acks=-1))
        single = await bench.call(0, 9, request(batch(b"b"), acks=1))
        assert row_of(single).base_offset == 1
        assert call.outcome is None
        partition.update_follower(2, 1, 0, NOW_MS)
        assert row_of(call.outcome).error_code == 0
        body = request(batch(b"c"), acks=-1)
        body.timeout_ms = 20
        assert row_of(await bench.call(0, 9, body)).error_code == ErrorCode.REQUEST_TIMED_OUT
        call = bench.begin(0, 9, request(batch(b"d"), acks=-1))
        await bench.until(lambda: partition.flushed_end_offset == 4)
        bench.move_leader(topic_id, 2)
        assert row_of(call.outcome).error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER

    run(tmp_path, scenario)


def test_a_deleted_topic_is_gone_and_may_come_back(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        topic_id = bench.create()
        await bench.call(0, 9, request(batch(b"a")))
        bench.delete(topic_id)
        await refused(bench, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, batch(b"a"))
        bench.create()
        assert row_of(await bench.call(0, 9, request(batch(b"a")))).base_offset == 0

    run(tmp_path, scenario)


class BadDisk(LocalFiles):
    """Refuses appends to segments while `error` is set."""

    error = 0

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> Any:
        file: Any = super().open(path, create=create, read_only=read_only)
        disk = self

        class Wrapped(type(file)):  # type: ignore[misc]
            __slots__ = ()

            def append(self, buffers: Any) -> int:
                if disk.error and self.path.endswith(".log"):
                    raise OSError(disk.error, os.strerror(disk.error))
                return int(super().append(buffers))

        file.__class__ = Wrapped
        return file


def test_a_full_disk_acknowledges_nothing_and_recovers(tmp_path: Path) -> None:
    disk = BadDisk()

    async def scenario(bench: Bench) -> None:
        bench.create()
        assert row_of(await bench.call(0, 9, request(batch(b"a")))).base_offset == 0
        disk.error = errno.ENOSPC
        calls = [bench.begin(0, 9, request(batch(b"lost"), acks=acks)) for acks in (1, -1, 1)]
        silent = bench.begin(0, 9, request(batch(b"lost"), acks=0))
        await bench.until(lambda: all(call.outcome for call in calls))
        assert {row_of(call.outcome).error_code for call in calls} == {ErrorCode.KAFKA_STORAGE_ERROR}
        assert {row_of(call.outcome).base_offset for call in calls} == {-1}
        assert silent.hung_up
        disk.error = 0
        assert row_of(await bench.call(0, 9, request(batch(b"b")))).base_offset == 1
        assert bench.replicas.partition("orders", 0).high_watermark == 2

    run(tmp_path, scenario, files=disk)


def test_a_failing_directory_takes_its_partitions_offline(tmp_path: Path) -> None:
    disk = BadDisk()

    async def scenario(bench: Bench) -> None:
        told: list[tuple[str, int, int | None]] = []
        bench.create()
        bench.replicas.on_leadership_change(lambda *change: told.append(change))
        disk.error = errno.EIO
        await refused(bench, ErrorCode.KAFKA_STORAGE_ERROR, batch(b"lost"))
        await bench.until(lambda: told)
        assert told == [("orders", 0, None)]
        await refused(bench, ErrorCode.KAFKA_STORAGE_ERROR, batch(b"lost"))
        disk.error = 0
        await refused(bench, ErrorCode.KAFKA_STORAGE_ERROR, batch(b"still offline"))

    run(tmp_path, scenario, files=disk)


def test_internal_appends_call_back_when_committed(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        heard: list[tuple[int, int]] = []

        def note(error: ErrorCode, offset: int) -> None:
            heard.append((error, offset))

        bench.replicas.append_internal("__consumer_offsets", 0, batch(b"a"), note)
        bench.create("__consumer_offsets", cleanup_policy="compact")
        bench.replicas.append_internal("__consumer_offsets", 0, batch(b"a", b"b"), note)
        bench.replicas.append_internal("__consumer_offsets", 0, batch(b"c"), note)
        assert not heard
        await bench.until(lambda: len(heard) == 3)
        assert heard == [(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1), (0, 0), (0, 2)]
        (chunk,) = bench.replicas.read_committed_log("__consumer_offsets", 0)
        assert [header.base_offset for header, _ in iterate_batches(memoryview(chunk))] == [0, 2]

    run(tmp_path, scenario)


def test_leadership_is_told_and_the_high_watermark_survives(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        told: list[tuple[str, int, int | None]] = []
        bench.replicas.on_leadership_change(lambda *change: told.append(change))
        topic_id = bench.create(leader=2)
        bench.move_leader(topic_id, 1)
        bench.move_leader(topic_id, 2)
        bench.move_leader(topic_id, 1)
        assert told == [("orders", 0, None), ("orders", 0, 1), ("orders", 0, None), ("orders", 0, 3)]
        await bench.call(0, 9, request(batch(b"a", b"b"), acks=1))
        bench.replicas.partition("orders", 0).update_follower(2, 1, 0, 0)
        bench.replicas.watermarks.checkpoint()
        assert (tmp_path / "replication-offset-checkpoint").read_text() == "0\n1\norders 0 1\n"

    run(tmp_path, scenario)

"""One Fetch over partitions in memory: limits, waiting, errors."""

from __future__ import annotations

from typing import Any

import pytest

from broadsheet_broker.replication.fetch_request import Fetch, Row
from broadsheet_broker.replication.position_reader import ANYBODY, Reader
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.fetch_request import FetchPartition, FetchTopic
from tests.replication.support import Stage, State


class Reading:
    """A fetch of some partitions of `orders`, and what it answered."""

    def __init__(
        self,
        stage: Stage,
        wanted: list[FetchPartition],
        *,
        max_wait_ms: int = 500,
        reader: Reader = ANYBODY,
        **options: Any,
    ) -> None:
        self.answers: list[list[Row]] = []
        context = stage.sessions.begin(12, 0, -1, [FetchTopic(topic="orders", partitions=wanted)], [], privileged=False)
        limits = {"reader": reader, "read_committed": False, "min_bytes": 1, "max_bytes": 1000, **options}

        def answer(rows: list[Row]) -> None:
            self.answers.append(context.finish(rows)[2])

        fetch = Fetch(stage, context.session, answer, incremental=False, **limits)
        fetch.start(stage.loop.asyncio(), max_wait_ms)

    @property
    def data(self) -> list[bytes]:
        (rows,) = self.answers
        return [bytes(row.records) for _, row in rows]  # type: ignore[arg-type]

    @property
    def codes(self) -> list[int]:
        (rows,) = self.answers
        return [row.error_code for _, row in rows]


def at(index: int, offset: int, **more: Any) -> FetchPartition:
    fields = {"partition_max_bytes": 100, "current_leader_epoch": -1, "last_fetched_epoch": -1, **more}
    return FetchPartition(partition=index, fetch_offset=offset, **fields)


def filled(stage: Stage, *batches: bytes, index: int = 0) -> Any:
    partition = stage.partition(index)
    for batch in batches:
        stage.append(partition, batch)
    stage.loop.settle()
    return partition


def test_what_is_there_is_answered_at_once() -> None:
    stage = Stage()
    filled(stage, b"abc", b"def")
    reading = Reading(stage, [at(0, 0)])
    assert reading.data == [b"abcdef"]
    assert stage.loop.waiting == 0


def test_consumers_see_nothing_above_the_high_watermark_and_followers_do() -> None:
    stage = Stage()
    partition = stage.partition(state=State(isr=(1, 2), replicas=(1, 2)))
    stage.append(partition, b"abc")
    stage.loop.settle()
    assert Reading(stage, [at(0, 0)], max_wait_ms=0).data == [b""]
    assert Reading(stage, [at(0, 0)], reader=Reader(2)).data == [b"abc"]


def test_an_empty_fetch_waits_for_the_append() -> None:
    stage = Stage()
    partition = filled(stage, b"abc")
    reading = Reading(stage, [at(0, 3)])
    assert not reading.answers
    stage.append(partition, b"def")
    assert not reading.answers, "not before it is written"
    stage.loop.settle()
    assert reading.data == [b"def"]
    assert stage.loop.waiting == 0
    assert not partition._watchers


def test_appends_of_one_turn_are_answered_together() -> None:
    stage = Stage()
    first, second = filled(stage, index=0), filled(stage, index=1)
    reading = Reading(stage, [at(0, 0), at(1, 0)])
    stage.append(first, b"ab")
    stage.append(second, b"cd")
    stage.loop.settle()
    assert reading.data == [b"ab", b"cd"]


def test_min_bytes_gathers_over_partitions_and_turns() -> None:
    stage = Stage()
    first, second = filled(stage, index=0), filled(stage, index=1)
    reading = Reading(stage, [at(0, 0), at(1, 0)], min_bytes=5)
    for partition in (first, second):
        stage.append(partition, b"ab")
        stage.loop.settle()
        assert not reading.answers
    stage.append(first, b"c")
    stage.loop.settle()
    assert reading.data == [b"abc", b"ab"]


def test_the_time_limit_answers_with_what_there_is() -> None:
    stage = Stage()
    partition = filled(stage)
    reading = Reading(stage, [at(0, 0)], min_bytes=50, max_wait_ms=300)
    stage.append(partition, b"abc")
    stage.loop.settle()
    stage.loop.run_for(0.29)
    assert not reading.answers
    stage.loop.run_for(0.02)
    assert reading.data == [b"abc"]
    assert not partition._watchers


def test_the_first_batch_comes_whole_whatever_the_limits() -> None:
    stage = Stage()
    filled(stage, b"abcdef", index=0)
    filled(stage, b"ghi", index=1)
    reading = Reading(stage, [at(0, 0, partition_max_bytes=1), at(1, 0)], max_bytes=2)
    assert reading.data == [b"abcdef", b""]


def test_max_bytes_is_shared_in_order() -> None:
    stage = Stage()
    filled(stage, b"abc", b"def", index=0)
    filled(stage, b"ghi", b"jkl", index=1)
    assert Reading(stage, [at(0, 0), at(1, 0)], max_bytes=9).data == [b"abcdef", b"ghi"]


@pytest.mark.parametrize("offset", [-1, 7])
def test_offsets_outside_the_log_are_refused(offset: int) -> None:
    stage = Stage()
    filled(stage, b"abcdef")
    reading = Reading(stage, [at(0, offset)])
    assert reading.codes == [ErrorCode.OFFSET_OUT_OF_RANGE]
    assert reading.answers[0][0][1].high_watermark == -1


def test_an_error_is_not_held_back() -> None:
    stage = Stage()
    filled(stage)
    reading = Reading(stage, [at(0, 0), at(9, 0)])
    assert reading.codes == [0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]


def test_deleting_the_topic_ends_the_wait() -> None:
    stage = Stage()
    partition = filled(stage)
    reading = Reading(stage, [at(0, 0)])
    del stage.partitions["orders", 0]
    partition.retire()
    stage.loop.settle()
    assert reading.codes == [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]


def test_losing_leadership_ends_the_wait() -> None:
    stage = Stage()
    partition = filled(stage)
    reading = Reading(stage, [at(0, 0)])
    partition.become_follower(State(leader=2, leader_epoch=2))
    stage.loop.settle()
    assert reading.codes == [ErrorCode.NOT_LEADER_OR_FOLLOWER]


def test_leader_epochs_are_checked() -> None:
    stage = Stage()
    stage.partition(state=State(leader_epoch=3))
    assert Reading(stage, [at(0, 0, current_leader_epoch=2)]).codes == [ErrorCode.FENCED_LEADER_EPOCH]
    assert Reading(stage, [at(0, 0, current_leader_epoch=4)]).codes == [ErrorCode.UNKNOWN_LEADER_EPOCH]


def test_a_reader_whose_log_parted_hears_where() -> None:
    stage = Stage()
    partition = stage.partition(state=State(leader_epoch=1, replicas=(1, 2)))
    stage.append(partition, b"abc")
    stage.loop.settle()
    partition.become_leader(State(leader_epoch=4, replicas=(1, 2)))
    stage.append(partition, b"def")
    stage.loop.settle()
    reading = Reading(stage, [at(0, 5, last_fetched_epoch=2)], reader=Reader(2))
    row = reading.answers[0][0][1]
    assert (row.error_code, row.diverging_epoch.epoch, row.diverging_epoch.end_offset) == (0, 1, 3)
    assert Reading(stage, [at(0, 3, last_fetched_epoch=1)], reader=Reader(2)).data == [b"def"]


def test_the_fetches_of_a_replica_move_the_high_watermark_and_wake_consumers() -> None:
    stage = Stage()
    partition = stage.partition(state=State(isr=(1, 2), replicas=(1, 2)))
    stage.append(partition, b"abc")
    stage.loop.settle()
    consumer = Reading(stage, [at(0, 0)])
    assert Reading(stage, [at(0, 0)], reader=Reader(2)).data == [b"abc"]
    stage.loop.settle()
    assert not consumer.answers
    follower = Reading(stage, [at(0, 3)], reader=Reader(2), max_wait_ms=0)
    stage.loop.settle()
    assert consumer.data == [b"abc"]
    assert follower.answers[0][0][1].high_watermark == 3
    assert Reading(stage, [at(0, 3)], reader=Reader(9)).codes == [ErrorCode.UNKNOWN_LEADER_EPOCH]


def test_what_was_served_is_counted() -> None:
    stage = Stage()
    partition = filled(stage, b"abcdef")
    Reading(stage, [at(0, 0)])
    Reading(stage, [at(0, 99)])
    assert partition.counters.bytes_out == 6
    assert partition.counters.fetch_requests == 2
    assert partition.counters.failed_fetch_requests == 1

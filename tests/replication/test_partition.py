"""Leadership, ISR, high watermark: the arithmetic of one partition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadsheet_broker.replication.partition import ALL_ACKS, Follower
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from tests.replication.support import Stage, State

THREE = State(isr=(1, 2, 3), replicas=(1, 2, 3))


def code_of(error: pytest.ExceptionInfo[KafkaError]) -> ErrorCode:
    return error.value.code


def test_alone_in_the_isr_the_high_watermark_follows_the_write() -> None:
    stage = Stage()
    partition = stage.partition()
    stage.append(partition, b"abc")
    assert partition.high_watermark == 0, "nothing is committed before the write"
    stage.loop.settle()
    assert partition.high_watermark == 3


def test_appends_of_one_turn_are_written_once() -> None:
    stage = Stage()
    partition = stage.partition()
    for _ in range(10):
        stage.append(partition, b"abc")
    stage.loop.settle()
    assert partition.log.flushes == 1  # type: ignore[attr-defined]
    assert partition.high_watermark == 30


def test_with_followers_the_slowest_of_the_isr_decides() -> None:
    stage = Stage()
    partition = stage.partition(state=THREE)
    stage.append(partition, b"abcdef")
    stage.loop.settle()
    assert partition.high_watermark == 0
    partition.update_follower(2, 6, 0, 0)
    assert partition.high_watermark == 0
    partition.update_follower(3, 4, 0, 0)
    assert partition.high_watermark == 4


def test_a_shrunk_isr_releases_the_high_watermark() -> None:
    stage = Stage()
    partition = stage.partition(state=THREE)
    stage.append(partition, b"abcdef")
    stage.loop.settle()
    partition.update_follower(2, 6, 0, 0)
    partition.become_leader(State(isr=(1, 2), replicas=(1, 2, 3), partition_epoch=2))
    assert partition.high_watermark == 6


def test_acks_all_needs_min_insync_replicas() -> None:
    stage = Stage()
    partition = stage.partition(min_insync_replicas=2, state=State(isr=(1,), replicas=(1, 2, 3)))
    with pytest.raises(KafkaError) as error:
        stage.append(partition, b"a", ALL_ACKS)
    assert code_of(error) == ErrorCode.NOT_ENOUGH_REPLICAS
    stage.append(partition, b"a", 1)
    stage.loop.settle()
    assert partition.high_watermark == 0, "the high watermark stands still below min ISR (KIP-966)"


def test_min_insync_replicas_is_never_more_than_the_replicas() -> None:
    stage = Stage()
    partition = stage.partition(min_insync_replicas=2)
    stage.append(partition, b"a", ALL_ACKS)
    stage.loop.settle()
    assert partition.high_watermark == 1


def test_a_follower_refuses_appends_and_tells_who_waited() -> None:
    stage = Stage()
    partition = stage.partition(state=THREE)
    heard: list[ErrorCode] = []
    stage.append(partition, b"abc")
    stage.loop.settle()
    partition.on_high_watermark(3, heard.append)
    partition.become_follower(State(leader=2, leader_epoch=2, isr=(2, 3), replicas=(1, 2, 3)))
    assert heard == [ErrorCode.NOT_LEADER_OR_FOLLOWER]
    with pytest.raises(KafkaError) as error:
        stage.append(partition, b"d")
    assert code_of(error) == ErrorCode.NOT_LEADER_OR_FOLLOWER


def test_a_deleted_partition_is_unknown() -> None:
    stage = Stage()
    partition = stage.partition()
    partition.retire()
    with pytest.raises(KafkaError) as error:
        stage.append(partition, b"d")
    assert code_of(error) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


@pytest.mark.parametrize(
    ("epoch", "code"),
    [(4, ErrorCode.FENCED_LEADER_EPOCH), (6, ErrorCode.UNKNOWN_LEADER_EPOCH), (5, None), (-1, None)],
)
def test_leader_epochs_of_clients_are_checked(epoch: int, code: ErrorCode | None) -> None:
    partition = Stage().partition(state=State(leader_epoch=5))
    if code is None:
        partition.check_leader(epoch)
    else:
        with pytest.raises(KafkaError) as error:
            partition.check_leader(epoch)
        assert code_of(error) == code


def test_a_failed_write_makes_nothing_visible_and_the_next_one_may_succeed() -> None:
    stage = Stage()
    partition = stage.partition()
    stage.append(partition, b"abc")
    stage.loop.settle()
    partition.log.fail = OSError(28, "No space left on device")  # type: ignore[attr-defined]
    stage.append(partition, b"def")
    partition.flush()
    assert partition.flush_error == ErrorCode.KAFKA_STORAGE_ERROR
    assert partition.high_watermark == partition.flushed_end_offset == 3
    stage.loop.settle()
    partition.log.fail = None  # type: ignore[attr-defined]
    stage.append(partition, b"g")
    stage.loop.settle()
    assert partition.high_watermark == 4


def test_delete_records_moves_the_start_up_to_the_high_watermark_only() -> None:
    stage = Stage()
    partition = stage.partition()
    stage.append(partition, b"abcdef")
    stage.loop.settle()
    assert partition.delete_records_before(4) == 4
    assert partition.delete_records_before(2) == 2
    assert partition.low_watermark == 4, "the start never goes back"
    with pytest.raises(KafkaError) as error:
        partition.delete_records_before(7)
    assert code_of(error) == ErrorCode.OFFSET_OUT_OF_RANGE
    assert partition.delete_records_before(-1) == 6


def test_a_recovered_high_watermark_stays_within_the_log() -> None:
    stage = Stage()
    partition = stage.partition(state=THREE)
    assert partition.high_watermark == 0


def test_a_follower_is_in_step_while_it_has_what_was_there_at_its_last_fetch() -> None:
    follower = Follower()
    follower.fetched(0, 0, leader_end_offset=10, now_ms=100)
    assert follower.caught_up_ms == 0
    follower.fetched(10, 0, leader_end_offset=20, now_ms=200)
    assert follower.caught_up_ms == 100
    follower.fetched(15, 0, leader_end_offset=30, now_ms=300)
    assert follower.caught_up_ms == 100
    follower.fetched(30, 0, leader_end_offset=30, now_ms=400)
    assert follower.caught_up_ms == 400


class Reader:
    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


def test_a_watcher_is_woken_once() -> None:
    stage = Stage()
    partition = stage.partition()
    reader = Reader()
    partition.watch(reader)
    for _ in range(3):
        stage.append(partition, b"a")
        stage.loop.settle()
    assert reader.woken == 1


steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 4)),
        st.tuples(st.just("fetch"), st.tuples(st.sampled_from([2, 3]), st.integers(0, 5))),
        st.tuples(st.just("isr"), st.sampled_from([(1,), (1, 2), (1, 3), (1, 2, 3)])),
    ),
    max_size=40,
)


@given(steps, st.integers(1, 3))
def test_the_high_watermark_is_the_smallest_end_of_the_isr_and_never_goes_back(
    steps: list[tuple[str, object]], min_isr: int
) -> None:
    stage = Stage()
    partition = stage.partition(min_insync_replicas=min_isr, state=THREE)
    ends = {1: 0, 2: -1, 3: -1}
    epoch = 1
    acknowledged: list[int] = []
    for what, value in steps:
        before = partition.high_watermark
        if what == "append":
            assert isinstance(value, int)
            stage.append(partition, b"x" * value)
            stage.loop.settle()
            ends[1] += value
            end = ends[1]
            partition.on_high_watermark(end, lambda code, end=end: acknowledged.append(end))  # type: ignore[misc]
        elif what == "fetch":
            replica, gain = value  # type: ignore[misc]
            ends[replica] = min(max(ends[replica], 0) + gain, ends[1])
            partition.update_follower(replica, ends[replica], 0, 0)
        else:
            epoch += 1
            # A replica joins the ISR only when it has reached the high watermark, as the controller sees to.
            isr = tuple(r for r in value if r == 1 or ends[r] >= partition.high_watermark)  # type: ignore[attr-defined]
            partition.become_leader(State(isr=isr, replicas=(1, 2, 3), partition_epoch=epoch))
        smallest = min(ends[replica] for replica in partition.isr)
        if len(partition.isr) >= min(min_isr, 3):
            assert partition.high_watermark == max(before, smallest)
        else:
            assert partition.high_watermark == before
        assert all(end <= partition.high_watermark for end in acknowledged)

"""Throttles of replication and the choice of a replica to read from, as plain values."""

from __future__ import annotations

import uuid
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadsheet_broker.metadata.image import BrokerInfo, ClusterImage, Endpoint
from broadsheet_broker.replication.fetch_request import Fetch, Row
from broadsheet_broker.replication.position_reader import Reader
from broadsheet_broker.replication.selector import NO_PREFERENCE, preferred_replica
from broadsheet_broker.replication.throttle import Throttle, ThrottledReplicas, ThrottledTopics
from broadsheet_broker.wire.messages.fetch_request import FetchPartition, FetchTopic
from tests.replication.support import Stage, State


@pytest.mark.parametrize(
    ("text", "throttled"),
    [
        ("", []),
        ("*", [0, 1, 2]),
        ("0:1,2:1,1:2", [0, 2]),
        (" 1:1 , 2:7", [1]),
        ("none", []),
        ("9" * 5000 + ":1,2:1", [2]),
    ],
)
def test_which_replicas_are_throttled_here(text: str, throttled: list[int]) -> None:
    found = ThrottledReplicas(text, 1)
    assert [index for index in range(3) if index in found] == throttled
    assert bool(found) == bool(throttled)


@given(
    st.integers(1, 10**9),
    st.lists(st.tuples(st.floats(0, 5), st.integers(0, 10**6)), min_size=1, max_size=50),
)
def test_over_any_time_no_more_is_sent_than_the_rate_allows(rate: int, steps: list[tuple[float, int]]) -> None:
    """Beside the burst, and the one batch that overdraws the budget."""
    throttle, now, sent, largest = Throttle(), 0.0, 0, 0
    throttle.set_rate(rate, now)
    for pause, size in steps:
        now += pause
        if throttle.delay(now) <= 0:
            throttle.record(size, now)
            sent, largest = sent + size, max(largest, size)
        assert sent <= rate * (now + 1) * 1.000001 + largest
        assert throttle.delay(now + throttle.delay(now) + 1e-6) <= 1e-6


def test_without_a_rate_nothing_waits() -> None:
    throttle = Throttle()
    throttle.record(2**60, 0)
    assert throttle.delay(0) == 0


def test_a_throttled_follower_waits_and_is_not_woken_by_every_append() -> None:
    stage = Stage()
    partition = stage.partition(state=State(isr=(1,), replicas=(1, 2)))
    stage.append(partition, b"abc")
    stage.loop.settle()
    stage.sends = False
    answers: list[list[Row]] = []
    wanted = FetchPartition(
        partition=0, fetch_offset=0, partition_max_bytes=100, current_leader_epoch=-1, last_fetched_epoch=-1
    )
    context = stage.sessions.begin(12, 0, -1, [FetchTopic(topic="orders", partitions=[wanted])], [], privileged=True)
    Fetch(
        stage,
        context.session,
        lambda rows: answers.append(context.finish(rows)[2]),
        incremental=False,
        read_committed=False,
        min_bytes=1,
        max_bytes=1000,
        reader=Reader(2),
    ).start(stage.loop.asyncio(), 500)
    stage.append(partition, b"def")
    stage.loop.settle()
    assert not answers
    stage.sends = True
    stage.loop.run_for(0.5)
    assert [bytes(row.records) for _, row in answers[0]] == [b"abcdef"]  # type: ignore[arg-type]
    assert stage.sent == 6


def broker(id: int, rack: str | None, *, fenced: bool = False, listener: str = "PLAINTEXT") -> BrokerInfo:
    return BrokerInfo(id, id, uuid.UUID(int=id), {listener: Endpoint("host", 9092)}, rack=rack, fenced=fenced)


@pytest.mark.parametrize(
    ("brokers", "isr", "ends", "chosen"),
    [
        ([broker(2, "b"), broker(3, "c")], (1, 2, 3), {2: 9, 3: 9}, 2),
        ([broker(2, "b"), broker(3, "b")], (1, 2, 3), {2: 8, 3: 9}, 3),
        ([broker(2, "b"), broker(3, "c")], (1, 3), {2: 9, 3: 9}, NO_PREFERENCE),
        ([broker(2, "b", fenced=True), broker(3, "c")], (1, 2, 3), {2: 9, 3: 9}, NO_PREFERENCE),
        ([broker(2, "b", listener="OTHER"), broker(3, "c")], (1, 2, 3), {2: 9, 3: 9}, NO_PREFERENCE),
        ([broker(2, "b"), broker(3, "c")], (1, 2, 3), {2: 4, 3: 9}, NO_PREFERENCE),
        ([broker(1, "b"), broker(2, "b"), broker(3, "c")], (1, 2, 3), {2: 9, 3: 9}, NO_PREFERENCE),
    ],
)
def test_a_consumer_is_sent_to_a_replica_in_its_rack_that_can_serve_it(
    brokers: list[BrokerInfo], isr: tuple[int, ...], ends: dict[int, int], chosen: int
) -> None:
    followers = {
        id: SimpleNamespace(broker_id=id, log_end_offset=end, log_start_offset=0, caught_up_ms=0)
        for id, end in ends.items()
    }
    partition = SimpleNamespace(broker_id=1, isr=isr, followers=followers)
    image = ClusterImage(brokers={1: broker(1, "a"), **{each.id: each for each in brokers}})
    assert preferred_replica(partition, image, "PLAINTEXT", "b", 5) == chosen  # type: ignore[arg-type]


def test_a_deleted_topic_leaves_no_throttle_behind() -> None:
    throttled = ThrottledTopics(1)
    throttled.read("orders", {"leader.replication.throttled.replicas": "*"})
    throttled.read("quiet", {"leader.replication.throttled.replicas": ""})
    assert throttled
    throttled.forget("orders")
    assert not throttled

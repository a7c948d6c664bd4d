"""A broker whose disk is full steps aside while others can do its work, and comes back when there is room."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from broadsheet_broker.metadata.delta import MetadataDelta
from broadsheet_broker.metadata.image import EMPTY_IMAGE, ClusterImage
from broadsheet_broker.node.stepping_aside import FIRST_PAUSE, SteppingAside, may_step_aside
from broadsheet_broker.wire.messages.partition_record import PartitionRecord
from broadsheet_broker.wire.messages.register_broker_record import RegisterBrokerRecord
from broadsheet_broker.wire.messages.topic_record import TopicRecord
from tests.support.virtual_time import VirtualLoop

TOPIC = uuid.UUID(int=7)


def image(*isrs: tuple[int, ...], fenced: tuple[int, ...] = ()) -> ClusterImage:
    """Brokers 1 to 3 and a partition with each of these ISRs, led by its first."""
    brokers = [
        RegisterBrokerRecord(broker_id=id, broker_epoch=id, incarnation_id=uuid.UUID(int=id), fenced=id in fenced)
        for id in (1, 2, 3)
    ]
    partitions = [
        PartitionRecord(partition_id=index, topic_id=TOPIC, replicas=list(isr), isr=list(isr), leader=isr[0])
        for index, isr in enumerate(isrs)
    ]
    records: list[Any] = [*brokers, TopicRecord(name="orders", topic_id=TOPIC), *partitions]
    return MetadataDelta(EMPTY_IMAGE).replay_all(records).apply(len(records), 1, 0)


@pytest.mark.parametrize(
    ("isrs", "fenced", "expected"),
    [
        (((1, 2, 3), (2, 1)), (), True),
        (((2, 3),), (), True),
        (((1, 2), (1,)), (), False),
        (((1, 2),), (2,), False),
        (((2, 3),), (2, 3), False),
    ],
)
def test_it_steps_aside_only_where_others_can_lead(
    isrs: tuple[tuple[int, ...], ...], fenced: tuple[int, ...], expected: bool
) -> None:
    assert may_step_aside(image(*isrs, fenced=fenced), 1) is expected


class Clock:
    """What is used of an environment: a loop, and a monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.loop = VirtualLoop(0)

    @property
    def now(self) -> float:
        return self.loop.now

    def monotonic(self) -> float:
        return self.loop.now

    def to(self, now: float) -> None:
        self.loop.run_for(now - self.loop.now)


def test_it_comes_back_when_nothing_was_refused_for_a_while_and_waits_longer_the_next_time() -> None:
    clock, wishes, may = Clock(), list[tuple[float, bool]](), [False]
    aside = SteppingAside(clock, lambda: may[0], lambda wish: wishes.append((clock.now, wish)))  # type: ignore[arg-type]
    aside.disk_full()
    assert wishes == [], "no other broker can lead"
    may[0] = True
    aside.disk_full()
    clock.to(2)
    aside.disk_full()
    clock.to(2 + FIRST_PAUSE + 1)
    assert wishes == [(0, True), (2 + FIRST_PAUSE, False)]
    aside.disk_full()
    clock.to(clock.now + 2 * FIRST_PAUSE - 0.1)
    assert [wish for _, wish in wishes] == [True, False, True]
    clock.to(clock.now + 1)
    assert [wish for _, wish in wishes] == [True, False, True, False]
    aside.disk_full()
    aside.close()
    clock.to(1000)
    assert wishes[-1][1] is True

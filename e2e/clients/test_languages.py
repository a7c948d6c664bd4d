"""What a producer of one language sends, a consumer of any other reads."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable

import pytest

from e2e.clients.programs import NAMES, Order, RunningConsumer, produce
from tests.support.broker_process import BrokerProcess

COUNT = 30


@pytest.fixture(scope="session")
def sent_by(broker: BrokerProcess, new_topic: Callable[..., str]) -> Callable[[str], list[Order]]:
    """The orders that a language's producer has sent to a topic of its own."""
    sent: dict[str, list[Order]] = {}

    def of(name: str) -> list[Order]:
        if name not in sent:
            sent[name] = produce(name, broker, new_topic(), COUNT)
        return sent[name]

    return of


@pytest.mark.parametrize("producer", NAMES)
@pytest.mark.parametrize("consumer", NAMES)
def test_each_reads_what_each_sends(
    broker: BrokerProcess, sent_by: Callable[[str], list[Order]], producer: str, consumer: str
) -> None:
    sent = sent_by(producer)
    with RunningConsumer(consumer, broker, sent[0].topic, f"readers-{uuid.uuid4().hex[:8]}") as running:
        read = running.wait_for(COUNT)
        assert running.interrupt() in (0, 130)
        assert sorted(running.orders()) == sorted(sent) == sorted(read)
    for key in {order.key for order in sent}:
        numbers = [order.number for order in read if order.key == key]
        assert numbers == sorted(numbers), f"the orders of {key} lost their order"


def test_a_key_stays_in_one_partition_whoever_sends_it(broker: BrokerProcess, topic: str) -> None:
    partitions = defaultdict(set)
    for name in NAMES:
        for order in produce(name, broker, topic, 9):
            partitions[order.key].add(order.partition)
    assert set(partitions) == {"customer-1", "customer-2", "customer-3"}
    assert all(len(places) == 1 for places in partitions.values()), dict(partitions)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "go"])  # kafka-go asks for no topic to be made
def test_a_producer_makes_the_topic_that_it_writes_to(broker: BrokerProcess, name: str) -> None:
    topic = f"absent-{uuid.uuid4().hex[:8]}"
    assert sorted(order.number for order in produce(name, broker, topic, 9)) == list(range(1, 10))


@pytest.mark.parametrize("name", NAMES)
def test_a_consumer_that_comes_back_goes_on_where_it_stopped(broker: BrokerProcess, topic: str, name: str) -> None:
    group = f"readers-{uuid.uuid4().hex[:8]}"
    produce("python", broker, topic, 9)
    with RunningConsumer(name, broker, topic, group) as first:
        first.wait_for(9)
        first.interrupt()
    later = produce("python", broker, topic, 6)
    with RunningConsumer(name, broker, topic, group) as second:
        second.wait_for(6)
        second.interrupt()
        assert sorted(second.orders()) == sorted(later)

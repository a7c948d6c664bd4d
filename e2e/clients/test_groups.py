"""A group shares the partitions between its members, and groups do not know of each other."""

from __future__ import annotations

import uuid
from contextlib import ExitStack

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from e2e.clients.programs import NAMES, Order, RunningConsumer, produce
from tests.support.broker_process import BrokerProcess
from tests.support.waiting import wait_until

# Members notice a dead one when its session of 6 s ends; a rebalance then takes up to a heartbeat or two more.
DEADLINE_S = 60.0

# The first use of a group makes the topic that holds its offsets: until then there is no coordinator.
COMING_UP = {
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.GROUP_ID_NOT_FOUND,
    KafkaError._TIMED_OUT,
}


@pytest.fixture
def group() -> str:
    return f"readers-{uuid.uuid4().hex[:8]}"


def partitions_of_members(admin: AdminClient, group: str) -> list[int]:
    """How many partitions each member of a stable group has, in rising order; empty while it rebalances."""
    try:
        description = admin.describe_consumer_groups([group], request_timeout=3)[group].result(10)
    except KafkaException as error:
        if error.args[0].code() in COMING_UP:
            return []
        raise
    if description.state.name != "STABLE":
        return []
    return sorted(len(member.assignment.topic_partitions) for member in description.members)


def wait_for_assignment(admin: AdminClient, group: str, expected: list[int]) -> None:
    seen: list[int] = []

    def reached() -> bool:
        seen[:] = partitions_of_members(admin, group)
        return seen == expected

    try:
        wait_until(reached, "the assignment", DEADLINE_S, every_s=0.2)
    except TimeoutError:
        raise AssertionError(f"the members of {group} have {seen} partitions, not {expected}") from None


def all_orders(members: list[RunningConsumer]) -> list[Order]:
    return sorted(order for member in members for order in member.orders())


@pytest.mark.parametrize("name", NAMES)
def test_two_members_split_the_partitions_and_one_takes_over_when_the_other_is_killed(
    broker: BrokerProcess, admin: AdminClient, topic: str, group: str, name: str
) -> None:
    with RunningConsumer(name, broker, topic, group) as first, RunningConsumer(name, broker, topic, group) as second:
        wait_for_assignment(admin, group, [1, 2])
        sent = sorted(produce("python", broker, topic, 30))
        wait_until(lambda: len(all_orders([first, second])) >= 30, "both to read everything", DEADLINE_S)
        assert all_orders([first, second]) == sent

        second.kill()
        wait_for_assignment(admin, group, [3])
        before = {*first.orders(), *second.orders()}
        more = produce("python", broker, topic, 30)
        wait_until(lambda: set(more) <= set(first.orders()), "the survivor to read everything", DEADLINE_S)
        assert {order.partition for order in first.orders()} == {order.partition for order in before}


def test_members_of_different_languages_share_a_group(
    broker: BrokerProcess, admin: AdminClient, topic: str, group: str
) -> None:
    names = ("java-3.8.0", "java-4.3.0", "python")  # kafkajs and kafka-go have assignors of their own
    with ExitStack() as stack:
        members = [stack.enter_context(RunningConsumer(name, broker, topic, group)) for name in names]
        wait_for_assignment(admin, group, [1, 1, 1])
        sent = sorted(produce("node", broker, topic, 30))
        wait_until(lambda: len(all_orders(members)) >= 30, "the group to read everything", DEADLINE_S)
        assert all_orders(members) == sent


def test_a_member_more_than_partitions_is_idle_until_it_is_needed(
    broker: BrokerProcess, admin: AdminClient, topic: str, group: str
) -> None:
    with ExitStack() as stack:
        members = [stack.enter_context(RunningConsumer("python", broker, topic, group)) for _ in range(4)]
        wait_for_assignment(admin, group, [0, 1, 1, 1])
        members[0].interrupt()
        wait_for_assignment(admin, group, [1, 1, 1])


def test_groups_are_independent(broker: BrokerProcess, topic: str, group: str) -> None:
    sent = sorted(produce("python", broker, topic, 9))
    with (
        RunningConsumer("python", broker, topic, f"{group}-a") as one,
        RunningConsumer("python", broker, topic, f"{group}-b") as other,
    ):
        assert sorted(one.wait_for(9)) == sorted(other.wait_for(9)) == sent

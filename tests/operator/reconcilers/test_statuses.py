"""Statuses that programs read: what is broken for long is Stalled, what is paused stays as it was."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from broadsheet_operator.api.cluster import Cluster
from broadsheet_operator.api.consumer_group import ConsumerGroupStatus, PartitionLag
from broadsheet_operator.api.topic import TopicStatus
from broadsheet_operator.reconcilers import consumer_group, topic
from broadsheet_operator.reconcilers.cluster import BrokerState, cluster_status
from broadsheet_operator.reconcilers.conditions import (
    Statement,
    as_before_the_pause,
    bad_since,
    overdue,
    ready,
    should_write,
    waiting,
    with_statements,
    working,
)
from broadsheet_operator.reconcilers.reasons import Reason
from broadsheet_operator.reconcilers.seen import Seen

NOW = datetime(2026, 1, 31, 8, tzinfo=UTC)
LATER = NOW + timedelta(minutes=10)


def told(statements: list[Statement], generation: int = 1, before: TopicStatus | None = None) -> TopicStatus:
    return with_statements(before, TopicStatus(), statements, generation, NOW)


def test_bad_news_is_stalled_when_it_has_lasted() -> None:
    status = told(waiting(Reason.UNREACHABLE, "no broker can be reached"))
    assert overdue(None, status, 599, 600, NOW) is status
    late = overdue(status, status, 600, 600, LATER)
    stalled = late.condition("Stalled")
    assert stalled is not None and (stalled.status, stalled.reason) == ("True", "Unreachable")
    assert stalled.message == "not Ready for more than 10 minutes: no broker can be reached"
    assert (stalled.observed_generation, stalled.last_transition_time) == (1, "2026-01-31T08:10:00Z")


def test_an_operator_that_restarts_keeps_it_stalled_and_its_time() -> None:
    status = told(waiting(Reason.UNREACHABLE, "gone"))
    late = overdue(status, status, 600, 600, LATER)
    again = overdue(late, told(waiting(Reason.UNREACHABLE, "gone"), before=late), 0, 600, LATER + timedelta(hours=1))
    assert again == late, "and nothing is written"


def test_bad_news_of_an_earlier_leader_counts() -> None:
    status = told(waiting(Reason.UNREACHABLE, "gone"))
    assert bad_since(status, told(waiting(Reason.BROKER_DOWN, "down"), before=status)) == NOW
    assert bad_since(status, told(waiting(Reason.UNREACHABLE, "gone"), 2, before=status)) is None
    for before in (None, told(ready()), told(working(Reason.CREATING, "starts"))):
        assert bad_since(before, status) is None


def test_a_new_generation_or_another_reason_has_its_own_ten_minutes() -> None:
    status = told(waiting(Reason.UNREACHABLE, "gone"))
    late = overdue(status, status, 600, 600, LATER)
    changed = told(waiting(Reason.UNREACHABLE, "gone"), 2, before=late)
    assert overdue(late, changed, 0, 600, LATER).condition("Stalled") is None
    other = told(waiting(Reason.BROKER_DOWN, "down"), before=late)
    assert overdue(late, other, 0, 600, LATER).condition("Stalled") is None


@pytest.mark.parametrize(
    "statements",
    [
        ready("as declared"),
        working(Reason.CREATING, "its brokers start"),
        waiting(Reason.WAITING_FOR_WINDOW, "waits for the maintenance window"),
        waiting(Reason.CLUSTER_NOT_READY, "the Cluster is not ready yet"),
        waiting(Reason.PAUSED, "the Cluster is paused"),
    ],
)
def test_what_goes_on_or_waits_as_asked_is_never_stalled(statements: list[Statement]) -> None:
    status = told(statements)
    assert overdue(status, status, 1e9, 600, LATER) is status


def test_what_was_ready_when_its_cluster_was_paused_stays_ready() -> None:
    before = told(ready("as declared"))
    after = told(as_before_the_pause(before, 1, "the Cluster news is paused"), before=before)
    assert [(c.type, c.status) for c in after.conditions] == [("Ready", "True"), ("Paused", "True")]
    again = told(as_before_the_pause(after, 1, "the Cluster news is paused"), before=after)
    assert again == after


def test_what_has_changed_since_the_pause_is_not_ready() -> None:
    before = told(ready("as declared"))
    after = told(as_before_the_pause(before, 2, "the Cluster news is paused"), 2, before)
    assert [(c.type, c.status, c.reason) for c in after.conditions] == [
        ("Ready", "False", "Paused"),
        ("Paused", "True", "Paused"),
    ]
    assert [c.type for c in told(as_before_the_pause(None, 1, "paused")).conditions] == ["Ready", "Paused"]


def group(seconds: int | None, lag: int = 5) -> ConsumerGroupStatus:
    partition = PartitionLag(topic="orders", partition=0, committed=0, end=lag, lag=lag, lag_seconds=seconds)
    return ConsumerGroupStatus(lag=lag, lag_seconds=seconds, partitions=[partition])


def test_an_age_that_only_grows_is_written_when_it_has_grown_by_a_tenth() -> None:
    """A group that reads nothing wrote its status every ten seconds for the age of the first unread record."""
    figures, hour = consumer_group.FIGURES, 3600
    older = group(hour + 350)
    assert not should_write(group(hour), older, figures, NOW, NOW + timedelta(seconds=350))
    assert should_write(group(hour), group(hour + 400), figures, NOW, NOW + timedelta(seconds=400))
    assert should_write(group(hour), group(hour + 10, 6), figures, NOW, NOW + timedelta(seconds=10)), "the lag is exact"
    assert should_write(group(20), group(30), figures, NOW, NOW + timedelta(seconds=10))


def test_the_size_of_a_topic_is_written_every_five_minutes() -> None:
    before = TopicStatus(partitions=1, size="1Ki")
    grown = before.model_copy(update={"size": "2Ki"})
    assert not should_write(before, grown, topic.FIGURES, NOW, NOW + timedelta(seconds=299))
    assert should_write(before, grown, topic.FIGURES, NOW, NOW + timedelta(seconds=300))
    other = grown.model_copy(update={"partitions": 2})
    assert should_write(before, other, topic.FIGURES, NOW, NOW)


def test_a_broker_that_finds_no_node_is_bad_news_that_may_heal() -> None:
    """Not work in progress for ever: an autoscaler helps within minutes, or a person has to."""
    cluster = Cluster.model_validate({"metadata": {"name": "news"}, "spec": {"brokers": {"replicas": 2}}})
    states = [BrokerState(0, "Starting", message="broker 0: no node fits", unplaced=True), BrokerState(1, "Starting")]
    status = cluster_status(cluster, states, Seen(), NOW)
    assert [(c.type, c.reason, c.message) for c in status.conditions] == [
        ("Ready", "BrokerDown", "broker 0: no node fits")
    ]
    assert overdue(status, status, 600, 600, LATER).condition("Stalled") is not None
    states = [replace(states[0], unplaced=False), BrokerState(1, "Running")]
    status = cluster_status(cluster, states, Seen(), NOW)
    assert [(c.type, c.reason) for c in status.conditions] == [("Ready", "Creating"), ("Reconciling", "Creating")]

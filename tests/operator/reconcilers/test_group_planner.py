"""The ConsumerGroup planner, lag and verdicts, with plain values."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadsheet_operator.api.consumer_group import ConsumerGroup, ConsumerGroupStatus, Verdict
from broadsheet_operator.reconcilers import consumer_group as planner
from broadsheet_operator.reconcilers.conditions import should_write
from broadsheet_operator.reconcilers.consumer_group import (
    FIGURES,
    CommitOffsets,
    DeleteGroup,
    GroupPlan,
    GroupSeen,
    query_of,
)
from broadsheet_operator.reconcilers.lag import Sample, partition_lag, remember, sample, verdict
from broadsheet_operator.reconcilers.observed import Failure, GroupView, MemberView, TopicPartition
from broadsheet_operator.reconcilers.resets import outcome
from broadsheet_operator.reconcilers.rivals import rivals as rivals_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
A, B, C = (TopicPartition("orders", i) for i in range(3))
READER = MemberView("m-1", "reader", "10.0.0.1", None, (A, B))


def plan_group(
    desired: ConsumerGroup, group: GroupView | Failure, history: Sequence[Sample], now: datetime, **more: Any
) -> GroupPlan:
    return planner.plan_group(desired, GroupSeen(group=group, history=history, **more), now)


def group(spec: dict[str, Any] | None = None, **metadata: Any) -> ConsumerGroup:
    return ConsumerGroup.model_validate(
        {"metadata": {"name": "g", **metadata}, "spec": {"cluster": "q", **(spec or {})}}
    )


def view(members: int = 1, **more: Any) -> GroupView:
    values: dict[str, Any] = {
        "committed": {A: 5, B: 10},
        "starts": {A: 0, B: 0, C: 0},
        "ends": {A: 8, B: 10, C: 4},
        "record_times": {A: NOW_MS - 90_500},
    }
    return GroupView("g", True, "Stable" if members else "Empty", (READER,) * members, **(values | more))


def nobody() -> GroupView:
    return GroupView("g", False, "Dead")


def said(plan: GroupPlan, kind: str = "Ready") -> tuple[str, str, str]:
    condition = plan.status.condition(kind)
    assert condition is not None
    return condition.status, condition.reason, condition.message


def test_lag_and_members_are_told() -> None:
    status = plan_group(group(), view(), [], NOW).status
    assert (status.state, status.members, status.lag, status.lag_seconds) == ("Stable", 1, 3, 90)
    assert status.uncommitted_partitions == 1
    first, second, third = status.partitions
    assert (first.committed, first.end, first.lag, first.lag_seconds) == (5, 8, 3, 90)
    assert (second.lag, second.lag_seconds) == (0, 0)
    assert (third.committed, third.end, third.lag) == (None, 4, None)
    assert status.member_list[0].partitions == ["orders-0", "orders-1"]


def test_records_that_retention_deleted_are_no_lag() -> None:
    (lag,) = partition_lag(GroupView("g", True, "Stable", committed={A: 5}, starts={A: 90}, ends={A: 100}), NOW)
    assert lag.lag == 10


@given(st.integers(0, 2**60), st.integers(0, 2**60), st.integers(0, 2**60))
def test_lag_is_never_negative(committed: int, start: int, end: int) -> None:
    (lag,) = partition_lag(
        GroupView("g", True, "Stable", committed={A: committed}, starts={A: start}, ends={A: end}), NOW
    )
    assert lag.lag is not None
    assert lag.lag >= 0


def test_a_group_that_is_not_there_yet_is_no_error() -> None:
    plan = plan_group(group(), nobody(), [], NOW)
    assert said(plan)[:2] == ("True", "GroupNotFound"), "it is watched: a sync must not wait for its first consumer"
    assert plan.status.condition("Stalled") is None
    assert (plan.status.lag, plan.status.verdict) == (None, None)


def test_errors_become_reasons_and_what_was_known_stays() -> None:
    known = group().model_copy(update={"status": plan_group(group(), view(), [], NOW).status})
    plan = plan_group(known, Failure("Unreachable", "cannot reach the brokers"), [], NOW)
    assert said(plan) == ("False", "Unreachable", "cannot reach the brokers")
    assert plan.status.lag == 3


@pytest.mark.parametrize(
    ("lag", "status", "message"),
    [
        ({"maxRecords": 3}, "True", ""),
        ({"maxRecords": 2}, "False", "more than 2 records behind"),
        ({"maxTime": "2m"}, "True", ""),
        ({"maxTime": "1m"}, "False", "more than 1m behind"),
    ],
)
def test_thresholds_are_a_condition(lag: dict[str, Any], status: str, message: str) -> None:
    plan = plan_group(group({"lag": lag}), view(), [], NOW)
    assert said(plan)[0] == "True", "being behind does not make it unready"
    truth, _, words = said(plan, "LagWithinLimits")
    assert (truth, words) == (status, message)


def test_asking_again_yields_the_identical_status() -> None:
    status = plan_group(group(), view(record_times={}), [], NOW).status
    again = plan_group(
        group().model_copy(update={"status": status}), view(record_times={}), [], NOW + timedelta(hours=1)
    )
    assert again.status == status


def test_status_is_written_at_once_only_for_what_a_person_cares_about() -> None:
    before = plan_group(group(), view(), [], NOW).status
    grown = plan_group(group().model_copy(update={"status": before}), view(ends={A: 99, B: 10, C: 4}), [], NOW).status
    left = plan_group(group().model_copy(update={"status": before}), view(0), [], NOW).status
    assert not should_write(before, before, FIGURES, NOW, NOW + timedelta(hours=1))
    assert not should_write(before, grown, FIGURES, NOW, NOW + timedelta(seconds=9))
    assert should_write(before, grown, FIGURES, NOW, NOW + timedelta(seconds=10))
    assert should_write(before, left, FIGURES, NOW, NOW)


# Verdicts


def history(*steps: tuple[int, dict[TopicPartition, int], dict[TopicPartition, int]]) -> list[Sample]:
    """Members, committed offsets and ends, a minute apart."""
    samples: list[Sample] = []
    for minute, (members, committed, ends) in enumerate(steps):
        seen = view(members, committed=committed, ends=ends, starts=dict.fromkeys(ends, 0))
        samples = remember(samples, sample(seen, NOW + timedelta(minutes=minute)), 120_000)
    return samples


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([(1, {A: 5}, {A: 5})], Verdict.OK),
        ([(1, {A: 1}, {A: 9}), (1, {A: 5}, {A: 9}), (1, {A: 8}, {A: 9})], Verdict.OK),
        ([(1, {A: 1}, {A: 5}), (1, {A: 2}, {A: 9}), (1, {A: 3}, {A: 19})], Verdict.WARNING),
        ([(1, {A: 1}, {A: 5}), (1, {A: 1}, {A: 9}), (1, {A: 1}, {A: 9})], Verdict.STALLED),
        ([(1, {A: 1}, {A: 5}), (1, {A: 1}, {A: 9})], Verdict.OK),
        ([(0, {A: 1}, {A: 5})], Verdict.STOPPED),
        ([(0, {A: 5}, {A: 5})], Verdict.OK),
        ([(1, {A: 5}, {A: 5}), (1, {A: 2}, {A: 5})], Verdict.REWOUND),
        ([(1, {A: 5}, {A: 5}), (1, {A: 5}, {A: 9}), (1, {A: 5}, {A: 9}), (1, {A: 9}, {A: 9})], Verdict.OK),
    ],
)
def test_verdicts(steps: list[Any], expected: Verdict) -> None:
    found, why = verdict(history(*steps), 120_000)
    assert found is expected
    assert why or expected is Verdict.OK


def test_one_stuck_partition_among_others_is_named() -> None:
    steps = [(1, {A: i, B: 1}, {A: i, B: 9}) for i in range(1, 4)]
    assert verdict(history(*steps), 120_000) == (
        Verdict.STALLED,
        "committed offset of orders-1 did not move for 2m, though records wait",
    )


def test_a_reset_of_ours_is_not_a_rewind() -> None:
    before = sample(view(0, committed={A: 5}), NOW)
    after = sample(view(0, committed={A: 0}), NOW, reset=True)
    assert verdict([before, after], 120_000)[0] is Verdict.STOPPED


def test_a_history_is_bounded_and_covers_its_window() -> None:
    samples: list[Sample] = []
    for second in range(5000):
        samples = remember(samples, sample(view(), NOW + timedelta(seconds=second)), 300_000)
    assert len(samples) <= 64
    assert (samples[-1].time - samples[0].time).total_seconds() >= 300


# Resets


def reset(spec: dict[str, Any], seen: GroupView, **metadata: Any) -> GroupPlan:
    """The plan for a reset that is put into a resource which was looked at without one."""
    before = plan_group(group(**metadata), seen, [], NOW).status
    return plan_group(group({"reset": spec}, **metadata).model_copy(update={"status": before}), seen, [], NOW)


def after(plan: GroupPlan) -> ConsumerGroupStatus:
    """The status when the actions of a reset have worked."""
    assert plan.reset is not None
    return plan.status.model_copy(update=outcome(plan.reset))


@pytest.mark.parametrize(
    ("spec", "offsets"),
    [
        ({"to": "earliest"}, {A: 2, B: 0}),
        ({"to": "latest"}, {A: 8, B: 10}),
        ({"to": "offset", "offset": 4}, {A: 4, B: 4}),
        ({"to": "offset", "offset": 9}, {A: 8, B: 9}),
        ({"to": "shift", "shiftBy": -4}, {A: 2, B: 6}),
        ({"to": "shift", "shiftBy": 2}, {A: 7, B: 10}),
        ({"to": "time", "time": "2026-01-01T00:00:00Z"}, {A: 6, B: 10}),
        ({"to": "earliest", "topics": ["orders"]}, {A: 2, B: 0, C: 0}),
        ({"to": "offsets", "offsets": [{"topic": "orders", "partition": 2, "offset": 3}]}, {C: 3}),
    ],
)
def test_where_a_reset_goes(spec: dict[str, Any], offsets: dict[TopicPartition, int]) -> None:
    seen = view(0, starts={A: 2, B: 0, C: 0}, offsets_at_time={A: 6})
    assert reset(spec, seen).actions == (CommitOffsets("g", offsets),)


def test_a_reset_waits_until_the_group_is_empty() -> None:
    plan = reset({"to": "earliest"}, view(1))
    assert plan.actions == ()
    assert said(plan) == (
        "False",
        "GroupNotEmpty",
        "reset waits: 1 member reads (reader at 10.0.0.1); stop them, then it is done",
    )


def test_a_dry_run_changes_nothing_and_tells_what_it_would() -> None:
    plan = reset({"to": "earliest", "dryRun": True}, view(1))
    assert plan.actions == ()
    last = plan.status.last_reset
    assert last is not None
    assert last.dry_run
    assert [(o.partition, o.offset) for o in last.written] == [(0, 0), (1, 0)]
    assert [(o.partition, o.offset) for o in last.replaced] == [(0, 5), (1, 10)]


def test_a_reset_is_done_once_and_can_be_undone() -> None:
    plan = reset({"to": "earliest"}, view(0), generation=3)
    assert plan.reset is not None
    assert plan.reset.generation == 3
    done = after(plan)
    other = group({"reset": {"to": "earliest"}, "lag": {"maxRecords": 1}}, generation=4).model_copy(
        update={"status": done}
    )
    again = plan_group(other, view(0), [], NOW)
    assert again.actions == (), "a change of another field does not repeat it"
    assert said(again, "Reset")[:2] == ("True", "ResetDone")
    undo = {"to": "offsets", "offsets": [o.model_dump() for o in plan.reset.replaced]}
    back = plan_group(group({"reset": undo}, generation=5).model_copy(update={"status": done}), view(0), [], NOW)
    assert back.actions == (CommitOffsets("g", {A: 5, B: 10}),)


def test_after_a_dry_run_the_real_one_follows() -> None:
    tried = reset({"to": "earliest", "dryRun": True}, view(0)).status
    real = group({"reset": {"to": "earliest"}}, generation=2).model_copy(update={"status": tried})
    assert plan_group(real, view(0), [], NOW).actions != ()


def test_a_reset_that_is_taken_out_may_be_asked_for_again() -> None:
    plan = reset({"to": "earliest"}, view(0))
    done = after(plan)
    out = plan_group(group(generation=2).model_copy(update={"status": done}), view(0), [], NOW).status
    assert out.last_reset is not None
    assert out.last_reset.replaced, "what undoes it stays"
    again = group({"reset": {"to": "earliest"}}, generation=3).model_copy(update={"status": out})
    assert plan_group(again, view(0), [], NOW).actions != ()


@pytest.mark.parametrize("members", [0, 1])
def test_a_new_resource_with_a_reset_in_it_moves_no_group_that_has_offsets(members: int) -> None:
    new = group({"reset": {"to": "earliest"}})
    unreachable = plan_group(new, Failure("Unreachable", "not yet"), [], NOW).status
    for status in (None, unreachable):
        plan = plan_group(new.model_copy(update={"status": status}), view(members), [], NOW)
        assert plan.actions == ()
        assert said(plan)[0] == "True", "a namespace that is made anew from Git is healthy"
        assert "take it out of the spec and put it in again" in said(plan)[2]
        assert said(plan, "Reset")[:2] == ("False", "ResetPassedOver")
        emptied = plan_group(new.model_copy(update={"status": plan.status}), view(0), [], NOW)
        assert emptied.actions == (), "nor does it later"
        assert said(emptied, "Reset") == said(plan, "Reset")


def test_a_reset_that_was_passed_over_is_done_when_it_is_put_in_again_or_changed() -> None:
    status = plan_group(group({"reset": {"to": "earliest"}}), view(0), [], NOW).status
    out = plan_group(group().model_copy(update={"status": status}), view(0), [], NOW).status
    again = group({"reset": {"to": "earliest"}}).model_copy(update={"status": out})
    assert plan_group(again, view(0), [], NOW).actions == (CommitOffsets("g", {A: 0, B: 0}),)
    other = group({"reset": {"to": "latest"}}).model_copy(update={"status": status})
    assert plan_group(other, view(0), [], NOW).actions == (CommitOffsets("g", {A: 8, B: 10}),)


def test_a_new_resource_gives_a_group_without_offsets_its_first_position() -> None:
    new = group({"reset": {"to": "latest", "topics": ["orders"]}})
    plan = plan_group(new, view(0, committed={}), [], NOW)
    assert plan.actions == (CommitOffsets("g", {A: 8, B: 10, C: 4}),)
    done = new.model_copy(update={"status": after(plan)})
    assert plan_group(done, view(0), [], NOW).actions == ()
    partly = plan_group(new, view(0, committed={C: 1}), [], NOW)
    assert partly.actions == (), "one offset is enough: somebody reads"


def test_a_new_resource_may_ask_what_a_reset_would_do() -> None:
    plan = plan_group(group({"reset": {"to": "earliest", "dryRun": True}}), view(0), [], NOW)
    assert plan.status.last_reset is not None
    assert [o.offset for o in plan.status.last_reset.written] == [0, 0]


def test_a_reset_of_nothing_is_refused_in_words() -> None:
    plan = reset({"to": "earliest"}, nobody())
    assert said(plan)[1] == "ResetRefused"
    assert "name the topics" in said(plan)[2]
    unknown = {"to": "offsets", "offsets": [{"topic": "nope", "partition": 0, "offset": 3}]}
    assert "reset names nope-0, and there is no such partition" in said(reset(unknown, view(0)))[2]


def test_the_gateway_is_asked_for_what_a_reset_needs() -> None:
    assert query_of(group()) == ((), None)
    wanted = group({"reset": {"to": "time", "time": "2026-01-01T00:00:00Z", "topics": ["b", "a"]}})
    assert query_of(wanted) == (("a", "b"), NOW_MS)


# Deletion


def test_deletion_keeps_the_group_by_default() -> None:
    plan = plan_group(group(deletionTimestamp="2026-01-01T00:00:00Z"), view(), [], NOW)
    assert (plan.actions, plan.release) == ((), True)


def test_deletion_waits_for_members_and_then_deletes() -> None:
    going = group({"deletionPolicy": "Delete"}, deletionTimestamp="2026-01-01T00:00:00Z")
    busy = plan_group(going, view(1), [], NOW)
    assert (busy.actions, busy.release) == ((), False)
    assert "it has 1 member (reader at 10.0.0.1); stop them first" in said(busy)[2]
    assert plan_group(going, view(0), [], NOW).actions == (DeleteGroup("g"),)
    assert plan_group(going, nobody(), [], NOW).release


def test_of_two_resources_for_one_group_the_younger_one_gives_way() -> None:
    older = group(name="a", namespace="x", creationTimestamp="2026-01-01T00:00:00Z")
    younger = group({"groupId": "a"}, namespace="x", creationTimestamp="2026-01-02T00:00:00Z")
    rivals = rivals_of([younger, older])
    assert rivals == {("x", "g"): "consumergroup/a in namespace x"}
    plan = plan_group(younger, view(), [], NOW, rival=rivals["x", "g"])
    assert plan.actions == ()
    assert said(plan)[1] == "ResourceConflict"


def test_a_resource_that_gave_way_takes_no_group_with_it() -> None:
    going = group({"deletionPolicy": "Delete"}, deletionTimestamp="2026-01-01T00:00:00Z")
    staying = group({"groupId": "g"}, name="other")
    rival = rivals_of([going, staying])["", "g"]
    plan = plan_group(going, view(members=0), [], NOW, rival=rival)
    assert plan.actions == () and plan.release
    assert "belongs to consumergroup/other" in plan.parting_words

"""Where the canary's topic is placed, and that plans come to an end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadsheet_operator.reconcilers import canary_topic, spreading
from broadsheet_operator.reconcilers.canary_topic import CONFIGS, MIN_ISR, configs, plan
from broadsheet_operator.reconcilers.observed import (
    BrokerView,
    ConfigView,
    PartitionView,
    TopicPartition,
    TopicView,
)
from broadsheet_operator.reconcilers.topic_actions import (
    AddPartitions,
    AlterConfigs,
    CreateTopic,
    ElectLeaders,
    Reassign,
    TopicAction,
)

NAME = "__broadsheet_canary"


def brokers(*ids: int, racks: str = "") -> list[BrokerView]:
    return [BrokerView(id, rack=racks[n] if racks else None) for n, id in enumerate(ids)]


def topic(*replicas: tuple[int, ...], leaders: Sequence[int | None] = (), own: bool = True) -> TopicView:
    partitions = tuple(
        PartitionView(index, leaders[index] if leaders else r[0], r, r) for index, r in enumerate(replicas)
    )
    factor = min((len(r) for r in replicas), default=1)
    settings = {key: ConfigView(value, True) for key, value in configs(factor).items()} if own else {}
    return TopicView(NAME, "id", partitions, settings)


def applied(view: TopicView | None, actions: Sequence[TopicAction]) -> TopicView:
    """What Kafka makes of the actions."""
    for action in actions:
        match action:
            case CreateTopic():
                view = topic(*(action.assignments[n] for n in range(len(action.assignments))))
            case AddPartitions():
                assert view is not None
                old = [p.replicas for p in view.partitions]
                leaders = [p.leader for p in view.partitions] + [a[0] for a in action.assignments]
                view = replace(topic(*old, *action.assignments, leaders=leaders), configs=view.configs)
            case Reassign():
                assert view is not None
                moved = (
                    replace(p, replicas=r, isr=r) if (r := action.replicas.get(p.index)) else p for p in view.partitions
                )
                view = replace(view, partitions=tuple(moved))
            case ElectLeaders():
                assert view is not None
                elected = (
                    replace(p, leader=p.replicas[0]) if p.index in action.partitions else p for p in view.partitions
                )
                view = replace(view, partitions=tuple(elected))
            case AlterConfigs():
                assert view is not None
                changed = {key: ConfigView(value, True) for key, value in action.changes.items()}
                view = replace(view, configs={**view.configs, **changed})
    assert view is not None
    return view


def settled(view: TopicView | None, alive: Sequence[BrokerView]) -> TopicView:
    for _ in range(10):
        step = plan(NAME, view, alive)
        assert not step.refusal
        if not step.actions:
            assert view is not None
            return view
        view = applied(view, step.actions)
    raise AssertionError("the plan does not come to an end")


def leaders(view: TopicView) -> set[int | None]:
    return {p.leader for p in view.partitions}


def test_a_new_topic_has_a_partition_for_each_broker() -> None:
    (create,) = plan(NAME, None, brokers(0, 1, 2, 3)).actions
    assert isinstance(create, CreateTopic)
    assert create.assignments == {0: (0, 1, 2), 1: (1, 2, 3), 2: (2, 3, 0), 3: (3, 0, 1)}
    assert create.configs == {**CONFIGS, MIN_ISR: "2"}
    assert create.words() == "create with 4 partitions"


@pytest.mark.parametrize(("count", "min_isr"), [(1, "1"), (2, "1"), (3, "2"), (5, "2")])
def test_one_broker_may_always_stop(count: int, min_isr: str) -> None:
    (create,) = plan(NAME, None, brokers(*range(count))).actions
    assert isinstance(create, CreateTopic)
    assert create.configs[MIN_ISR] == min_isr


def test_replicas_are_in_different_racks() -> None:
    (create,) = plan(NAME, None, brokers(0, 1, 2, 3, 4, 5, racks="aabbcc")).actions
    assert isinstance(create, CreateTopic)
    for replicas in create.assignments.values():
        assert len({"aabbcc"[r] for r in replicas}) == 3


def test_a_broker_that_joins_gets_a_partition() -> None:
    view = settled(topic((0, 1, 2), (1, 2, 0), (2, 0, 1)), brokers(0, 1, 2, 3))
    assert leaders(view) == {0, 1, 2, 3}
    assert len(view.partitions) == 4


def test_a_broker_that_comes_back_gets_a_spare_partition_without_a_copy_where_it_can() -> None:
    step = plan(NAME, topic((0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 3, 1)), brokers(0, 1, 2, 3))
    assert step.actions == (Reassign(NAME, {3: (3, 0, 1)}),)
    assert not plan(NAME, topic((0, 1), (0, 2)), brokers(0, 1), may_move=False).actions, "it waits for its time"


def test_leaders_are_given_back() -> None:
    view = topic((0, 1, 2), (1, 2, 0), (2, 0, 1), leaders=[0, 2, 2])
    assert plan(NAME, view, brokers(0, 1, 2)).actions == (ElectLeaders(NAME, (1,)),)
    lagging = replace(
        view, partitions=(view.partitions[0], replace(view.partitions[1], isr=(2, 0)), view.partitions[2])
    )
    assert plan(NAME, lagging, brokers(0, 1, 2)).actions == ()
    assert plan(NAME, view, brokers(0, 2)).actions == (), "a broker that is away or leaves gets none"


def test_nothing_is_done_while_it_moves() -> None:
    view = topic((0, 1), (1, 0))
    moving = replace(view, partitions=(replace(view.partitions[0], moving=True, adding=(2,)), view.partitions[1]))
    assert plan(NAME, moving, brokers(0, 1, 2)).actions == ()


def test_a_topic_of_somebody_else_is_left_alone() -> None:
    step = plan(NAME, topic((0,), own=False), brokers(0, 1))
    assert step.actions == ()
    assert step.refusal.startswith(
        "the topic __broadsheet_canary exists and was not made for a canary; set spec.canary"
    )


def test_it_grows_with_the_cluster_and_min_isr_follows() -> None:
    view = settled(None, brokers(0))
    assert [p.replicas for p in view.partitions] == [(0,)]
    view = settled(view, brokers(0, 1, 2))
    assert leaders(view) == {0, 1, 2}
    assert {len(p.replicas) for p in view.partitions} == {3}
    assert view.configs[MIN_ISR].value == "2"


def test_a_drain_takes_what_it_needs_and_the_plan_does_not_take_it_back() -> None:
    """As with Kafka's own topics: the drain of brokers.replicas 3 to 2 gives a replica up."""
    view = settled(None, brokers(0, 1, 2))
    placed = [
        spreading.Placed(TopicPartition(NAME, p.index), p.replicas, p.replicas, internal=True) for p in view.partitions
    ]
    assert not spreading.refusal(placed, {2}, 2)
    staying = brokers(0, 1)
    assert not plan(NAME, view, staying, may_move=False).actions, "no partition is added for what leaves"
    moves = spreading.plan_drain(placed, {2}, brokers(0, 1, 2))
    drained = applied(view, [Reassign(NAME, {at.partition: r for at, r in moves.items()})])
    assert all(2 not in p.replicas for p in drained.partitions)
    after = settled(drained, staying)
    assert len(after.partitions) == 3
    assert all(2 not in p.replicas for p in after.partitions)
    assert leaders(after) == {0, 1}
    back = settled(after, brokers(0, 1, 2))
    assert leaders(back) == {0, 1, 2}
    assert len(back.partitions) == 3, "the spare partition is used again"


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6))
def test_however_the_cluster_grows_and_shrinks_each_broker_leads_in_the_end(sizes: list[int]) -> None:
    view: TopicView | None = None
    for size in sizes:
        if view is not None and any(r >= size for p in view.partitions for r in p.replicas):
            placed = [
                spreading.Placed(TopicPartition(NAME, p.index), p.replicas, p.replicas, internal=True)
                for p in view.partitions
            ]
            leaving = set(range(size, 6))
            moves = spreading.plan_drain(placed, leaving, brokers(*range(6)))
            view = applied(view, [Reassign(NAME, {at.partition: r for at, r in moves.items()})])
            view = replace(view, partitions=tuple(replace(p, leader=p.replicas[0]) for p in view.partitions))
        view = settled(view, brokers(*range(size)))
        assert leaders(view) == set(range(size))
        assert {len(p.replicas) for p in view.partitions} == {min(3, size)}
    assert canary_topic.is_ours(view)  # type: ignore[arg-type]

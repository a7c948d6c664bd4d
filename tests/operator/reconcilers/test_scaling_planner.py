"""Growing, draining, balancing: whole courses of plans on plain values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest

from broadsheet_operator.reconcilers import spreading
from broadsheet_operator.reconcilers.observed import BrokerView, TopicPartition
from broadsheet_operator.reconcilers.scaling import Observed, ScalingStep, draining_of, held, next_step
from broadsheet_operator.reconcilers.spreading import Placed, plan_balance, plan_drain, plan_internal


def name(index: int, topic: str = "orders") -> TopicPartition:
    return TopicPartition(topic, index)


def placed(index: int, *replicas: int, topic: str = "orders", internal: bool = False) -> Placed:
    return Placed(name(index, topic), replicas, replicas, internal=internal)


def brokers(count: int, zones: int = 0, first: int = 0) -> tuple[BrokerView, ...]:
    return tuple(BrokerView(id, rack=f"zone-{id % zones}" if zones else None) for id in range(first, count))


def done(partitions: tuple[Placed, ...], moves: Mapping[TopicPartition, tuple[int, ...]]) -> tuple[Placed, ...]:
    return tuple(replace(p, replicas=moves.get(p.name, p.replicas)) for p in partitions)


def seen(
    partitions: tuple[Placed, ...] = (),
    running: int = 3,
    draining: int | None = None,
    voters: frozenset[int] = frozenset({0, 1, 2}),
    known: tuple[BrokerView, ...] | None = None,
    pods: int | None = None,
) -> Observed:
    running_pods = frozenset(range(running if pods is None else pods))
    return Observed(running, draining, running_pods, brokers(running) if known is None else known, voters, partitions)


# -- draining ----------------------------------------------------------------------------------------------------------


def test_what_leaves_is_spread_over_those_that_stay() -> None:
    partitions = tuple(placed(n, n % 4) for n in range(40))
    while moves := plan_drain(partitions, {3}, brokers(4), most=3):
        assert len(moves) <= 3
        partitions = done(partitions, moves)
    load = Counter(r for p in partitions for r in p.replicas)
    assert load.keys() == {0, 1, 2}
    assert max(load.values()) - min(load.values()) <= 1


def test_a_replica_takes_the_place_of_the_one_that_leaves_in_a_rack_of_its_own() -> None:
    known = (BrokerView(0, rack="a"), BrokerView(1, rack="a"), BrokerView(2, rack="b"), BrokerView(3, rack="b"))
    moves = plan_drain((placed(0, 3, 0), placed(1, 1, 3)), {3}, known)
    assert moves == {name(0): (2, 0), name(1): (1, 2)}


def test_partitions_on_the_move_are_waited_for() -> None:
    moving = replace(placed(0, 1, 3), adding=(1,), removing=(3,))
    assert plan_drain((moving,), {3}, brokers(4)) == {}
    many = tuple(placed(n, 3) for n in range(5))
    assert len(plan_drain((moving, *many), {3}, brokers(4), most=3)) == 2


def test_kafkas_own_topics_shrink_with_the_cluster() -> None:
    offsets = placed(0, 0, 1, 2, topic="__consumer_offsets", internal=True)
    assert plan_drain((offsets,), {1, 2}, brokers(3)) == {offsets.name: (0,)}
    assert plan_drain((placed(0, 0, 1, 2),), {1, 2}, brokers(3)) == {}, "others are refused before"


def test_a_fenced_broker_gets_nothing() -> None:
    known = (BrokerView(0), BrokerView(1, fenced=True), BrokerView(2))
    assert plan_drain((placed(0, 2), placed(1, 2)), {2}, known) == {name(0): (0,), name(1): (0,)}


# -- balancing and growing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "start", "count"), [(1, 1, 3), (2, 2, 3), (3, 3, 5), (2, 3, 4)])
def test_balancing_ends_with_even_brokers_and_moves_no_more_than_it_must(factor: int, start: int, count: int) -> None:
    partitions = tuple(
        placed(n % 10, *((n + k) % start for k in range(factor)), topic=f"t{n // 10}") for n in range(60)
    )
    before = Counter(r for p in partitions for r in p.replicas)
    moved = 0
    while moves := plan_balance(partitions, brokers(count), most=7):
        moved += len(moves)
        partitions = done(partitions, moves)
        assert all(len(set(p.replicas)) == factor for p in partitions)
    load = Counter(r for p in partitions for r in p.replicas)
    assert max(load.values()) - min(load[b] for b in range(count)) <= 1
    assert moved == sum(load[b] - before[b] for b in range(count) if load[b] > before[b])
    for topic in {p.name.topic for p in partitions}:
        of_topic = Counter(r for p in partitions if p.name.topic == topic for r in p.replicas)
        assert max(of_topic.values()) - min(of_topic[b] for b in range(count)) <= 3


def test_even_brokers_are_left_alone() -> None:
    assert plan_balance(tuple(placed(n, n % 3) for n in range(10)), brokers(3)) == {}


def test_balancing_keeps_racks_apart() -> None:
    known = (BrokerView(0, rack="a"), BrokerView(1, rack="b"), BrokerView(2, rack="b"))
    partitions = tuple(placed(n, 0, 1) for n in range(6))
    while moves := plan_balance(partitions, known):
        partitions = done(partitions, moves)
    assert all(len({known[r].rack for r in p.replicas}) == 2 for p in partitions)
    assert Counter(r for p in partitions for r in p.replicas) == {0: 6, 1: 3, 2: 3}


def test_kafkas_own_topics_get_more_replicas_in_a_larger_cluster() -> None:
    offsets = tuple(placed(n, 0, topic="__consumer_offsets", internal=True) for n in range(6))
    moves = plan_internal((*offsets, placed(0, 0)), brokers(3, zones=3))
    assert moves.keys() == {p.name for p in offsets}
    assert all(replicas[0] == 0 and sorted(replicas) == [0, 1, 2] for replicas in moves.values())
    assert plan_internal(done(offsets, moves), brokers(3)) == {}


# -- the course of things ----------------------------------------------------------------------------------------------


def test_growing_looks_after_kafkas_own_topics_and_nothing_else() -> None:
    offsets = placed(0, 0, topic="__consumer_offsets", internal=True)
    step = next_step(3, seen((offsets, placed(0, 0))), rebalance=False)
    assert step.moves == {offsets.name: (0, 1, 2)}
    assert step.words == "1 partitions of Kafka's own topics get 3 replicas"
    waiting = next_step(3, seen((offsets,), known=brokers(1)), rebalance=False)
    assert waiting == ScalingStep(), "the new brokers are not there yet"


def test_shrinking_drains_takes_the_votes_stops_and_forgets() -> None:
    partitions = (placed(0, 2), placed(1, 0))
    step = next_step(1, seen(partitions), rebalance=False)
    assert step.moves == {name(0): (0,)}
    assert step.words == "draining brokers 1, 2: 1 replica left to move"
    assert step.draining == 1
    drained = done(partitions, step.moves)
    step = next_step(1, seen(drained, draining=1), rebalance=False)
    assert (step.shrink, step.voters, step.words) == (
        False, (0,), "brokers 1, 2: drained, and still in the metadata quorum",
    )  # fmt: skip
    step = next_step(1, seen(drained, draining=1, voters=frozenset({0})), rebalance=False)
    assert step.shrink
    after = seen(drained, running=1, draining=1, voters=frozenset({0}), known=brokers(3), pods=2)
    step = next_step(1, after, rebalance=False)
    assert step.words == "waiting until the pods of brokers 1, 2 are gone"
    step = next_step(1, replace(after, pods=frozenset({0})), rebalance=False)
    assert step.forget == (1, 2)
    step = next_step(1, replace(after, pods=frozenset({0}), brokers=brokers(1)), rebalance=False)
    assert step.draining is None


def test_what_came_to_a_broker_at_the_last_moment_is_moved_before_it_is_forgotten() -> None:
    late = seen((placed(0, 0, 2),), running=2, draining=2, voters=frozenset({0}), known=brokers(3), pods=2)
    step = next_step(2, late, rebalance=False)
    assert step.moves == {name(0): (0, 1)}
    assert step.forget == ()


def test_a_drained_broker_is_forgotten_although_no_metadata_names_it_once_it_has_stopped() -> None:
    stopped = replace(seen(draining=3), followers=frozenset({3}))
    assert next_step(3, stopped, rebalance=False).forget == (3,)
    assert next_step(3, replace(stopped, draining=None), rebalance=False) == ScalingStep(), "once is enough"


def test_more_replicas_than_brokers_that_stay_are_refused_by_name() -> None:
    partitions = (placed(0, 0, 1, 2), placed(0, 0, 1, 2, topic="people"), placed(0, 0, topic="small"))
    step = next_step(2, seen(partitions), rebalance=False)
    assert step.refusal == (
        "orders has replication factor 3 and 1 more topics, and 2 brokers would remain: "
        "lower its replication factor first, or set brokers.replicas back"
    )
    assert not step.moves


def test_setting_the_number_back_takes_moves_back() -> None:
    away = replace(placed(0, 0, 2), adding=(0,), removing=(2,))
    other = replace(placed(1, 0, 1), adding=(1,), removing=(0,))
    step = next_step(3, seen((away, other), draining=2), rebalance=False)
    assert step.cancel == (name(0),)
    assert step.draining == 2
    step = next_step(3, seen((placed(0, 2), other), draining=2), rebalance=False)
    assert (step.cancel, step.draining) == ((), None)


def test_a_rebalance_ends() -> None:
    partitions = tuple(placed(n, 0) for n in range(6))
    step = next_step(3, seen(partitions), rebalance=True)
    assert step.words == "rebalancing: 4 replicas left to move"
    step = next_step(3, seen(done(partitions, step.moves)), rebalance=True)
    assert step == ScalingStep(rebalanced=True)
    assert next_step(3, seen(partitions), rebalance=False) == ScalingStep()


@pytest.mark.parametrize(
    ("annotations", "found"), [(None, None), ({}, None), ({"broadsheet.io/draining": "2"}, 2), ({"a": "1"}, None)]
)
def test_a_drain_is_remembered(annotations: dict[str, str] | None, found: int | None) -> None:
    assert draining_of(annotations) == found


def test_moves_at_once_are_few() -> None:
    assert len(plan_drain(tuple(placed(n, 1) for n in range(200)), {1}, brokers(2))) == spreading.MOVES_AT_ONCE


def test_moves_wait_for_a_maintenance_window() -> None:
    step = next_step(1, seen((placed(0, 2), placed(1, 0))), rebalance=False)
    waiting = held(step, "waits for the maintenance window that opens soon")
    assert waiting.moves == {}
    assert waiting.words == (
        "draining brokers 1, 2: 1 replica left to move; waits for the maintenance window that opens soon"
    )
    shrinking = ScalingStep("drained", shrink=True, draining=1)
    assert held(shrinking, "waits") == shrinking, "brokers that keep nothing may stop at any time"

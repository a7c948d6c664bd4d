"""Replicas that come and go with a replication factor."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from broadsheet_operator.reconcilers.observed import BrokerView, PartitionView
from broadsheet_operator.reconcilers.placement import plan_replicas

SIX = tuple(BrokerView(i, rack=f"zone-{i % 3}") for i in range(6))


def test_growing_spreads_over_racks_first() -> None:
    partitions = [PartitionView(i, i % 6, (i % 6,), (i % 6,)) for i in range(6)]
    for replicas in plan_replicas(partitions, 3, SIX).values():
        assert len({f"zone-{r % 3}" for r in replicas}) == 3


def test_growing_keeps_the_preferred_leader_and_balances_brokers() -> None:
    partitions = [PartitionView(i, i % 6, (i % 6,), (i % 6,)) for i in range(12)]
    moves = plan_replicas(partitions, 2, SIX)
    assert all(moves[p.index][0] == p.replicas[0] for p in partitions)
    assert set(Counter(r for m in moves.values() for r in m).values()) == {4}


def test_shrinking_takes_the_dead_and_the_lagging_first_and_never_the_leader() -> None:
    alive = (BrokerView(0), BrokerView(1), BrokerView(2), BrokerView(3, fenced=True))
    dead = plan_replicas([PartitionView(0, 0, (3, 0, 1), (0, 1))], 2, alive)
    assert dead == {0: (0, 1)}
    lagging = plan_replicas([PartitionView(0, 2, (0, 1, 2), (0, 2))], 2, alive)
    assert lagging == {0: (0, 2)}
    leader = plan_replicas([PartitionView(0, 2, (0, 1, 2), (0, 1, 2))], 1, alive)
    assert leader == {0: (2,)}


def test_what_is_right_or_moving_already_is_left_alone() -> None:
    partitions = [PartitionView(0, 0, (0, 1), (0, 1)), PartitionView(1, 0, (0,), (0,), moving=True)]
    assert plan_replicas(partitions, 2, SIX) == {}
    assert plan_replicas(partitions, 7, SIX) == {}


@given(
    st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True), min_size=1, max_size=20),
    st.integers(1, 6),
)
def test_every_partition_gets_the_right_number_of_different_brokers(lists: list[list[int]], factor: int) -> None:
    partitions = [PartitionView(i, r[0], tuple(r), tuple(r)) for i, r in enumerate(lists)]
    for index, replicas in plan_replicas(partitions, factor, SIX).items():
        assert len(replicas) == len(set(replicas)) == factor
        assert lists[index][0] in replicas

"""The limit of a drain or a rebalance: set before, kept while it lasts, taken away after; plain values."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broadsheet_operator.reconcilers.limits import LIMITED, NOTHING, Limits, LimitStep, limits_of, next_step
from broadsheet_operator.reconcilers.observed import TopicPartition
from broadsheet_operator.reconcilers.spreading import Placed
from broadsheet_operator.reconcilers.topic_actions import Throttle, Unthrottle

MIB = 2**20


def placed(index: int, *replicas: int, topic: str = "orders") -> Placed:
    return Placed(TopicPartition(topic, index), replicas, replicas)


def moving(index: int, *replicas: int, adding: int, removing: int, topic: str = "orders") -> Placed:
    name = TopicPartition(topic, index)
    return Placed(name, (*replicas, adding), replicas, adding=(adding,), removing=(removing,))


AT_REST = placed(0, 1, 3)
UNDER_WAY = moving(0, 1, 3, adding=2, removing=3)
MOVE = {AT_REST.name: (1, 2)}
OURS = Limits(50 * MIB, frozenset({"orders"}))


def test_it_is_remembered_and_set_before_replicas_move() -> None:
    step = next_step([AT_REST, placed(0, 0, topic="people")], MOVE, NOTHING, 50 * MIB)
    assert step.before == Limits(0, frozenset({"orders"})), "no rate is in force yet"
    assert step.throttle == (Throttle("orders", ((0, 1), (0, 3)), ((0, 2),), 50 * MIB),)
    assert step.after == OURS
    assert step.release == ()
    assert step.words == "at most 50Mi/s per broker"


def test_it_is_left_alone_while_replicas_move() -> None:
    assert next_step([UNDER_WAY], {}, OURS, 50 * MIB) == LimitStep(OURS, after=OURS, words="at most 50Mi/s per broker")


def test_the_next_moves_of_a_topic_name_what_moves_already_too() -> None:
    more = placed(1, 3, 1)
    step = next_step([UNDER_WAY, more], {more.name: (2, 1)}, OURS, 50 * MIB)
    assert step.throttle == (Throttle("orders", ((0, 1), (0, 3), (1, 1), (1, 3)), ((0, 2), (1, 2)), 50 * MIB),)


def test_it_is_lifted_from_each_topic_when_nothing_of_it_moves() -> None:
    known = Limits(50 * MIB, frozenset({"orders", "people", "deleted"}))
    step = next_step([placed(0, 1, 2), moving(0, 3, adding=0, removing=3, topic="people")], {}, known, 50 * MIB)
    assert step.release == (Unthrottle("orders"),)
    assert step.after == Limits(50 * MIB, frozenset({"people"})), "of a topic that was deleted nothing is to be lifted"
    assert next_step([placed(0, 1, 2)], {}, OURS, 50 * MIB).after == NOTHING


def test_another_rate_is_set_while_replicas_move() -> None:
    step = next_step([UNDER_WAY], {}, OURS, 200 * MIB)
    assert [t.rate for t in step.throttle] == [200 * MIB]
    assert (step.before, step.after) == (OURS, replace(OURS, rate=200 * MIB))
    interrupted = next_step([UNDER_WAY], {}, step.before, 200 * MIB)
    assert interrupted.throttle == step.throttle, "whoever comes after an operator that fell sets it again"


def test_unlimited_sets_nothing_and_lifts_what_was_set() -> None:
    assert next_step([AT_REST], MOVE, NOTHING, None) == LimitStep()
    step = next_step([UNDER_WAY], {}, OURS, None)
    assert (step.release, step.after, step.throttle) == ((Unthrottle("orders"),), NOTHING, ())


def test_what_somebody_else_moves_or_takes_away_is_not_limited() -> None:
    assert next_step([UNDER_WAY], {}, NOTHING, 50 * MIB) == LimitStep()
    fewer = placed(0, 0, 1, 2, topic="__consumer_offsets")
    assert next_step([fewer], {fewer.name: (0,)}, NOTHING, 50 * MIB) == LimitStep(), "nothing is copied"


def test_a_replica_that_is_not_in_sync_is_no_source() -> None:
    behind = replace(AT_REST, isr=(1,))
    assert next_step([behind], MOVE, NOTHING, MIB).throttle == (Throttle("orders", ((0, 1),), ((0, 2),), MIB),)


@pytest.mark.parametrize("known", [NOTHING, OURS, Limits(0, frozenset({"a", "b"}))])
def test_an_annotation_remembers_it(known: Limits) -> None:
    text = known.text()
    assert limits_of({LIMITED: text} if text else {}) == known


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"rate": "fast", "topics": []}', '{"rate": 1}', "null"])
def test_an_annotation_that_nobody_can_read_is_none(text: str) -> None:
    assert limits_of({LIMITED: text}) == NOTHING

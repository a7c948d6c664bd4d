"""Replication factors that change: limited, held back, cancelled, gone on with, with a cluster in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadsheet_operator.api.cluster import ClusterSpec
from broadsheet_operator.api.topic import Topic, TopicStatus
from broadsheet_operator.reconcilers import topic as planner
from broadsheet_operator.reconcilers.moves import DEFAULT_RATE, Terms, terms_of
from broadsheet_operator.reconcilers.observed import (
    BrokerView,
    ClusterView,
    ConfigView,
    Failure,
    PartitionView,
    TopicView,
)
from broadsheet_operator.reconcilers.topic import NO_TERMS, TopicPlan, TopicSeen
from broadsheet_operator.reconcilers.topic_actions import (
    FOLLOWER_THROTTLED,
    LEADER_THROTTLED,
    AlterConfigs,
    Reassign,
    Throttle,
    Unthrottle,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MIB = 2**20


def plan_topic(
    desired: Topic,
    topic: TopicView | Failure | None,
    cluster: ClusterView | Failure,
    now: datetime,
    *,
    terms: Terms = NO_TERMS,
    **more: Any,
) -> TopicPlan:
    return planner.plan_topic(desired, TopicSeen(topic=topic, cluster=cluster, **more), now, terms)


def topic(factor: int | None, **more: Any) -> Topic:
    spec = {"cluster": "q", **({"replicationFactor": factor} if factor else {}), **more}
    return Topic.model_validate({"metadata": {"name": "orders", "generation": 1}, "spec": spec})


class Cluster:
    """A topic on some brokers, and the Topic resource with the status that was written last."""

    def __init__(self, partitions: int = 3, replicas: tuple[int, ...] = (0,), brokers: int = 3) -> None:
        self.view = ClusterView("id", 0, tuple(BrokerView(i, rack=f"zone-{i % 3}") for i in range(brokers)))
        self.partitions = [PartitionView(i, replicas[0], replicas, replicas) for i in range(partitions)]
        self.configs: dict[str, str] = {}
        self.rates: dict[int, tuple[int | None, int | None]] = {}
        self.sizes: dict[tuple[int, int], int] = {(i, r): 10 * MIB for i in range(partitions) for r in replicas}
        self.status: TopicStatus | None = None
        self.done: list[str] = []
        self.limited_when_moved = True
        self.terms = Terms()
        self.status = self.look(topic(None)).status

    def observed(self) -> TopicView:
        partitions = tuple(
            replace(p, sizes={r: size for (i, r), size in self.sizes.items() if i == p.index}) for p in self.partitions
        )
        configs = {key: ConfigView(value, True) for key, value in self.configs.items()}
        nodes = [b.id for b in self.view.brokers]
        rates = {b: self.rates.get(b, (None, None)) for b in nodes} if self.configs else {}
        return TopicView("orders", "id-1", partitions, configs, rates=rates)

    def look(self, desired: Topic, now: datetime = NOW) -> TopicPlan:
        desired = desired.model_copy(update={"status": self.status})
        return plan_topic(desired, self.observed(), self.view, now, terms=self.terms, just_created=not self.status)

    def round(self, desired: Topic, *, crash: bool = False, now: datetime = NOW) -> TopicStatus:
        """Look, act, look again and write the status; an operator that crashes writes none."""
        for action in self.look(desired, now).actions:
            self.done.append(type(action).__name__)
            self._apply(action)
        status = self.look(desired, now).status
        if not crash:
            self.status = status
        return status

    def begin(self, desired: Topic) -> TopicStatus:
        """Rounds until replicas move."""
        for _ in range(3):
            status = self.round(desired)
        assert any(p.moving for p in self.partitions)
        return status

    def _apply(self, action: Any) -> None:
        if isinstance(action, Throttle):
            self.configs |= action.configs()
            self.rates |= dict.fromkeys(action.brokers, (action.rate, action.rate))
        elif isinstance(action, Unthrottle):
            self.configs.clear()
            if not any(p.moving for p in self.partitions):
                self.rates.clear()
        elif isinstance(action, Reassign):
            self._reassign(action.replicas)

    def _reassign(self, replicas: Mapping[int, tuple[int, ...] | None]) -> None:
        for index, new in replicas.items():
            p = self.partitions[index]
            if new is None:
                self.partitions[index] = replace(p, replicas=p.settled, moving=False, adding=(), removing=())
                continue
            adding = tuple(r for r in new if r not in p.settled)
            removing = tuple(r for r in p.settled if r not in new)
            self.limited_when_moved &= not adding or bool(self.configs)
            union = (*new, *removing)
            self.partitions[index] = replace(p, replicas=union, moving=True, adding=adding, removing=removing)

    def copy(self, index: int, size: int) -> None:
        for replica in self.partitions[index].adding:
            self.sizes[index, replica] = size

    def finish(self, *indexes: int) -> None:
        for index in indexes or range(len(self.partitions)):
            p = self.partitions[index]
            if p.moving:
                new = tuple(r for r in p.replicas if r not in p.removing)
                self.copy(index, 10 * MIB)
                self.partitions[index] = PartitionView(index, new[0], new, new)

    def factors(self) -> list[int]:
        return [len(p.settled) for p in self.partitions]


def ready(status: TopicStatus) -> tuple[str, str, str]:
    condition = status.condition("Ready")
    assert condition is not None
    return condition.status, condition.reason, condition.message


def test_factor_grows_under_a_limit_that_is_there_before_and_gone_after() -> None:
    kafka, wanted = Cluster(), topic(3)
    status = kafka.round(wanted)
    assert (kafka.done, status.reassignment is not None) == ([], True), "first it writes down that the limit is its own"
    assert ready(status) == ("False", "Updating", "give 3 partitions 3 replicas each")
    assert kafka.round(wanted) == status
    assert kafka.configs[LEADER_THROTTLED] == "0:0,1:0,2:0"
    assert kafka.configs[FOLLOWER_THROTTLED] == "0:1,0:2,1:1,1:2,2:1,2:2"
    assert kafka.rates == dict.fromkeys(range(3), (DEFAULT_RATE, DEFAULT_RATE))
    status = kafka.round(wanted)
    assert ready(status)[:2] == ("False", "Reassigning")
    assert (status.replication_factor, status.in_sync) == (1, "3/3"), "what is being made does not count yet"
    kafka.finish()
    status = kafka.round(wanted)
    assert kafka.done == ["Throttle", "Reassign", "Unthrottle"]
    assert (kafka.configs, kafka.rates, kafka.factors()) == ({}, {}, [3, 3, 3])
    assert ready(status) == ("True", "Ready", "The topic is as declared")
    assert (status.reassignment, status.replication_factor, status.in_sync) == (None, 3, "9/9")
    assert kafka.round(wanted) == status
    assert len(kafka.done) == 3, "asked again, it does nothing"


def test_progress_is_told_in_partitions_bytes_and_percent() -> None:
    kafka, wanted = Cluster(), topic(2)
    told = kafka.begin(wanted).reassignment
    assert told is not None
    assert (told.partitions, told.percent, told.remaining, told.throttle) == (3, 0, "30Mi", "50Mi")
    kafka.finish(0)
    kafka.copy(1, 5 * MIB)
    status = kafka.round(wanted)
    told = status.reassignment
    assert told is not None
    assert told.message == (
        "2 of 3 partitions are moving; 15Mi of 30Mi are still to be copied (50% done); at most 50Mi/s per broker"
    )
    assert ready(status)[2] == "replicas are moving, 50% copied"


def test_progress_without_sizes_counts_partitions() -> None:
    kafka, wanted = Cluster(), topic(2)
    kafka.sizes.clear()
    status = kafka.begin(wanted)
    assert ready(status)[2] == "replicas of 3 partitions are moving"
    assert status.reassignment is not None
    assert status.reassignment.percent is None


def test_broker_that_went_away_while_it_was_copied_to_is_named() -> None:
    kafka, wanted = Cluster(brokers=2), topic(2)
    kafka.begin(wanted)
    kafka.view = replace(kafka.view, brokers=(BrokerView(0),))
    kafka.terms = Terms(brokers=2)
    status = kafka.round(wanted)
    assert status.reassignment is not None
    assert "waiting for broker 1, which is away" in status.reassignment.message
    assert status.condition("Stalled") is None


def test_factor_shrinks_without_a_limit_and_keeps_the_leader() -> None:
    kafka, wanted = Cluster(replicas=(0, 1, 2)), topic(1)
    status = kafka.round(wanted)
    assert kafka.done == ["Reassign"]
    assert ready(status)[:2] == ("False", "Reassigning")
    kafka.finish()
    assert ready(kafka.round(wanted))[0] == "True"
    assert [p.replicas for p in kafka.partitions] == [(0,)] * 3
    assert kafka.done == ["Reassign"]


def test_unlimited_copying_sets_no_limit() -> None:
    kafka, wanted = Cluster(), topic(3)
    kafka.terms = Terms(rate=None)
    kafka.round(wanted)
    kafka.finish()
    assert ready(kafka.round(wanted))[0] == "True"
    assert (kafka.done, kafka.configs, kafka.rates) == (["Reassign"], {}, {})


def test_rate_that_changes_meanwhile_is_set_anew() -> None:
    kafka, wanted = Cluster(), topic(3)
    kafka.begin(wanted)
    kafka.terms = Terms(rate=MIB)
    status = kafka.round(wanted)
    assert kafka.rates[0] == (MIB, MIB)
    assert status.reassignment is not None
    assert status.reassignment.throttle == "1Mi"
    kafka.terms = Terms(rate=None)
    status = kafka.round(wanted)
    assert kafka.rates[0] == (2**63 - 1, 2**63 - 1), "from now on without a limit, while it moves"
    assert status.reassignment is not None
    assert "at most" not in status.reassignment.message
    kafka.finish()
    kafka.round(wanted)
    assert (kafka.configs, kafka.rates) == ({}, {})


def test_editing_back_ends_the_moves_and_what_was_finished_shrinks_again() -> None:
    kafka, wanted = Cluster(), topic(3)
    kafka.begin(wanted)
    kafka.finish(0)
    kafka.round(wanted)
    back = topic(1)
    for _ in range(3):
        kafka.round(back)
        kafka.finish()
    status = kafka.round(back)
    assert kafka.factors() == [1, 1, 1]
    assert (kafka.configs, kafka.rates, status.reassignment) == ({}, {}, None)
    assert ready(status)[0] == "True"


def test_third_thought_redirects_moves_that_are_going_on() -> None:
    kafka = Cluster()
    kafka.begin(topic(3))
    for _ in range(2):
        kafka.round(topic(2))
    assert [len(p.adding) for p in kafka.partitions] == [1, 1, 1]
    kafka.finish()
    assert ready(kafka.round(topic(2)))[0] == "True"
    assert kafka.factors() == [2, 2, 2]


def test_closed_window_holds_replicas_back_and_nothing_else() -> None:
    kafka = Cluster()
    words = "waits for the maintenance window that opens 2026-01-03 02:00 Europe/Berlin"
    kafka.terms = Terms(hold=words)
    plan = kafka.look(topic(3, config={"segment.bytes": 1048576}))
    assert plan.actions == (AlterConfigs("orders", {"segment.bytes": "1048576"}, ()),)
    status = kafka.round(topic(3))
    expected = f"give 3 partitions 3 replicas each: {words}"
    assert ready(status) == ("False", "WaitingForMaintenanceWindow", expected)
    assert status.condition("Stalled") is None
    kafka.terms = Terms()
    kafka.begin(topic(3))
    assert kafka.done == ["Throttle", "Reassign"]


def test_window_that_closes_lets_what_moves_finish_and_lets_it_be_cancelled() -> None:
    kafka = Cluster()
    kafka.begin(topic(3))
    kafka.terms = Terms(hold="waits")
    assert ready(kafka.round(topic(3)))[1] == "Reassigning"
    kafka.finish(0)
    kafka.round(topic(1))
    assert [p.moving for p in kafka.partitions] == [False, False, False]
    status = kafka.round(topic(1))
    assert kafka.factors() == [3, 1, 1], "what is finished shrinks in a window again"
    assert ready(status) == ("False", "WaitingForMaintenanceWindow", "give 1 partition 1 replica each: waits")
    assert kafka.configs == {}


def test_window_that_closes_between_limit_and_move_takes_the_limit_away() -> None:
    kafka = Cluster()
    kafka.round(topic(3))
    kafka.round(topic(3))
    assert kafka.configs
    kafka.terms = Terms(hold="waits")
    status = kafka.round(topic(3))
    assert (kafka.configs, kafka.rates, status.reassignment) == ({}, {}, None)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 3), st.booleans(), st.booleans()), min_size=1, max_size=12))
def test_operator_that_crashes_anywhere_leaves_no_limit_behind(steps: list[tuple[int, bool, bool]]) -> None:
    kafka = Cluster()
    for factor, crash, finish in steps:
        kafka.round(topic(factor), crash=crash)
        if finish:
            kafka.finish()
    wanted = topic(steps[-1][0])
    for _ in range(8):
        status = kafka.round(wanted)
        kafka.finish()
    assert kafka.limited_when_moved
    assert (kafka.configs, kafka.rates) == ({}, {})
    assert kafka.factors() == [steps[-1][0]] * 3
    assert ready(status)[0] == "True"
    assert status.reassignment is None


def test_moves_of_others_are_left_alone() -> None:
    kafka = Cluster()
    swapped = replace(kafka.partitions[0], replicas=(1, 0), moving=True, adding=(1,), removing=(0,))
    kafka.partitions[0] = swapped
    for wanted in (topic(1), topic(None)):
        status = kafka.round(wanted)
        assert kafka.done == []
        assert ready(status)[1] == "Reassigning"


def test_limits_of_others_are_left_alone() -> None:
    kafka = Cluster()
    kafka.configs[LEADER_THROTTLED] = "*"
    status = kafka.round(topic(1))
    assert (kafka.done, kafka.configs) == ([], {LEADER_THROTTLED: "*"})
    assert status.configs == {}, "nor are they shown among the settings"


def test_more_replicas_than_brokers_are_refused_in_words() -> None:
    kafka = Cluster(brokers=2)
    status = kafka.round(topic(3))
    assert ready(status) == (
        "False",
        "NotSupported",
        "replicationFactor 3 needs as many brokers; the cluster has 2 brokers: 0, 1",
    )
    assert status.condition("Stalled") is not None


def test_brokers_that_are_away_only_are_waited_for() -> None:
    kafka = Cluster(brokers=2)
    kafka.terms = Terms(brokers=3)
    status = kafka.round(topic(3))
    assert ready(status)[1] == "BrokerDown"
    assert status.condition("Stalled") is None
    new = plan_topic(topic(3), None, kafka.view, NOW, terms=kafka.terms)
    assert (new.actions, ready(new.status)[1]) == ((), "BrokerDown")


def test_adopting_a_topic_with_another_factor_needs_to_be_allowed() -> None:
    kafka = Cluster()
    kafka.status = None
    desired = topic(3)
    assert plan_topic(desired, kafka.observed(), kafka.view, NOW).actions == ()
    held = plan_topic(desired, kafka.observed(), kafka.view, NOW, terms=Terms(hold="waits"))
    assert ready(held.status)[1] == "TopicExists"


@pytest.mark.parametrize(
    ("spec", "terms"),
    [
        ({"brokers": {"replicas": 3}}, Terms("", DEFAULT_RATE, 3)),
        ({"brokers": {}, "reassignment": {"throttle": "unlimited"}}, Terms("", None, 1)),
        ({"external": {"bootstrapServers": ["a:1"]}, "reassignment": {"throttle": "1M"}}, Terms("", 1_000_000, 0)),
        (
            {"brokers": {}, "maintenanceWindows": [{"schedule": "0 2 * * *", "duration": "1h"}]},
            Terms("waits for the maintenance window that opens 2026-01-01 02:00 UTC", DEFAULT_RATE, 1),
        ),
    ],
)
def test_terms_come_from_the_cluster(spec: dict[str, Any], terms: Terms) -> None:
    assert terms_of(ClusterSpec.model_validate(spec), NOW) == terms
    assert terms_of(None, NOW) == Terms()
    assert terms_of(ClusterSpec.model_validate(spec), NOW + timedelta(hours=2)).hold == ""

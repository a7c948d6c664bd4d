"""One round of reconciling many resources of one cluster: observe, plan, apply, observe again, plan again.

Here nothing is decided; that is the planners' work. The same rounds serve the operator and the local runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from broadsheet_operator.api.cluster import ClusterSpec
from broadsheet_operator.api.consumer_group import ConsumerGroup, ConsumerGroupStatus
from broadsheet_operator.api.topic import Topic, TopicStatus
from broadsheet_operator.kafka.gateway import KafkaGateway
from broadsheet_operator.reconcilers.consumer_group import CommitOffsets, GroupPlan, plan_group, query_of, window_ms
from broadsheet_operator.reconcilers.lag import Sample, remember, sample
from broadsheet_operator.reconcilers.moves import terms_of
from broadsheet_operator.reconcilers.observed import Failure, GroupView
from broadsheet_operator.reconcilers.resets import outcome
from broadsheet_operator.reconcilers.rivals import Key
from broadsheet_operator.reconcilers.rivals import key as topic_key
from broadsheet_operator.reconcilers.topic import TopicPlan, plan_topic
from broadsheet_operator.reconcilers.topic_actions import (
    CreateTopic,
    TopicAction,
)

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a round did for one resource."""

    status: TopicStatus | ConsumerGroupStatus
    done: tuple[str, ...] = ()
    """What was changed in Kafka, in words."""
    created: bool = False
    """The topic was made in this round."""
    lost: bool = False
    """It was made again: it had been deleted in Kafka with its records."""
    pending: bool = False
    """Actions are left; look again soon."""
    release: bool = False
    """The resource is being deleted and may go."""
    parting_words: str = ""
    failures: tuple[Failure, ...] = ()
    """Actions that did not work."""
    view: GroupView | None = None
    """The last look at a group."""


@dataclass(slots=True)
class Histories:
    """What verdicts remember, by group resource."""

    samples: dict[Key, list[Sample]] = field(default_factory=dict)

    def look(self, key: Key, view: GroupView | Failure, window: int, now: datetime, *, reset: bool) -> list[Sample]:
        """Remember this observation, and give the history with it."""
        history = self.samples.get(key, [])
        if not isinstance(view, Failure):
            history = remember(history, sample(view, now, reset=reset), window)
            self.samples[key] = history
        return history


def reconcile_topics(
    gateway: KafkaGateway,
    topics: Sequence[Topic],
    rivals: Mapping[Key, str],
    clock: Clock,
    cluster_spec: ClusterSpec | None = None,
) -> dict[Key, Outcome]:
    """One round for these Topics of one cluster, whose spec says when and how fast replicas may move."""
    if not topics:
        return {}

    def look(some: Sequence[Topic], failures: Mapping[Key, list[Failure]], created: set[Key]) -> dict[Key, TopicPlan]:
        cluster = gateway.observe_cluster()
        seen = {} if isinstance(cluster, Failure) else gateway.observe_topics([t.topic_name for t in some])
        now = clock()
        terms = terms_of(cluster_spec, now)
        return {
            topic_key(t): plan_topic(
                t,
                cluster if isinstance(cluster, Failure) else seen.get(t.topic_name),
                cluster,
                now,
                rival=rivals.get(topic_key(t)),
                failures=failures.get(topic_key(t), ()),
                just_created=topic_key(t) in created,
                terms=terms,
            )
            for t in some
        }

    plans = look(topics, {}, set())
    todo: list[tuple[Key, TopicAction]] = [(key, action) for key, plan in plans.items() for action in plan.actions]
    done: dict[Key, list[str]] = {}
    failures: dict[Key, list[Failure]] = {}
    created: set[Key] = set()
    lost: set[Key] = set()
    if todo:
        for (key, action), failure in zip(todo, gateway.apply_topics([a for _, a in todo]), strict=True):
            if failure is None:
                done.setdefault(key, []).append(action.words())
            else:
                failures.setdefault(key, []).append(failure)
        touched = {key for key, _ in todo}
        # What was created a moment ago is ours: the second look must not ask whether to adopt it.
        made = {key: action for key, action in todo if isinstance(action, CreateTopic) and key not in failures}
        created, lost = set(made), {key for key, action in made.items() if action.lost}
        plans |= look([t for t in topics if topic_key(t) in touched], failures, created)
    return {
        key: Outcome(
            plan.status,
            tuple(done.get(key, ())),
            key in created,
            key in lost,
            bool(plan.actions) or plan.soon,
            plan.release,
            plan.parting_words,
            tuple(failures.get(key, ())),
        )
        for key, plan in plans.items()
    }


def reconcile_groups(
    gateway: KafkaGateway,
    groups: Sequence[ConsumerGroup],
    rivals: Mapping[Key, str],
    histories: Histories,
    clock: Clock,
) -> dict[Key, Outcome]:
    """One round for these ConsumerGroups of one cluster."""
    if not groups:
        return {}
    views: dict[Key, GroupView] = {}

    def look(
        some: Sequence[ConsumerGroup], failures: Mapping[Key, list[Failure]], reset: frozenset[Key]
    ) -> dict[Key, GroupPlan]:
        seen = gateway.observe_groups({g.group_id: query_of(g) for g in some})
        now = clock()
        plans: dict[Key, GroupPlan] = {}
        for g in some:
            view, key = seen[g.group_id], _group_key(g)
            if isinstance(view, GroupView):
                views[key] = view
            history = histories.look(key, view, window_ms(g), now, reset=key in reset)
            plans[key] = plan_group(g, view, history, now, rival=rivals.get(key), failures=failures.get(key, ()))
        return plans

    plans = look(groups, {}, frozenset())
    todo = [(key, action) for key, plan in plans.items() for action in plan.actions]
    done: dict[Key, list[str]] = {}
    failures: dict[Key, list[Failure]] = {}
    if todo:
        was_reset: set[Key] = set()
        for (key, action), failure in zip(todo, gateway.apply_groups([a for _, a in todo]), strict=True):
            if failure is not None:
                failures.setdefault(key, []).append(failure)
                continue
            done.setdefault(key, []).append(action.words())
            if isinstance(action, CommitOffsets):
                was_reset.add(key)
        again: list[ConsumerGroup] = []
        for g in groups:
            key = _group_key(g)
            if key not in {k for k, _ in todo}:
                continue
            status = plans[key].status
            if key in was_reset:
                done_reset = plans[key].reset
                assert done_reset is not None
                status = status.model_copy(update=outcome(done_reset))
            again.append(g.model_copy(update={"status": status}))
        plans |= look(again, failures, frozenset(was_reset))
    return {
        key: Outcome(
            plan.status,
            tuple(done.get(key, ())),
            False,
            False,
            bool(plan.actions),
            plan.release,
            plan.parting_words,
            tuple(failures.get(key, ())),
            views.get(key),
        )
        for key, plan in plans.items()
    }


def _group_key(group: ConsumerGroup) -> Key:
    return group.metadata.namespace, group.metadata.name

"""One round of reconciling many resources of one kind and cluster: observe, plan, apply, observe again, plan again.

Nothing is decided here; planners decide. The same rounds serve the operator and the local runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeVar

from broadsheet_operator.api.cluster import ClusterSpec
from broadsheet_operator.api.consumer_group import ConsumerGroup
from broadsheet_operator.api.keys import ResourceKey
from broadsheet_operator.api.meta import Status
from broadsheet_operator.api.topic import Topic
from broadsheet_operator.kafka.gateway import KafkaGateway
from broadsheet_operator.reconcilers.consumer_group import CommitOffsets, GroupPlan, GroupSeen, plan_group, query_of
from broadsheet_operator.reconcilers.consumer_group import window_ms as window_of
from broadsheet_operator.reconcilers.lag import Sample, remember, sample
from broadsheet_operator.reconcilers.moves import terms_of
from broadsheet_operator.reconcilers.observed import Failure, GroupView
from broadsheet_operator.reconcilers.resets import outcome
from broadsheet_operator.reconcilers.topic import TopicPlan, TopicSeen, plan_topic
from broadsheet_operator.reconcilers.topic_actions import CreateTopic

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a round did for one resource."""

    status: Status
    done: tuple[str, ...] = ()
    """What was changed in Kafka, a phrase each."""
    created: bool = False
    """The topic was made in this round."""
    lost: bool = False
    """It was made again: it had been deleted in Kafka with its records."""
    pending: bool = False
    """Actions are left; reconcile again soon."""
    release: bool = False
    """The resource is being deleted and may go."""
    parting_words: str = ""
    failures: tuple[Failure, ...] = ()
    """Actions that did not work."""
    view: Any = None
    """What was seen in Kafka last, for kinds whose metrics are made of it."""


@dataclass(slots=True)
class Histories:
    """What verdicts remember, by group resource."""

    samples: dict[ResourceKey, list[Sample]] = field(default_factory=dict)

    def look(
        self, key: ResourceKey, view: GroupView | Failure, window: int, now: datetime, *, reset: bool
    ) -> list[Sample]:
        """Remember this observation, and give the history with it."""
        history = self.samples.get(key, [])
        if not isinstance(view, Failure):
            history = remember(history, sample(view, now, reset=reset), window)
            self.samples[key] = history
        return history

    def forget(self, key: ResourceKey) -> None:
        """The resource is gone."""
        self.samples.pop(key, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What one round is about."""

    resources: Sequence[Any]
    """Of one kind and one cluster."""
    clock: Clock
    rivals: Mapping[ResourceKey, str] = field(default_factory=dict)
    """Which of them give way, and to which older resource."""
    cluster: ClusterSpec | None = None
    """Says when and how fast replicas may move."""
    histories: Histories = field(default_factory=Histories)


class Action(Protocol):
    """Something to be done in Kafka."""

    def words(self) -> str:
        """For events and logs."""


A = TypeVar("A", bound=Action)
Todo = list[tuple[ResourceKey, A]]


@dataclass(slots=True)
class Results:
    """What became of the actions of a round."""

    done: dict[ResourceKey, list[str]] = field(default_factory=dict)
    failures: dict[ResourceKey, list[Failure]] = field(default_factory=dict)

    def take_in(self, todo: Todo[A], answers: Sequence[Failure | None]) -> None:
        """Sort what the gateway answered by resource."""
        for (key, action), failure in zip(todo, answers, strict=True):
            if failure is None:
                self.done.setdefault(key, []).append(action.words())
            else:
                self.failures.setdefault(key, []).append(failure)

    def outcome(self, key: ResourceKey, plan: TopicPlan | GroupPlan, **more: Any) -> Outcome:
        """For one resource, with the plan that was made last."""
        return Outcome(
            status=plan.status,
            done=tuple(self.done.get(key, ())),
            release=plan.release,
            parting_words=plan.parting_words,
            failures=tuple(self.failures.get(key, ())),
            **more,
        )


def reconcile_topics(gateway: KafkaGateway, task: Task) -> dict[ResourceKey, Outcome]:
    """One round for these Topics."""
    if not task.resources:
        return {}
    results = Results()
    plans = _look_at_topics(gateway, task, task.resources, results, frozenset())
    todo = [(key, action) for key, plan in plans.items() for action in plan.actions]
    created: dict[ResourceKey, CreateTopic] = {}
    if todo:
        results.take_in(todo, gateway.apply_topics([action for _, action in todo]))
        # What was created a moment ago is ours: the second plan must not ask whether to adopt it.
        made = {key: action for key, action in todo if isinstance(action, CreateTopic)}
        created = {key: action for key, action in made.items() if key not in results.failures}
        touched = {key for key, _ in todo}
        some = [topic for topic in task.resources if topic.key in touched]
        plans |= _look_at_topics(gateway, task, some, results, frozenset(created))
    return {
        key: results.outcome(
            key,
            plan,
            created=key in created,
            lost=key in created and created[key].lost,
            pending=bool(plan.actions) or plan.soon,
        )
        for key, plan in plans.items()
    }


def _look_at_topics(
    gateway: KafkaGateway, task: Task, topics: Sequence[Topic], results: Results, created: frozenset[ResourceKey]
) -> dict[ResourceKey, TopicPlan]:
    cluster = gateway.observe_cluster()
    found = {} if isinstance(cluster, Failure) else gateway.observe_topics([t.topic_name for t in topics])
    now = task.clock()
    terms = terms_of(task.cluster, now)
    return {
        topic.key: plan_topic(
            topic,
            TopicSeen(
                topic=cluster if isinstance(cluster, Failure) else found.get(topic.topic_name),
                cluster=cluster,
                rival=task.rivals.get(topic.key),
                failures=results.failures.get(topic.key, ()),
                just_created=topic.key in created,
                canary=task.cluster.canary.topic if task.cluster and task.cluster.canary else "",
            ),
            now,
            terms,
        )
        for topic in topics
    }


def reconcile_groups(gateway: KafkaGateway, task: Task) -> dict[ResourceKey, Outcome]:
    """One round for these ConsumerGroups."""
    if not task.resources:
        return {}
    results, views = Results(), dict[ResourceKey, GroupView]()
    plans = _look_at_groups(gateway, task, task.resources, results, views, frozenset())
    todo = [(key, action) for key, plan in plans.items() for action in plan.actions]
    if todo:
        results.take_in(todo, gateway.apply_groups([action for _, action in todo]))
        asked = {key for key, action in todo if isinstance(action, CommitOffsets)}
        reset = frozenset(asked - set(results.failures))
        touched = {key for key, _ in todo}
        again = [_after(group, plans[group.key], reset) for group in task.resources if group.key in touched]
        plans |= _look_at_groups(gateway, task, again, results, views, reset)
    return {
        key: results.outcome(key, plan, pending=bool(plan.actions), view=views.get(key)) for key, plan in plans.items()
    }


def _look_at_groups(
    gateway: KafkaGateway,
    task: Task,
    groups: Sequence[ConsumerGroup],
    results: Results,
    views: dict[ResourceKey, GroupView],
    reset: frozenset[ResourceKey],
) -> dict[ResourceKey, GroupPlan]:
    """`views`: takes what was seen. `reset`: groups whose offsets were just set."""
    found = gateway.observe_groups({group.group_id: query_of(group) for group in groups})
    now = task.clock()
    plans: dict[ResourceKey, GroupPlan] = {}
    for group in groups:
        view, key = found[group.group_id], group.key
        if isinstance(view, GroupView):
            views[key] = view
        history = task.histories.look(key, view, window_of(group), now, reset=key in reset)
        seen = GroupSeen(
            group=view, history=history, rival=task.rivals.get(key), failures=results.failures.get(key, ())
        )
        plans[key] = plan_group(group, seen, now)
    return plans


def _after(group: ConsumerGroup, plan: GroupPlan, reset: frozenset[ResourceKey]) -> ConsumerGroup:
    """The group with the status of its plan, and with the reset in it if that was done."""
    status = plan.status
    if group.key in reset:
        assert plan.reset is not None
        status = status.model_copy(update=outcome(plan.reset))
    return group.model_copy(update={"status": status})

"""One round for many Topics or ConsumerGroups of one Kafka cluster: observe, plan, apply, observe again, plan again.

Blocking calls through the gateway; a session runs rounds in its own thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from broadsheet_operator.api.consumer_group import ConsumerGroup
from broadsheet_operator.api.topic import Topic
from broadsheet_operator.handlers.store import Key
from broadsheet_operator.kafka.gateway import KafkaGateway
from broadsheet_operator.reconcilers.consumer_group import GroupAction, GroupPlan, plan_group, query_of, window_ms
from broadsheet_operator.reconcilers.lag import Sample, remember, sample
from broadsheet_operator.reconcilers.observed import ClusterView, Failure, GroupView, TopicView
from broadsheet_operator.reconcilers.topic import TopicAction, TopicPlan, plan_topic


@dataclass(slots=True)
class TopicResult:
    """What a round did for one Topic."""

    plan: TopicPlan
    view: TopicView | Failure | None = None
    done: list[str] = field(default_factory=list)
    """Actions that worked, in words."""
    failures: list[Failure] = field(default_factory=list)


@dataclass(slots=True)
class GroupResult:
    """What a round did for one ConsumerGroup."""

    plan: GroupPlan
    view: GroupView | Failure | None = None
    done: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def topic_round(
    gateway: KafkaGateway, topics: Mapping[Key, Topic], rivals: Mapping[Key, str], now: datetime
) -> dict[Key, TopicResult]:
    """Bring all these topics nearer to what is declared, in few calls."""
    cluster = gateway.observe_cluster()
    results = _plan_topics(gateway, topics, rivals, cluster, now, {})
    wanted: list[tuple[Key, TopicAction]] = [(key, action) for key in results for action in results[key].plan.actions]
    if not wanted:
        return results
    outcomes = gateway.apply_topics([action for _, action in wanted])
    failures: dict[Key, list[Failure]] = {}
    done: dict[Key, list[str]] = {}
    for (key, action), outcome in zip(wanted, outcomes, strict=True):
        if outcome is None:
            done.setdefault(key, []).append(action.words())
        else:
            failures.setdefault(key, []).append(outcome)
    changed = {key: topics[key] for key in dict.fromkeys(key for key, _ in wanted)}
    again = _plan_topics(gateway, changed, rivals, cluster, now, failures)
    for key, result in again.items():
        result.done = done.get(key, [])
        result.failures = failures.get(key, [])
    return results | again


def _plan_topics(
    gateway: KafkaGateway,
    topics: Mapping[Key, Topic],
    rivals: Mapping[Key, str],
    cluster: ClusterView | Failure,
    now: datetime,
    failures: Mapping[Key, Sequence[Failure]],
) -> dict[Key, TopicResult]:
    names = sorted({topic.topic_name for topic in topics.values()})
    views = gateway.observe_topics(names) if not isinstance(cluster, Failure) else dict.fromkeys(names, cluster)
    results: dict[Key, TopicResult] = {}
    for key, topic in topics.items():
        view = views.get(topic.topic_name)
        plan = plan_topic(topic, view, cluster, now, rival=rivals.get(key), failures=failures.get(key, ()))
        results[key] = TopicResult(plan, view)
    return results


def group_round(
    gateway: KafkaGateway, groups: Mapping[Key, ConsumerGroup], histories: dict[Key, list[Sample]], now: datetime
) -> dict[Key, GroupResult]:
    """Look at all these groups and carry out their resets and deletions. `histories` is brought up to date."""
    results = _plan_groups(gateway, groups, histories, now, {}, set())
    wanted: list[tuple[Key, GroupAction]] = [(key, action) for key in results for action in results[key].plan.actions]
    if not wanted:
        return results
    outcomes = gateway.apply_groups([action for _, action in wanted])
    failures: dict[Key, list[Failure]] = {}
    done: dict[Key, list[str]] = {}
    changed: dict[Key, ConsumerGroup] = {}
    for (key, action), outcome in zip(wanted, outcomes, strict=True):
        changed[key] = groups[key]
        if outcome is None:
            done.setdefault(key, []).append(action.words())
        else:
            failures.setdefault(key, []).append(outcome)
    for key in done:
        reset = results[key].plan.reset
        if reset is not None and key not in failures:
            # The record of what was replaced goes in before anything else can be said about the group.
            told = results[key].plan.status.model_copy(update={"last_reset": reset})
            changed[key] = changed[key].model_copy(update={"status": told})
    again = _plan_groups(gateway, changed, histories, now, failures, set(done))
    for key, result in again.items():
        result.done = done.get(key, [])
        result.failures = failures.get(key, [])
    return results | again


def _plan_groups(
    gateway: KafkaGateway,
    groups: Mapping[Key, ConsumerGroup],
    histories: dict[Key, list[Sample]],
    now: datetime,
    failures: Mapping[Key, Sequence[Failure]],
    reset: set[Key],
) -> dict[Key, GroupResult]:
    views = gateway.observe_groups({group.group_id: query_of(group) for group in groups.values()})
    results: dict[Key, GroupResult] = {}
    for key, group in groups.items():
        view = views[group.group_id]
        if not isinstance(view, Failure):
            seen = sample(view, now, reset=key in reset)
            histories[key] = remember(histories.get(key, []), seen, window_ms(group))
        plan = plan_group(group, view, histories.get(key, []), now, failures=failures.get(key, ()))
        results[key] = GroupResult(plan, view)
    return results

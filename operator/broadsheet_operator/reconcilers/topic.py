"""The Topic planner: from what is declared and what is there, to actions and a status. Pure: no I/O, no clock.

A round is: observe, plan, apply the actions, observe again, plan again with what failed. The second plan's status is
what is written. Asking again without a change yields no action and the same status.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from broadsheet_operator.api.meta import DeletionPolicy
from broadsheet_operator.api.quantities import format_size
from broadsheet_operator.api.topic import Adoption, Reassignment, Topic, TopicStatus
from broadsheet_operator.reconcilers import own_topics
from broadsheet_operator.reconcilers.conditions import (
    Figures,
    Statement,
    conditions,
    ready,
    stuck,
    waiting,
    with_statements,
    working,
)
from broadsheet_operator.reconcilers.moves import (
    MovePlan,
    Terms,
    moving_words,
    plan_moves,
    progress,
    too_many_replicas,
    will_do,
)
from broadsheet_operator.reconcilers.observed import ClusterView, Failure, PartitionView, TopicView
from broadsheet_operator.reconcilers.reasons import Reason
from broadsheet_operator.reconcilers.topic_actions import (
    FOLLOWER_THROTTLED,
    LEADER_THROTTLED,
    AddPartitions,
    AlterConfigs,
    CreateTopic,
    DeleteTopic,
    TopicAction,
)


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """What is to be done, and what can be said."""

    actions: tuple[TopicAction, ...]
    status: TopicStatus
    release: bool = False
    """The resource is being deleted and nothing is left to do for it."""
    parting_words: str = ""
    """With `release`: what became of the topic."""
    soon: bool = False
    """More is to be done once this status is written."""


UNTOUCHED_CONFIGS = frozenset({LEADER_THROTTLED, FOLLOWER_THROTTLED})
"""Reassignment tools and the operator set these for a while; they do not count as drift."""
NO_TERMS = Terms()


FIGURES = Figures(dict.fromkeys(("size", "reassignment"), True), slow={"size": True})
"""They change without any change of the resource."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSeen:
    """A topic and what surrounds it, as it was seen."""

    topic: TopicView | Failure | None
    """None: the cluster has no such topic."""
    cluster: ClusterView | Failure
    rival: str | None = None
    """An older Topic resource for the same topic."""
    failures: Sequence[Failure] = ()
    """What went wrong when the actions of the previous plan were applied."""
    just_created: bool = False
    """One of those actions made the topic, so there is nothing to adopt."""
    canary: str = ""
    """The topic of the Cluster's canary; empty if it has none."""


def plan_topic(desired: Topic, seen: TopicSeen, now: datetime, terms: Terms = NO_TERMS) -> TopicPlan:
    """Actions and status for one Topic. `terms` say when and how fast replicas may move."""
    observed, cluster, failures = seen.topic, seen.cluster, seen.failures
    if desired.metadata.deletion_timestamp is not None:
        return _plan_deletion(desired, seen, now)
    if desired.topic_name == seen.canary:
        message = (
            f"{seen.canary} is the topic of the Cluster's canary, which keeps it as it needs it; choose another name, "
            "or set spec.canary.topicName of the Cluster"
        )
        told = _said(desired, now, stuck(Reason.RESOURCE_CONFLICT, message)).status
        return TopicPlan((), told.model_copy(update={"topic_id": None}))
    if seen.rival is not None:
        message = f"{seen.rival} declares the topic {desired.topic_name} already and is older; delete one of the two"
        told = _said(desired, now, stuck(Reason.RESOURCE_CONFLICT, message)).status
        # The topic no longer belongs to this resource: deleting the resource must not delete the topic.
        return TopicPlan((), told.model_copy(update={"topic_id": None}))
    unseen = next((v for v in (cluster, observed) if isinstance(v, Failure)), None)
    if unseen is not None:
        return _said(desired, now, waiting(unseen.reason, unseen.message))
    assert not isinstance(cluster, Failure) and not isinstance(observed, Failure)
    protected = own_topics.refusal(desired, observed)
    if protected:
        return _said(desired, now, stuck(Reason.NOT_SUPPORTED, protected))
    awaited = own_topics.awaited(desired, observed)
    if awaited:
        return _said(desired, now, waiting(Reason.PENDING_IN_KAFKA, awaited))
    if observed is None:
        return _plan_creation(desired, cluster, now, failures, terms)
    wanted, refusals = _difference(desired, observed, cluster, terms)
    moves = plan_moves(desired, observed, cluster, terms)
    if not seen.just_created and not _is_ours(desired, observed):
        refused = _adoption_refused(desired, [*wanted, *moves.actions], [*refusals, *filter(None, [moves.held])])
        if refused:
            return TopicPlan((), _status(desired, observed, stuck(Reason.TOPIC_EXISTS, refused), now, ours=False))
    wanted += moves.actions
    copied = progress(desired, observed, cluster, moves, terms)
    statements = _tell(wanted, refusals, failures, observed, moves, moving_words(observed, copied))
    status = _status(desired, observed, statements, now, moves=copied)
    return TopicPlan(tuple(wanted), status, soon=bool(moves.next))


def _said(desired: Topic, now: datetime, statements: list[Statement]) -> TopicPlan:
    """No action, and a status with only new conditions."""
    empty = TopicStatus(topic_name=desired.topic_name)
    return TopicPlan((), with_statements(desired.status, empty, statements, desired.metadata.generation, now))


def _is_ours(desired: Topic, observed: TopicView) -> bool:
    return desired.status is not None and desired.status.topic_id == observed.topic_id


def _adoption_refused(desired: Topic, wanted: list[TopicAction], refusals: list[str]) -> str:
    """Why the topic that is there may not be taken over; empty when it may."""
    if desired.spec.adoption is Adoption.ALWAYS:
        return ""
    if desired.spec.adoption is Adoption.NEVER:
        return (
            f"the topic {desired.topic_name} exists already, and adoption is Never; "
            "set adoption: IfIdentical or Always to take it over"
        )
    if not wanted and not refusals:
        return ""
    differences = "; ".join([a.words() for a in wanted] + refusals)
    return (
        f"the topic {desired.topic_name} exists already and is not what is declared here (to do: {differences}); "
        "declare it as it is, or set adoption: Always to have it changed"
    )


def _plan_creation(
    desired: Topic, cluster: ClusterView, now: datetime, failures: Sequence[Failure], terms: Terms
) -> TopicPlan:
    spec = desired.spec
    too_many = too_many_replicas(spec.replication_factor, cluster)
    if too_many and will_do(spec.replication_factor, terms):
        return _said(desired, now, waiting(Reason.BROKER_DOWN, f"waits for brokers: {too_many}"))
    if too_many:
        return _said(desired, now, stuck(Reason.NOT_SUPPORTED, too_many))
    configs = {key: value for key, value in spec.configs().items() if value is not None}
    lost = bool(desired.status and desired.status.topic_id)
    action = CreateTopic(desired.topic_name, spec.partitions, spec.replication_factor, configs, lost=lost)
    if failures:
        return TopicPlan((action,), _said(desired, now, _failed(failures)).status)
    told = working(Reason.CREATING, action.words())
    return TopicPlan((action,), _said(desired, now, told).status)


def _difference(
    desired: Topic, observed: TopicView, cluster: ClusterView, terms: Terms
) -> tuple[list[TopicAction], list[str]]:
    """What would have to be done apart from replicas that move, and what is refused, a sentence each."""
    actions: list[TopicAction] = []
    refusals: list[str] = []
    count, wanted = len(observed.partitions), desired.spec.partitions
    if wanted is not None and wanted > count:
        actions.append(AddPartitions(desired.topic_name, wanted, count))
    elif wanted is not None and wanted < count:
        refusals.append(
            f"{desired.topic_name} has {count} partitions and {wanted} asked for: Kafka cannot take a partition away "
            f"without losing its records; set partitions back to {count}, or declare a new topic"
        )
    changes, resets = config_difference(desired.spec.configs(), observed)
    if changes or resets:
        actions.append(AlterConfigs(desired.topic_name, changes, resets))
    factor = desired.spec.replication_factor
    too_many = too_many_replicas(factor, cluster)
    if too_many and factor != observed.replication_factor and not will_do(factor, terms):
        refusals.append(too_many)
    return actions, refusals


def config_difference(wanted: Mapping[str, str | None], observed: TopicView) -> tuple[dict[str, str], tuple[str, ...]]:
    """Properties to set, and overrides to give back to the default. A key with None is left alone."""
    changes: dict[str, str] = {}
    for key, value in wanted.items():
        current = observed.configs.get(key)
        if value is not None and (current is None or not _same_value(key, value, current.value)):
            changes[key] = value
    resets = tuple(
        sorted(
            key
            for key, view in observed.configs.items()
            if view.overridden and key not in wanted and key not in UNTOUCHED_CONFIGS
        )
    )
    # Kafka has created its own topics with overrides, and does not create them again when they go.
    return changes, () if own_topics.is_own(observed.name, observed) else resets


def _same_value(key: str, wanted: str, current: str | None) -> bool:
    if current is None or wanted == current:
        return wanted == current
    if key == "cleanup.policy":
        return {p.strip() for p in wanted.split(",")} == {p.strip() for p in current.split(",")}
    if wanted.strip().lower() == current.strip().lower() and current.strip().lower() in ("true", "false"):
        return True
    try:
        return float(wanted) == float(current) if "." in wanted + current else int(wanted) == int(current)
    except ValueError:
        return False


def _failed(failures: Sequence[Failure]) -> list[Statement]:
    message = "; ".join(f.message for f in failures)
    reason = failures[0].reason
    return waiting(reason, message) if any(f.retriable for f in failures) else stuck(reason, message)


def _tell(
    wanted: list[TopicAction],
    refusals: list[str],
    failures: Sequence[Failure],
    observed: TopicView,
    moves: MovePlan,
    moving: str,
) -> list[Statement]:
    """Ready, and why not; then the in-sync replicas."""
    health = _health(observed.partitions)
    leaderless = [p.index for p in observed.partitions if p.leader is None]
    if failures:
        told = _failed(failures)
    elif refusals:
        told = stuck(Reason.NOT_SUPPORTED, "; ".join(refusals))
    elif wanted or moves.next:
        told = working(Reason.UPDATING, "; ".join([*(a.words() for a in wanted), *filter(None, [moves.next])]))
    elif moving:
        told = working(Reason.REASSIGNING, moving)
    elif leaderless:
        names = ", ".join(f"{observed.name}-{i}" for i in leaderless[:10])
        told = waiting(Reason.PARTITION_OFFLINE, f"without a leader: {names}")
    elif moves.held:
        told = waiting(moves.reason, moves.held)
    else:
        told = ready("The topic is as declared")
    return [*told, health]


def _health(partitions: Sequence[PartitionView]) -> Statement:
    behind = sum(len(set(p.isr) & set(p.settled)) < len(p.settled) for p in partitions)
    if behind:
        few = "1 partition has" if behind == 1 else f"{behind} partitions have"
        return Statement("InSync", "False", Reason.UNDER_REPLICATED, f"{few} replicas that are not in sync")
    return Statement("InSync", "True", Reason.ALL_IN_SYNC, "Every replica is in sync")


def in_sync(partitions: Sequence[PartitionView]) -> str:
    """Replicas in sync of all replicas, as `9/9`; those that are being made do not count yet."""
    alive = sum(len(set(p.isr) & set(p.settled)) for p in partitions)
    return f"{alive}/{sum(len(p.settled) for p in partitions)}"


def worst_partition(topic: str, partitions: Sequence[PartitionView]) -> str | None:
    """A sentence about the partition that is worst off; None when all replicas are in sync."""

    def badness(p: PartitionView) -> tuple[bool, float]:
        return p.leader is None, 1 - len(set(p.isr) & set(p.settled)) / max(1, len(p.settled))

    worst = max(partitions, key=badness, default=None)
    if worst is None or badness(worst) == (False, 0.0):
        return None
    missing = sorted(set(worst.settled) - set(worst.isr))
    alive = f"{len(worst.settled) - len(missing)} of {len(worst.settled)} replicas in sync"
    absent = f", missing: {', '.join(map(str, missing))}" if missing else ""
    return f"{topic}-{worst.index}: {'no leader, ' if worst.leader is None else ''}{alive}{absent}"


def _status(
    desired: Topic,
    observed: TopicView,
    statements: list[Statement],
    now: datetime,
    *,
    ours: bool = True,
    moves: Reassignment | None = None,
) -> TopicStatus:
    return TopicStatus(
        observed_generation=desired.metadata.generation,
        conditions=conditions(desired.status, statements, desired.metadata.generation, now),
        topic_name=observed.name,
        topic_id=observed.topic_id if ours else None,
        partitions=len(observed.partitions),
        replication_factor=observed.replication_factor,
        configs={
            k: v.value or "" for k, v in sorted(observed.configs.items()) if v.overridden and k not in UNTOUCHED_CONFIGS
        },
        in_sync=in_sync(observed.partitions),
        worst_partition=worst_partition(observed.name, observed.partitions),
        size=None if observed.size is None else format_size(observed.size),
        reassignment=moves,
    )


def _plan_deletion(desired: Topic, seen: TopicSeen, now: datetime) -> TopicPlan:
    """Delete the topic only when asked to, and only if it is this resource's own."""
    name, observed = desired.topic_name, seen.topic
    kept = _said(desired, now, working(Reason.DELETING, "")).status
    if seen.rival is not None:
        return TopicPlan((), kept, True, f"the topic {name} stays: it belongs to {seen.rival}")
    if desired.spec.deletion_policy is DeletionPolicy.RETAIN:
        words = "there is no topic" if observed is None else f"the topic {name} and its records stay"
        return TopicPlan((), kept, True, f"{words} (deletionPolicy Retain)")
    if isinstance(observed, Failure):
        return _said(desired, now, waiting(observed.reason, f"cannot delete {name} yet: {observed.message}"))
    if observed is None:
        return TopicPlan((), kept, True, f"the topic {name} is gone, with its records")
    if not _is_ours(desired, observed):
        return TopicPlan((), kept, True, f"the topic {name} stays: it was never taken over by this resource")
    if observed.internal:
        return TopicPlan((), kept, True, f"the topic {name} stays: it is one of Kafka's own")
    action = DeleteTopic(name, observed.topic_id)
    told = _failed(seen.failures) if seen.failures else working(Reason.DELETING, action.words())
    return TopicPlan((action,), _status(desired, observed, told, now))

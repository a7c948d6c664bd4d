"""The Cluster planner's pure part: from what the brokers and their metadata say to a status."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from broadsheet_operator.api.cluster import BrokerStatus, Cluster, ClusterStatus
from broadsheet_operator.api.engine_versions import METADATA_VERSION, name_of
from broadsheet_operator.reconcilers.conditions import Statement, conditions, ready, stuck, waiting, working
from broadsheet_operator.reconcilers.observed import (
    ClusterHealth,
    ClusterView,
    Failure,
    FeaturesView,
    QuorumView,
    TopicView,
)
from broadsheet_operator.reconcilers.reasons import Health, Reason
from broadsheet_operator.reconcilers.seen import Seen
from broadsheet_operator.reconcilers.windows import allows


@dataclass(frozen=True, slots=True)
class BrokerState:
    """The state of a broker as Kubernetes or the local runtime reports it."""

    id: int
    state: str
    """Running, Fenced, Starting, Restarting, Stopping, Stopped, Lost, Failed."""
    endpoint: str = ""
    message: str = ""
    pod: str = ""
    unplaced: bool = False
    """No node has had room for its pod for a while."""


def fenced_brokers(brokers: Collection[int], view: ClusterView | Failure | None) -> frozenset[int]:
    """Those that take no requests because the active controller has not heard of them, or not for too long (KIP-631).

    The only place where it is decided, for both engines: brokers that are not fenced are in the cluster's metadata.
    """
    if not isinstance(view, ClusterView):
        return frozenset()
    return frozenset(brokers) - {broker.id for broker in view.alive}


def as_the_cluster_says(brokers: Sequence[BrokerState], view: ClusterView | Failure | None) -> list[BrokerState]:
    """A broker whose process runs is Running once the cluster says that it takes requests."""
    fenced = fenced_brokers([broker.id for broker in brokers if broker.state == "Running"], view)
    words = "broker {}: its process runs, and the active controller keeps it fenced until it has caught up"
    return [
        replace(broker, state="Fenced", message=words.format(broker.id)) if broker.id in fenced else broker
        for broker in brokers
    ]


@dataclass(frozen=True, slots=True)
class Remarks:
    """What is said in a status beside what follows from the brokers."""

    instead: Sequence[Statement] = ()
    """In the place of what follows from the brokers."""
    remark: str = ""
    """Behind the message of Ready."""
    rollout: str = ""
    """What a rolling change does or waits for."""
    scaling: str = ""
    """What is done to grow, shrink or rebalance."""
    not_done: str = ""
    """What of the spec of a paused Cluster is not carried out."""
    engine: str = ""
    """The engine that the brokers' volumes are run with."""
    exchange: str = ""
    """What an exchange of the engine does or waits for."""
    interrupted: bool = False
    """The brokers are away because of that exchange."""
    held: bool = False
    """What is going on waits for a maintenance window."""
    also: Sequence[Statement] = ()
    """Conditions that do not follow from the brokers: the canary's."""


NO_REMARKS = Remarks()


def cluster_status(
    desired: Cluster,
    brokers: Sequence[BrokerState],
    seen: Seen,
    now: datetime,
    remarks: Remarks = NO_REMARKS,
) -> ClusterStatus:
    """The status of a Cluster whose brokers were found like this."""
    brokers = as_the_cluster_says(brokers, seen.view)
    going_on = remarks.exchange or remarks.rollout or remarks.scaling
    told = list(remarks.instead) or _tell(desired, brokers, seen.view, seen.health, going_on)
    if remarks.interrupted and not remarks.instead:
        told = _interrupted(told, brokers, remarks.exchange)
    if remarks.held:
        told = [replace(s, reason=Reason.WAITING_FOR_WINDOW) if s.type == "Reconciling" else s for s in told]
    if desired.spec.paused:
        told = _paused(told, remarks.not_done)
    if remarks.remark:
        told = [replace(s, message=f"{s.message}; {remarks.remark}") if s.type == "Ready" else s for s in told]
    told += remarks.also
    view = seen.view if isinstance(seen.view, ClusterView) else None
    quorum = seen.quorum if isinstance(seen.quorum, QuorumView) else None
    state = seen.health if isinstance(seen.health, ClusterHealth) else None
    listed = _listed(desired, brokers, view, state, seen.sizes)
    if desired.spec.external is not None:
        bootstrap = ",".join(desired.spec.external.bootstrap_servers)
    else:
        bootstrap = ",".join(b.endpoint for b in brokers if b.endpoint)
    return ClusterStatus(
        observed_generation=desired.metadata.generation,
        conditions=conditions(desired.status, told, desired.metadata.generation, now),
        cluster_id=view.cluster_id if view else desired.status.cluster_id if desired.status else None,
        bootstrap_servers=bootstrap or None,
        controller=quorum.leader if quorum else view.controller if view else None,
        # Who votes is remembered: what a lost volume means follows from it.
        voters=sorted(v.id for v in quorum.voters) if quorum else desired.status.voters if desired.status else None,
        **_levels(desired, seen),
        replicas=len(listed),
        ready_replicas=sum(b.state == "Running" for b in listed),
        brokers=listed,
        topics=state.topics - isinstance(seen.canary, TopicView) if state else None,  # the canary's own is nobody's
        under_replicated_partitions=state.under_replicated if state else None,
        under_min_isr_partitions=state.under_min_isr if state else None,
        offline_partitions=state.offline if state else None,
        maintenance_window=allows(desired.spec.maintenance_windows or (), now)[1] or None,
        engine=remarks.engine or None,
        exchange=remarks.exchange or None,
        rollout=remarks.rollout or None,
        scaling=remarks.scaling or None,
    )


def _levels(desired: Cluster, seen: Seen) -> dict[str, Any]:
    """What is finalized: as it was when nobody says so now."""
    if desired.spec.engine is None:
        return {}
    if not isinstance(seen.features, FeaturesView):
        before = desired.status
        return {"metadata_version": before.metadata_version, "features": before.features} if before else {}
    levels = dict(seen.features.finalized)
    level = levels.pop(METADATA_VERSION, None)
    return {"metadata_version": None if level is None else name_of(level), "features": levels}


def _listed(
    desired: Cluster,
    brokers: Sequence[BrokerState],
    view: ClusterView | None,
    health: ClusterHealth | None,
    sizes: Mapping[int, int],
) -> list[BrokerStatus]:
    """Each broker with its figures."""
    racks = {b.id: b.rack for b in view.brokers} if view else {}
    if desired.spec.external is not None:
        listed = [
            BrokerStatus(id=b.id, state="Fenced" if b.fenced else "Running", endpoint=f"{b.host}:{b.port}", rack=b.rack)
            for b in (view.brokers if view else ())
        ]
    else:
        listed = [
            BrokerStatus(
                id=b.id,
                state=b.state,
                endpoint=b.endpoint or None,
                pod=b.pod or None,
                rack=racks.get(b.id),
                message=b.message or None,
            )
            for b in brokers
        ]
    if health is None:
        return listed
    return [
        b.model_copy(
            update={
                "leaders": health.leaders.get(b.id, 0),
                "replicas": health.replicas.get(b.id, 0),
                "bytes": sizes.get(b.id),
            }
        )
        for b in listed
    ]


def overriding_statements(
    lost: str, failure: Failure | None, refusal: str, refused: Sequence[str] = (), troubles: Sequence[str] = ()
) -> list[Statement]:
    """What is said although brokers may take requests; empty when nothing overrides what they say.

    `lost`: why the quorum is lost; `failure`: what the brokers refused; `refusal`: what of the spec is not
    done; `refused`, `troubles`: what the API server will not do, and what it failed to do, in its words.
    """
    if lost:
        return stuck(Reason.QUORUM_LOST, lost)
    if refused:
        return stuck(Reason.KUBERNETES_REFUSED, "; ".join(refused))
    if failure is not None:
        reason = Reason.INVALID_CONFIG if failure.reason is Reason.INVALID_REQUEST else failure.reason
        return waiting(failure.reason, failure.message) if failure.retriable else stuck(reason, failure.message)
    if refusal:
        return stuck(Reason.NOT_SUPPORTED, refusal)
    return waiting(Reason.KUBERNETES_FAILED, "; ".join(troubles)) if troubles else []


def _interrupted(told: list[Statement], brokers: Sequence[BrokerState], exchange: str) -> list[Statement]:
    """The same while an exchange of the engine keeps brokers away: that none answers is what was asked for.

    A broker that cannot start, or cannot stop, keeps its own reason.
    """
    current = next(s for s in told if s.type == "Ready")
    if current.status == "True":
        return told
    if any(b.state in ("Failed", "Restarting", "Lost") or b.unplaced for b in brokers):
        return [replace(s, message=f"{s.message}; {exchange}") if s.type == "Ready" else s for s in told]
    return working(Reason.EXCHANGING_ENGINE, exchange)


def _paused(told: list[Statement], not_done: str) -> list[Statement]:
    """The same of a paused Cluster: Ready is what was carried out and takes requests, and nothing is being changed.

    What is broken keeps its own reason, since that is not the pause's doing.
    """
    words = "Nothing is changed while spec.paused is true"
    told = [s for s in told if s.type != "Reconciling"]
    if not_done and any(s.reason.health is Health.BAD for s in told):
        told = [replace(s, message=f"{s.message}; {not_done}") if s.type == "Ready" else s for s in told]
    elif not_done:
        told, words = waiting(Reason.PAUSED, not_done), not_done
    return [*told, Statement("Paused", "True", Reason.PAUSED, words)]


def _tell(
    desired: Cluster,
    brokers: Sequence[BrokerState],
    view: ClusterView | Failure | None,
    health: ClusterHealth | Failure | None,
    going_on: str,
) -> list[Statement]:
    if not brokers and desired.spec.brokers is not None:
        return waiting(Reason.BROKER_DOWN, "no broker runs")
    takes_requests = isinstance(view, ClusterView) and isinstance(health, ClusterHealth)
    broken = [b for b in brokers if b.state in ("Failed", "Restarting", "Lost")]
    if broken:
        words = "; ".join(b.message or f"broker {b.id} is {b.state}" for b in broken)
        return waiting(Reason.BROKER_DOWN, words + _others(len(brokers) - len(broken), takes_requests))
    coming = [b for b in brokers if b.state != "Running"]
    if coming and not (going_on and takes_requests and len(coming) < len(brokers)):
        unplaced = "; ".join(b.message for b in coming if b.unplaced)
        if unplaced:  # an autoscaler may bring a node; if not, only a person can help
            return waiting(Reason.BROKER_DOWN, unplaced + _others(len(brokers) - len(coming), takes_requests))
        names = ", ".join(str(b.id) for b in coming)
        why = "; ".join(b.message for b in coming if b.message)
        words = f"{'broker' if len(coming) == 1 else 'brokers'} {names} starting{f' ({why})' if why else ''}"
        return working(Reason.CREATING, words)
    if isinstance(view, Failure):
        external = desired.spec.external
        where = f" ({', '.join(external.bootstrap_servers)})" if external is not None else ""
        return waiting(view.reason, view.message + where)
    if view is None:
        return working(Reason.CREATING, "waiting for the brokers to answer")
    if isinstance(health, ClusterHealth) and health.offline:
        return waiting(Reason.PARTITION_OFFLINE, f"{health.offline} partitions have no leader")
    count = len(view.alive)
    told = ready("1 broker takes requests" if count == 1 else f"{count} brokers take requests")
    return [*told, Statement("Reconciling", "True", Reason.UPDATING, going_on)] if going_on else told


def _others(count: int, takes_requests: bool) -> str:
    if not takes_requests or not count:
        return ""
    return "; the other one takes requests" if count == 1 else f"; the other {count} take requests"

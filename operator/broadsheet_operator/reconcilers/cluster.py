"""The Cluster planner's pure part: from what the brokers and their metadata say to a status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from broadsheet_operator.api.cluster import BrokerStatus, Cluster, ClusterStatus
from broadsheet_operator.reconcilers.conditions import (
    Reason,
    Statement,
    conditions,
    ready,
    stuck,
    waiting,
    working,
)
from broadsheet_operator.reconcilers.observed import ClusterHealth, ClusterView, Failure, QuorumView
from broadsheet_operator.reconcilers.windows import allows


@dataclass(frozen=True, slots=True)
class BrokerState:
    """A broker as whoever runs it sees it."""

    id: int
    state: str
    """Running, Starting, Restarting, Stopping, Stopped, Lost, Failed."""
    endpoint: str = ""
    message: str = ""
    pod: str = ""


def cluster_status(
    desired: Cluster,
    brokers: Sequence[BrokerState],
    view: ClusterView | Failure | None,
    health: ClusterHealth | Failure | None,
    now: datetime,
    *,
    refusal: str = "",
    instead: Sequence[Statement] = (),
    remark: str = "",
    quorum: QuorumView | None = None,
    sizes: Mapping[int, int] | None = None,
    rollout: str = "",
    scaling: str = "",
) -> ClusterStatus:
    """The status. `view` is None while no broker could be asked; `refusal` says why the spec cannot be carried out.
    `instead`: what is to be said in the place of what follows from the brokers; `remark`: what is to be said with it.

    `sizes`: bytes by broker; `rollout`, `scaling`: what is being done, in words.
    """
    told = list(instead) or _tell(desired, brokers, view, health, refusal, rollout or scaling)
    if remark:
        told = [replace(s, message=f"{s.message}; {remark}") if s.type == "Ready" else s for s in told]
    seen = view if isinstance(view, ClusterView) else None
    racks = {b.id: b.rack for b in seen.brokers} if seen else {}
    state = health if isinstance(health, ClusterHealth) else None
    if desired.spec.external is not None:
        bootstrap = ",".join(desired.spec.external.bootstrap_servers)
        listed = [
            BrokerStatus(id=b.id, state="Fenced" if b.fenced else "Running", endpoint=f"{b.host}:{b.port}", rack=b.rack)
            for b in (seen.brokers if seen else ())
        ]
    else:
        bootstrap = ",".join(b.endpoint for b in brokers if b.endpoint)
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
    if state is not None:
        listed = [
            b.model_copy(
                update={
                    "leaders": state.leaders.get(b.id, 0),
                    "replicas": state.replicas.get(b.id, 0),
                    "bytes": (sizes or {}).get(b.id),
                }
            )
            for b in listed
        ]
    return ClusterStatus(
        observed_generation=desired.metadata.generation,
        conditions=conditions(desired.status, told, desired.metadata.generation, now),
        cluster_id=seen.cluster_id if seen else desired.status.cluster_id if desired.status else None,
        bootstrap_servers=bootstrap or None,
        controller=quorum.leader if quorum else seen.controller if seen else None,
        # Who votes is remembered: what a lost volume means follows from it.
        voters=sorted(v.id for v in quorum.voters) if quorum else desired.status.voters if desired.status else None,
        replicas=len(listed),
        ready_replicas=sum(b.state == "Running" for b in listed),
        brokers=listed,
        topics=state.topics if state else None,
        under_replicated_partitions=state.under_replicated if state else None,
        under_min_isr_partitions=state.under_min_isr if state else None,
        offline_partitions=state.offline if state else None,
        maintenance_window=allows(desired.spec.maintenance_windows or (), now)[1] or None,
        rollout=rollout or None,
        scaling=scaling or None,
    )


def _tell(
    desired: Cluster,
    brokers: Sequence[BrokerState],
    view: ClusterView | Failure | None,
    health: ClusterHealth | Failure | None,
    refusal: str,
    going_on: str,
) -> list[Statement]:
    if refusal:
        return stuck(Reason.NOT_SUPPORTED, refusal)
    if desired.spec.paused:
        return [*ready("Nothing is changed while spec.paused is true"), Statement("Paused", "True", Reason.PAUSED, "")]
    if not brokers and desired.spec.brokers is not None:
        return waiting(Reason.BROKER_DOWN, "no broker runs")
    takes_requests = isinstance(view, ClusterView) and isinstance(health, ClusterHealth)
    broken = [b for b in brokers if b.state in ("Failed", "Restarting", "Lost")]
    if broken:
        words = "; ".join(b.message or f"broker {b.id} is {b.state}" for b in broken)
        return waiting(Reason.BROKER_DOWN, words + _others(len(brokers) - len(broken), takes_requests))
    coming = [b for b in brokers if b.state != "Running"]
    if coming and not (going_on and takes_requests and len(coming) < len(brokers)):
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

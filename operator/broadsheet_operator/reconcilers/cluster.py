"""The Cluster planner's pure part: from what the brokers and their metadata say to a status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
from broadsheet_operator.reconcilers.observed import ClusterHealth, ClusterView, Failure
from broadsheet_operator.reconcilers.windows import allows


@dataclass(frozen=True, slots=True)
class BrokerState:
    """A broker as whoever runs it sees it."""

    id: int
    state: str
    """Running, Starting, Restarting, Stopped, Failed."""
    endpoint: str = ""
    message: str = ""


def cluster_status(
    desired: Cluster,
    brokers: Sequence[BrokerState],
    view: ClusterView | Failure | None,
    health: ClusterHealth | Failure | None,
    now: datetime,
    *,
    refusal: str = "",
) -> ClusterStatus:
    """The status. `view` is None while no broker could be asked; `refusal` says why the spec cannot be carried out."""
    told = _tell(desired, brokers, view, health, refusal)
    seen = view if isinstance(view, ClusterView) else None
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
            BrokerStatus(id=b.id, state=b.state, endpoint=b.endpoint or None, message=b.message or None)
            for b in brokers
        ]
    if state is not None:
        listed = [
            b.model_copy(update={"leaders": state.leaders.get(b.id, 0), "replicas": state.replicas.get(b.id, 0)})
            for b in listed
        ]
    return ClusterStatus(
        observed_generation=desired.metadata.generation,
        conditions=conditions(desired.status, told, desired.metadata.generation, now),
        cluster_id=seen.cluster_id if seen else desired.status.cluster_id if desired.status else None,
        bootstrap_servers=bootstrap or None,
        controller=seen.controller if seen else None,
        replicas=len(listed),
        ready_replicas=sum(b.state == "Running" for b in listed),
        brokers=listed,
        topics=state.topics if state else None,
        under_replicated_partitions=state.under_replicated if state else None,
        offline_partitions=state.offline if state else None,
        maintenance_window=allows(desired.spec.maintenance_windows or (), now)[1] or None,
    )


def _tell(
    desired: Cluster,
    brokers: Sequence[BrokerState],
    view: ClusterView | Failure | None,
    health: ClusterHealth | Failure | None,
    refusal: str,
) -> list[Statement]:
    if refusal:
        return stuck(Reason.NOT_SUPPORTED, refusal)
    if desired.spec.paused:
        return [*ready("Nothing is changed while spec.paused is true"), Statement("Paused", "True", Reason.PAUSED, "")]
    if not brokers and desired.spec.brokers is not None:
        return waiting(Reason.BROKER_DOWN, "no broker runs")
    broken = [b for b in brokers if b.state in ("Failed", "Restarting")]
    if broken:
        return waiting(Reason.BROKER_DOWN, "; ".join(b.message or f"broker {b.id} is {b.state}" for b in broken))
    coming = [b for b in brokers if b.state != "Running"]
    if coming:
        names = ", ".join(str(b.id) for b in coming)
        return working(Reason.CREATING, f"{'broker' if len(coming) == 1 else 'brokers'} {names} starting")
    if isinstance(view, Failure):
        return waiting(view.reason, view.message)
    if view is None:
        return working(Reason.CREATING, "waiting for the brokers to answer")
    if isinstance(health, ClusterHealth) and health.offline:
        return waiting(Reason.PARTITION_OFFLINE, f"{health.offline} partitions have no leader")
    count = len(view.alive)
    return ready("1 broker takes requests" if count == 1 else f"{count} brokers take requests")

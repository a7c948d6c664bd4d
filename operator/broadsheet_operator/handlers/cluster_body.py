"""What is read from the body of a Cluster: its model, its addresses, what its status says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from broadsheet_operator.api.cluster import Cluster, ClusterStatus
from broadsheet_operator.api.keys import ResourceKey
from broadsheet_operator.api.manifests import parse
from broadsheet_operator.api.meta import DeletionPolicy
from broadsheet_operator.handlers.store import known_fields
from broadsheet_operator.reconcilers import carried_out
from broadsheet_operator.reconcilers.broker_round import Children
from broadsheet_operator.reconcilers.provisioning import CLUSTER_LABEL
from broadsheet_operator.reconcilers.reasons import Reason


def read_cluster(body: Mapping[str, Any]) -> Cluster:
    """The model of a Cluster as the API server holds it."""
    resource = parse(known_fields(body), f"Cluster {ResourceKey.of(body)}")
    assert isinstance(resource, Cluster)
    return resource


def bootstrap_servers(cluster: Cluster) -> tuple[str, ...]:
    """host:port by which the operator and clients inside Kubernetes reach the cluster."""
    if cluster.spec.external is not None:
        return tuple(cluster.spec.external.bootstrap_servers)
    listener = cluster.listeners()[0]
    return (f"{cluster.metadata.name}-bootstrap.{cluster.metadata.namespace}.svc:{listener.port}",)


def is_marked_ready(status: ClusterStatus) -> bool:
    """Whether a status says Ready."""
    condition = status.condition("Ready")
    return condition is not None and condition.status == "True"


def waits_for_the_end_of_its_pause(status: ClusterStatus) -> bool:
    condition = status.condition("Ready")
    return condition is not None and condition.reason == Reason.PAUSED


def not_carried_out(declared: Cluster, children: Children) -> str:
    """What of a paused Cluster is not carried out; nothing is made of one that is external."""
    if not declared.spec.paused or declared.spec.brokers is None:
        return ""
    remembered = children.annotations.get(carried_out.ANNOTATION, "")
    return carried_out.not_done(declared.spec, remembered, exists=children.existing.stateful_set is not None)


def broker_replicas(cluster: Cluster) -> int:
    return cluster.spec.brokers.replicas if cluster.spec.brokers else 0


def deletes_volumes(cluster: Cluster) -> bool:
    brokers = cluster.spec.brokers
    return bool(brokers and brokers.storage and brokers.storage.deletion_policy is DeletionPolicy.DELETE)


def addresses(cluster: Cluster) -> dict[str, Any]:
    if cluster.spec.brokers is None:
        return {}
    selector = f"app.kubernetes.io/name=broadsheet,{CLUSTER_LABEL}={cluster.metadata.name}"
    return {"bootstrap_servers": ",".join(bootstrap_servers(cluster)), "selector": selector}


def status_of(body: Mapping[str, Any]) -> ClusterStatus | None:
    try:
        return ClusterStatus.model_validate(body["status"]) if body.get("status") else None
    except ValidationError:
        return None

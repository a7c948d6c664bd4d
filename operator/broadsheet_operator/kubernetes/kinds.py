"""The kinds that the operator touches. A fixed table: no discovery at start, no right to anything else."""

from __future__ import annotations

from enum import Enum


class Kind(Enum):
    """apiVersion, kind, plural."""

    CLUSTER = ("broadsheet.io/v1alpha1", "Cluster", "clusters")
    TOPIC = ("broadsheet.io/v1alpha1", "Topic", "topics")
    CONSUMER_GROUP = ("broadsheet.io/v1alpha1", "ConsumerGroup", "consumergroups")
    STATEFUL_SET = ("apps/v1", "StatefulSet", "statefulsets")
    POD = ("v1", "Pod", "pods")
    SERVICE = ("v1", "Service", "services")
    CONFIG_MAP = ("v1", "ConfigMap", "configmaps")
    SERVICE_ACCOUNT = ("v1", "ServiceAccount", "serviceaccounts")
    VOLUME_CLAIM = ("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
    NAMESPACE = ("v1", "Namespace", "namespaces")
    NODE = ("v1", "Node", "nodes")
    DISRUPTION_BUDGET = ("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
    NETWORK_POLICY = ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
    EVENT = ("events.k8s.io/v1", "Event", "events")
    CORE_EVENT = ("v1", "Event", "events")
    """What controllers of Kubernetes say; only this version can be selected by what it is about."""
    LEASE = ("coordination.k8s.io/v1", "Lease", "leases")

    def __init__(self, api_version: str, kind: str, plural: str) -> None:
        self.api_version = api_version
        self.kind = kind
        self.plural = plural

    @property
    def namespaced(self) -> bool:
        return self not in (Kind.NAMESPACE, Kind.NODE)

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of a collection, an object or its subresource."""
        root = "/apis/" if "/" in self.api_version else "/api/"
        parts = [root + self.api_version]
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/".join(parts)

    @classmethod
    def of(cls, body: dict[str, object]) -> Kind:
        """The kind of a plain object; ValueError for one that the operator has no business with."""
        for kind in cls:
            if kind.kind == body["kind"] and kind.api_version == body["apiVersion"]:
                return kind
        raise ValueError(f"{body['apiVersion']} {body['kind']} is not a kind that the operator handles")

"""The kinds that the operator touches. A fixed table: no discovery at start, no right to anything else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from broadsheet_operator.api.manifests import KINDS
from broadsheet_operator.api.meta import API_VERSION, Resource


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of the API server. There is one object of each, so that kinds are compared by `is`."""

    CLUSTER: ClassVar[Kind]
    TOPIC: ClassVar[Kind]
    CONSUMER_GROUP: ClassVar[Kind]
    STATEFUL_SET: ClassVar[Kind]
    DEPLOYMENT: ClassVar[Kind]
    POD: ClassVar[Kind]
    SERVICE: ClassVar[Kind]
    CONFIG_MAP: ClassVar[Kind]
    SERVICE_ACCOUNT: ClassVar[Kind]
    VOLUME_CLAIM: ClassVar[Kind]
    NAMESPACE: ClassVar[Kind]
    NODE: ClassVar[Kind]
    DISRUPTION_BUDGET: ClassVar[Kind]
    NETWORK_POLICY: ClassVar[Kind]
    EVENT: ClassVar[Kind]
    CORE_EVENT: ClassVar[Kind]
    """What controllers of Kubernetes say; only this version can be selected by what it is about."""
    LEASE: ClassVar[Kind]

    api_version: str
    kind: str
    plural: str

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
    def of(cls, body: Mapping[str, object]) -> Kind:
        """The kind of a plain object; ValueError for one that the operator has no business with."""
        name = str(body["kind"])
        if body["apiVersion"] == API_VERSION and name in KINDS:
            return kind_of(KINDS[name])
        for kind in OF_KUBERNETES:
            if kind.kind == name and kind.api_version == body["apiVersion"]:
                return kind
        raise ValueError(f"{body['apiVersion']} {name} is not a kind that the operator handles")


@cache
def kind_of(model: type[Resource]) -> Kind:
    """The kind of our own resources with this model."""
    return Kind(API_VERSION, model.__name__, model.PLURAL)


Kind.CLUSTER, Kind.TOPIC, Kind.CONSUMER_GROUP = (kind_of(KINDS[name]) for name in ("Cluster", "Topic", "ConsumerGroup"))
Kind.STATEFUL_SET = Kind("apps/v1", "StatefulSet", "statefulsets")
Kind.DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
Kind.POD = Kind("v1", "Pod", "pods")
Kind.SERVICE = Kind("v1", "Service", "services")
Kind.CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
Kind.SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
Kind.VOLUME_CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
Kind.NAMESPACE = Kind("v1", "Namespace", "namespaces")
Kind.NODE = Kind("v1", "Node", "nodes")
Kind.DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
Kind.NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
Kind.EVENT = Kind("events.k8s.io/v1", "Event", "events")
Kind.CORE_EVENT = Kind("v1", "Event", "events")
Kind.LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")
OF_KUBERNETES = (
    Kind.STATEFUL_SET,
    Kind.DEPLOYMENT,
    Kind.POD,
    Kind.SERVICE,
    Kind.CONFIG_MAP,
    Kind.SERVICE_ACCOUNT,
    Kind.VOLUME_CLAIM,
    Kind.NAMESPACE,
    Kind.NODE,
    Kind.DISRUPTION_BUDGET,
    Kind.NETWORK_POLICY,
    Kind.EVENT,
    Kind.CORE_EVENT,
    Kind.LEASE,
)
"""Kinds that are not our own resources."""

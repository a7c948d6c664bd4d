"""Which namespaces may declare resources of which Cluster. Pure."""

from __future__ import annotations

from broadsheet_operator.api.cluster import Cluster
from broadsheet_operator.api.meta import Dependent


def refusal(resource: Dependent, cluster: Cluster) -> str:
    """Why this resource may not speak for that Cluster; empty when it may."""
    namespace = resource.metadata.namespace
    home = cluster.metadata.namespace
    if namespace == home:
        return ""
    rules = cluster.spec.allowed_namespaces or []
    matching = [rule for rule in rules if rule.namespace in (namespace, "*")]
    if not matching:
        return (
            f"the Cluster {home}/{cluster.metadata.name} does not let the namespace {namespace} keep resources of it; "
            f"add it to spec.allowedNamespaces there"
        )
    name = resource.kafka_name
    if any(name.startswith(rule.prefix or "") for rule in matching):
        return ""
    prefixes = " or ".join(repr(rule.prefix) for rule in matching)
    return f"names declared in the namespace {namespace} must start with {prefixes}; {name!r} does not"

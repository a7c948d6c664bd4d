"""What a user's maps may not set, because Broadsheet sets it: refused by name, with what to use instead.

Every map of a manifest that is merged with one of ours is named here. In the merge ours win, so that an object which
was stored before a name was added cannot break a cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_LISTENERS = "declare listeners in spec.listeners"
_DIRECTORY = "a broker has one directory, on its volume (brokers.storage)"
_NUMBERED = "brokers are numbered from 0 to brokers.replicas - 1"
_VOTERS = "who votes in the metadata quorum follows from brokers.replicas"

PROPERTIES: Mapping[str, str] = {
    "advertised.listeners": _LISTENERS,
    "broadsheet.initial.controllers": _VOTERS,
    "broadsheet.min.insync.replicas.of.cluster": "set min.insync.replicas; it holds for the whole cluster",
    "broker.id": _NUMBERED,
    "broker.rack": "declare racks in brokers.rack",
    "broadsheet.auto.format": "a new directory is formatted when its broker starts",
    "broadsheet.cluster.id": "it is made with the cluster and never changes",
    "cluster.id": "it is made with the cluster and never changes",
    "control.plane.listener.name": _LISTENERS,
    "controller.listener.names": _LISTENERS,
    "controller.quorum.auto.join.enable": _VOTERS,
    "controller.quorum.bootstrap.servers": _VOTERS,
    "controller.quorum.voters": _VOTERS,
    "early.start.listeners": _LISTENERS,
    "inter.broker.listener.name": _LISTENERS,
    "listener.security.protocol.map": _LISTENERS,
    "listeners": _LISTENERS,
    "log.dir": _DIRECTORY,
    "log.dirs": _DIRECTORY,
    "metadata.log.dir": _DIRECTORY,
    "node.id": _NUMBERED,
    "process.roles": _VOTERS,
    "security.inter.broker.protocol": _LISTENERS,
}
"""Broker properties that Broadsheet sets, and what to use instead."""

KUBERNETES_PROPERTIES: Mapping[str, str] = {
    "broadsheet.http.listener": "the pods' probes and the metrics of the chart use port 9404",
}
"""Set on Kubernetes only: with `broadsheet up` no other tool sets them."""

_THROTTLE = "set spec.reassignment.throttle of the Cluster"
TOPIC_PROPERTIES: Mapping[str, str] = {
    "follower.replication.throttled.replicas": _THROTTLE,
    "leader.replication.throttled.replicas": _THROTTLE,
}
"""Topic properties that the operator sets while replicas move, and what to use instead."""

LABELS = ("app.kubernetes.io/name", "app.kubernetes.io/component", "app.kubernetes.io/managed-by")
"""Labels by which the operator finds a broker's pod. Those that begin with PREFIX are its own, too."""
ANNOTATIONS = ("kubectl.kubernetes.io/default-container",)
"""Annotations that the operator gives a broker's pod. Those that begin with PREFIX are its own, too."""
PREFIX = "broadsheet.io/"
"""How the operator's own labels and annotations begin."""


def refused_property(key: str, instead: str) -> str:
    """Why `config` may not have this key."""
    return f"config {key} is set by Broadsheet: {instead}"


def refused_key(place: str, key: str) -> str:
    """Why a map of labels or annotations may not have this key."""
    return f"{place} {key} is set by Broadsheet; use another key"


def first_refusal(config: Iterable[str], owned: Mapping[str, str]) -> str:
    """Why one of these properties cannot be set; empty when all can."""
    return next((refused_property(key, owned[key]) for key in sorted(config) if key in owned), "")


def owned_keys(keys: Iterable[str], also: Iterable[str] = ()) -> list[str]:
    """The keys of labels or annotations that are the operator's own."""
    return sorted(key for key in keys if key.startswith(PREFIX) or key in also)

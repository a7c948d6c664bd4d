"""Where the exchange of a Cluster's engine is, as annotations of its StatefulSet have it, and what follows for what is
rendered and applied. Pure. The steps are in `exchange_steps`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from broadsheet_operator.api.cluster import Cluster, Listener
from broadsheet_operator.api.engine import DEFAULT, EngineType
from broadsheet_operator.api.engine import Engine as DeclaredEngine
from broadsheet_operator.reconcilers.engine_change import running_engine

ENGINE = "broadsheet.io/engine"
"""Annotation of the StatefulSet: the engine that its volumes are run with, as `broadsheet` or `apache-kafka 4.3.0`.
Without it, as older operators left it, the engine is Broadsheet."""
PHASE = "broadsheet.io/exchange"
"""Annotation of the StatefulSet: Stopping or Starting; absent while no engine is exchanged."""
BROKERS = "broadsheet.io/exchange-brokers"
"""Annotation of the StatefulSet: how many brokers there are, while it has no replicas."""
SINCE = "broadsheet.io/exchange-since"
"""Annotation of the StatefulSet: when the exchange began (RFC 3339)."""
OTHERS_KEPT = ("StatefulSet", "ConfigMap")
"""Children that are left as they are until the other engine starts: all of them are rendered for that one."""
PORTS_OF_OURS = ("tcp-quorum", "tcp-prometheus")
"""Ports of a broker's container that are no listeners of the Cluster."""
QUORUM = "broadsheet.io/quorum"
"""Annotation of volumes on which a quorum was seen. Older operators wrote it alone, and only of Broadsheet."""


class Phase(StrEnum):
    """Where an exchange is."""

    NONE = ""
    ASKED = "Asked"
    STOPPING = "Stopping"
    STARTING = "Starting"


@dataclass(frozen=True, slots=True)
class Situation:
    """What a Cluster and its StatefulSet say of an exchange."""

    phase: Phase = Phase.NONE
    runs: str = ""
    """The engine that the volumes are run with, as the annotation has it."""
    wanted: str = ""
    """The engine that is declared, likewise."""
    brokers: int = 0
    since: datetime | None = None
    template: str = ""
    """The type of the engine whose pods the StatefulSet would make now."""
    version: str = ""
    """The resourceVersion of the StatefulSet of which all of this was read."""
    empty: bool = False
    """No broker is left, and none can come: the StatefulSet's controller has seen that there are to be none. Before,
    it may still replace a pod that somebody has deleted, by the template that it knows."""

    @property
    def switches(self) -> bool:
        """No pod of the engine that runs from now on can be made yet: the template is still that of the other one."""
        other = bool(self.template) and self.template != _type_of(self.runs)
        return self.phase is Phase.STARTING and not self.differs and other

    @property
    def differs(self) -> bool:
        """Another engine is declared than the volumes are run with; another version of the same one is no other."""
        return _type_of(self.runs) != _type_of(self.wanted)

    @property
    def stopped(self) -> bool:
        """All brokers are stopped, or are to stop: nothing else is done to them."""
        return self.phase is Phase.STOPPING or (self.phase is Phase.STARTING and self.differs)

    @property
    def holds(self) -> bool:
        """The StatefulSet and the ConfigMap stay as they are, and so does the number of brokers."""
        return self.phase is Phase.ASKED or self.stopped

    @property
    def interrupts(self) -> bool:
        """The cluster is stopped, or has not come back yet."""
        return self.phase in (Phase.STOPPING, Phase.STARTING)


def label(engine: DeclaredEngine) -> str:
    """An engine as the annotation has it."""
    return f"{engine.type} {engine.version}" if engine.version else str(engine.type)


def title(label: str) -> str:
    """An engine as people say it."""
    type, _, version = label.partition(" ")
    return f"Apache Kafka {version}".rstrip() if type == "apache-kafka" else "Broadsheet"


def situation_of(cluster: Cluster, stateful_set: Mapping[str, Any] | None) -> Situation:
    """Where the exchange of a Cluster is."""
    declared = label(cluster.engine())
    if cluster.spec.brokers is None:
        return Situation()
    if stateful_set is None:
        return Situation(runs=declared, wanted=declared)
    annotations = _annotations(stateful_set)
    found = Situation(
        runs=annotations.get(ENGINE, "broadsheet"),
        wanted=declared,
        brokers=brokers_of(stateful_set),
        since=_time(annotations.get(SINCE, "")),
        template=_template_of(stateful_set),
        version=stateful_set.get("metadata", {}).get("resourceVersion", ""),
        empty=_is_empty(stateful_set),
    )
    known = annotations.get(PHASE, "")
    phase = Phase(known) if known in (Phase.STOPPING, Phase.STARTING) else Phase.ASKED if found.differs else Phase.NONE
    return replace(found, phase=phase)


def held(cluster: Cluster, situation: Situation) -> Cluster:
    """The Cluster with the engine that its volumes are run with, as long as that is to stay."""
    if not situation.holds:
        return cluster
    engine = _declared(situation.runs) or DEFAULT
    return cluster.model_copy(update={"spec": cluster.spec.model_copy(update={"engine": engine})})


def with_listeners(cluster: Cluster, situation: Situation, stateful_set: Mapping[str, Any]) -> Cluster:
    """The Cluster with the listeners that its brokers have, as long as those are to stay: its Services lead there."""
    ports = stateful_set["spec"]["template"]["spec"]["containers"][0].get("ports", ()) if situation.holds else ()
    found = [Listener(name=p["name"], port=p["containerPort"]) for p in ports if p["name"] not in PORTS_OF_OURS]
    if not found or [(f.name, f.port) for f in found] == [(d.name, d.port) for d in cluster.listeners()]:
        return cluster
    return cluster.model_copy(update={"spec": cluster.spec.model_copy(update={"listeners": found})})


def _declared(label: str) -> DeclaredEngine | None:
    """The engine of an annotation; None for one that only an operator with more versions knows."""
    type, _, version = label.partition(" ")
    try:
        return DeclaredEngine.model_validate({"type": type} | ({"version": version} if version else {}))
    except ValidationError:
        return None


def takes_anything(situation: Situation) -> bool:
    """Whether the wanted engine knows everything that the other one can have stored. Broadsheet never does: it serves
    less than Apache Kafka."""
    runs, wanted = _declared(situation.runs), _declared(situation.wanted)
    if runs is None or wanted is None or wanted.type is EngineType.BROADSHEET:
        return False
    return all(wanted.knows.get(name, (0, 0))[1] >= high for name, (_, high) in runs.knows.items())


def volumes_of_another(
    cluster: Cluster, stateful_set: Mapping[str, Any] | None, claims: Sequence[Mapping[str, Any]]
) -> str:
    """Why a new Cluster is not made on the volumes that a former one has left: another engine has run them, and what
    they have can only be asked of brokers that run. Empty where there is nothing against it."""
    if stateful_set is not None:
        return ""
    wanted = label(cluster.engine())
    for claim in claims:
        annotations = claim["metadata"].get("annotations") or {}
        known = annotations.get(ENGINE, "broadsheet" if QUORUM in annotations else "")
        if known and _type_of(known) != _type_of(wanted):
            return (
                f"the volume {claim['metadata']['name']} was run with {title(known)}, and the engine is "
                f"{title(wanted)}: set engine.type to {_type_of(known)}, and change it with engine.exchange: Stop when "
                f"the Cluster is Ready, or delete the claims of the Cluster if their records are not needed"
            )
    return ""


def under_way(stateful_set: Mapping[str, Any] | None) -> bool:
    """Whether the brokers are stopped for another engine, or have not come back yet."""
    return _annotations(stateful_set).get(PHASE, "") in (Phase.STOPPING, Phase.STARTING)


def brokers_of(stateful_set: Mapping[str, Any]) -> int:
    """How many brokers a StatefulSet is for: while they are all stopped it has no replicas."""
    remembered = _annotations(stateful_set).get(BROKERS, "")
    return int(remembered) if remembered.isdigit() else int(stateful_set["spec"]["replicas"])


def to_apply(
    children: Sequence[dict[str, Any]], situation: Situation, existing: Collection[str], *, keeps: str = ""
) -> list[dict[str, Any]]:
    """The children that are applied now. `existing`: kinds of those that are there, of the kinds that can be kept.

    `keeps`: the engine of the pod template, where that template is to stay for another reason. It starts no broker
    when the volumes are another engine's by now. The other engine's template is written over the very StatefulSet that
    was seen to be empty, and over no other: somebody may have scaled it since.
    """
    holds = situation.holds or bool(keeps and keeps != _type_of(situation.runs))
    holds = holds or (situation.switches and not situation.empty)
    result: list[dict[str, Any]] = []
    for child in children:
        if holds and child["kind"] in OTHERS_KEPT and child["kind"] in existing:
            continue
        if child["kind"] == "StatefulSet":
            engine = situation.runs if keeps else situation.wanted
            metadata = dict(child["metadata"])
            metadata["annotations"] = {**(metadata.get("annotations") or {}), ENGINE: engine}
            metadata |= {"resourceVersion": situation.version} if situation.switches else {}
            child = {**child, "metadata": metadata}
        result.append(child)
    return result


def _is_empty(stateful_set: Mapping[str, Any]) -> bool:
    status = stateful_set.get("status") or {}
    seen = int(status.get("observedGeneration", 0)) >= int(stateful_set.get("metadata", {}).get("generation", 1))
    return seen and not stateful_set["spec"]["replicas"] and not status.get("replicas", 0)


def _template_of(stateful_set: Mapping[str, Any]) -> str:
    engine = running_engine(stateful_set) if "template" in stateful_set["spec"] else None
    return str(engine.type) if engine is not None else ""


def _type_of(label: str) -> str:
    return label.partition(" ")[0]


def _annotations(stateful_set: Mapping[str, Any] | None) -> Mapping[str, str]:
    return (stateful_set.get("metadata", {}).get("annotations") or {}) if stateful_set else {}


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None

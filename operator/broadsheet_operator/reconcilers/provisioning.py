"""Renders the children of a Cluster on Kubernetes: one jinja2 template per kind, to plain objects.

Pure: a Cluster, what already exists and the operator's own settings go in, objects for server-side apply come out.

Two rules keep brokers from restarting by surprise. The pod template changes only when one of its *inputs* does (the
Cluster's spec, the image), and those are hashed into the annotation `broadsheet.io/inputs`: a newer operator that would
render the same inputs differently leaves a running StatefulSet's template alone. And an image that an operator has
chosen stays although a newer operator would choose another one; one that the Cluster named goes when its name goes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from broadsheet_operator.api import Cluster
from broadsheet_operator.api.cluster import Brokers
from broadsheet_operator.api.meta import API_VERSION, DeletionPolicy, SpecModel
from broadsheet_operator.api.quantities import parse_size
from broadsheet_operator.reconcilers import exchange_state, inputs, scaling
from broadsheet_operator.reconcilers.engines import Engine, engine_of
from broadsheet_operator.reconcilers.engines.broadsheet import FIRST_VOTERS
from broadsheet_operator.reconcilers.place import Address, Place
from broadsheet_operator.reconcilers.properties import ANNOTATION, needs_restart, remembered
from broadsheet_operator.reconcilers.quorum import LISTENER, initial_directory, wanted_voters
from broadsheet_operator.reconcilers.rendering import render
from broadsheet_operator.reconcilers.server_properties import rendered, server_properties

INPUTS = "broadsheet.io/inputs"
CLUSTER_ID = "broadsheet.io/cluster-id"
CLUSTER_LABEL = "broadsheet.io/cluster"
CHOSEN = "broadsheet.io/chosen-image"
"""Annotation of the StatefulSet: the image that an operator has chosen; empty while the Cluster names one."""
RENDERED = "broadsheet.io/rendered"
"""Annotation of the StatefulSet: a hash of its pod template as the operator rendered it."""
QUORUM = exchange_state.QUORUM
FORMED = "formed"
"""Annotation of the ConfigMap and of the volumes: there was a metadata quorum, so no broker may begin another one."""
RESTART = "broadsheet.io/restart"
"""Annotation of the Cluster that requests a restart of its brokers, once for each value; of the StatefulSet: the value
that its pod template has. A value that is removed asks for nothing."""
LOG_FORMAT = "broadsheet.log.format"
"""Broker property; JSON lines in pods, unless the Cluster says otherwise."""
CONTROLLER_PORT = 9093
HTTP_PORT = 9404
DATA_PATH = "/var/lib/kafka/data"
ZONE = "topology.kubernetes.io/zone"
GRACE_SECONDS = 90
POD_TOPOLOGY_LABELS = {ZONE, "topology.kubernetes.io/region"}
"""Labels that Kubernetes 1.35 and later copies from a node to its pods (PodTopologyLabelsAdmission)."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator itself brings."""

    image: str
    """Image of the brokers for Clusters that do not name one, at their creation."""
    canary_image: str = ""
    """Image of canaries: the operator's own. Empty: there can be none."""
    agent_image: str = ""
    """Image that brings the agent of Java's metrics to brokers of Apache Kafka. Empty: they have no metrics."""


@dataclass(frozen=True, slots=True)
class Existing:
    """What is already there of a Cluster, as the API server returns it."""

    stateful_set: Mapping[str, Any] | None = None
    claims: tuple[Mapping[str, Any], ...] = ()
    config_map: Mapping[str, Any] | None = None

    @property
    def kinds(self) -> frozenset[str]:
        """Which of the StatefulSet and the ConfigMap there are."""
        found = {"StatefulSet": self.stateful_set, "ConfigMap": self.config_map}
        return frozenset(kind for kind, item in found.items() if item is not None)


def children(
    cluster: Cluster, existing: Existing, settings: Settings, evictable: int | None = None, *, held: bool = False
) -> list[dict[str, Any]]:
    """All objects of the Cluster, in the order in which they are to be applied.

    `evictable`: brokers that may be evicted at once now; None: as many as the Cluster says. `held`: brokers keep what
    they run and are configured with, and a Cluster without any gets none.
    """
    brokers = cluster.spec.brokers
    if brokers is None:
        return []
    context = _context(cluster, brokers, existing, settings, evictable)
    names = ["service-account", "config-map", "headless-service", "bootstrap-service", "network-policy"]
    names += ["pod-disruption-budget", "stateful-set"]
    rendered = [render(name, context) for name in names]
    stateful_set = rendered[-1]
    rendered_hash = _hash(stateful_set["spec"]["template"])
    stateful_set["metadata"]["annotations"][RENDERED] = rendered_hash
    if held:
        return _held(rendered, existing)
    if existing.stateful_set is not None:
        _keep_what_cannot_change(stateful_set, existing.stateful_set)
        known = (existing.stateful_set["metadata"].get("annotations") or {}).get(RENDERED)
        # Rendered by this release and different nevertheless: it was edited, and is put back.
        if known != rendered_hash and _inputs_of(existing.stateful_set) == context["inputs_hash"]:
            _keep_template(stateful_set, existing.stateful_set)
            stateful_set["metadata"]["annotations"][RENDERED] = known or ""
    return rendered


def held_back(cluster: Cluster, existing: Existing) -> tuple[Cluster, str]:
    """The Cluster with as many brokers as it may have now, and why that is not the number it asks for.

    A Cluster grows at once and shrinks when its brokers are drained; the number stays while the first quorum forms,
    since its voters know each other by name, and for ever where the voters stand in the brokers' configuration.
    Before an exchange of the engine begins, the brokers also keep their listeners.
    """
    brokers = cluster.spec.brokers
    if brokers is None or existing.stateful_set is None:
        return cluster, ""
    situation = exchange_state.situation_of(cluster, existing.stateful_set)
    cluster = exchange_state.with_listeners(cluster, situation, existing.stateful_set)
    running = exchange_state.brokers_of(existing.stateful_set)
    if brokers.replicas == running:
        return cluster, ""
    now, words = running, ""  # while engines are exchanged: it grows or shrinks afterwards, which the exchange says
    if not situation.phase and static_voters(existing):
        words = f"the metadata quorum of this cluster is fixed: set brokers.replicas back to {running}"
    elif not situation.phase and not is_formed(existing):
        words = (
            f"brokers.replicas is {brokers.replicas}; the cluster of {running} has not formed its metadata quorum yet, "
            f"and grows or shrinks when it has"
        )
    elif not situation.phase:
        now = scaling.running_for(brokers.replicas, running)
    spec = cluster.spec.model_copy(update={"brokers": brokers.model_copy(update={"replicas": now})})
    return cluster.model_copy(update={"spec": spec}), words


def is_formed(existing: Existing) -> bool:
    """Whether a metadata quorum was seen in this Cluster, or on the volumes that a former one has left."""
    objects = [*existing.claims, *([existing.config_map] if existing.config_map else [])]
    return any(item["metadata"].get("annotations", {}).get(QUORUM) == FORMED for item in objects)


def to_mark(existing: Existing, engine: str) -> list[tuple[Mapping[str, Any], dict[str, str]]]:
    """What has to say from now on that there is a quorum, each with its annotations: the ConfigMap, and the volumes,
    which outlive it and name the engine that runs on them."""
    marks = {QUORUM: FORMED}
    wanted = [(claim, {**marks, exchange_state.ENGINE: engine}) for claim in existing.claims]
    wanted += [(existing.config_map, marks)] if existing.config_map else []
    return [
        (item, marks) for item, marks in wanted if marks.items() - (item["metadata"].get("annotations") or {}).items()
    ]


def static_voters(existing: Existing) -> str:
    """controller.quorum.voters of a Cluster that was made with a fixed quorum; else empty."""
    text = str((existing.config_map or {}).get("data", {}).get("server.properties", ""))
    lines = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return lines.get("controller.quorum.voters", "")


def controller_address(cluster: Cluster, broker: int) -> tuple[str, int]:
    """Where the other controllers reach a broker's."""
    name, namespace = cluster.metadata.name, cluster.metadata.namespace
    return f"{name}-brokers-{broker}.{name}-brokers.{namespace}.svc", CONTROLLER_PORT


RESTART_REASONS = ("ManualRollingUpdate", "PodHasOldRevision")
"""Why the operator restarts brokers, in Strimzi's words."""


def pod_is_outdated(pod: Mapping[str, Any], stateful_set: Mapping[str, Any]) -> str | None:
    """Why this pod has to restart to be what the StatefulSet says, in Strimzi's word for it; None if it need not."""
    have = pod["metadata"].get("annotations", {}).get(INPUTS)
    want = stateful_set["spec"]["template"]["metadata"].get("annotations", {}).get(INPUTS)
    if have == want:
        return None
    asked = inputs.is_restart_alone(pod, stateful_set["spec"]["template"])
    return "ManualRollingUpdate" if asked else "PodHasOldRevision"


def why_outdated(pod: Mapping[str, Any], stateful_set: Mapping[str, Any]) -> str:
    """Which difference a restart is for; empty where the pod does not say what it was started with."""
    return inputs.difference(pod, stateful_set["spec"]["template"])


def cluster_id(cluster: Cluster, existing: Existing) -> str:
    """Kafka's cluster id: that of volumes which are there already, else one made from the resource's uid.

    Derived from the uid it needs no state, so a reconcile that was interrupted makes the same one again.
    """
    for claim in existing.claims:
        known = claim["metadata"].get("annotations", {}).get(CLUSTER_ID)
        if known:
            return str(known)
    if cluster.status and cluster.status.cluster_id:
        return cluster.status.cluster_id
    raw = uuid.UUID(cluster.metadata.uid).bytes if cluster.metadata.uid else uuid.UUID(int=1).bytes
    text = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    return "A" + text[1:] if text.startswith("-") else text  # Kafka's tools would take it for an option


def place(cluster: Cluster, brokers: Brokers, identity: str, existing: Existing) -> Place:
    """Where the brokers run: node.id and advertised.listeners come from the pod."""
    return Place(
        cluster_id=identity,
        brokers=brokers.replicas,
        listeners=[Address(name=door.name.upper(), host="0.0.0.0", port=door.port) for door in cluster.listeners()],
        controller=Address(name=LISTENER, host="0.0.0.0", port=CONTROLLER_PORT),
        quorum=quorum_properties(cluster, brokers, existing),
        first_voters=first_voters(cluster, brokers, identity, existing),
        data=DATA_PATH,
        broadsheet={"broadsheet.http.listener": f"http://0.0.0.0:{HTTP_PORT}"},
    )


def quorum_properties(cluster: Cluster, brokers: Brokers, existing: Existing) -> dict[str, str]:
    """How a broker finds its quorum."""
    fixed = static_voters(existing)
    if fixed:
        return {"controller.quorum.voters": fixed}
    addresses = [controller_address(cluster, id) for id in wanted_voters(brokers.replicas)]
    return {"controller.quorum.bootstrap.servers": ",".join(f"{host}:{port}" for host, port in addresses)}


def first_voters(cluster: Cluster, brokers: Brokers, identity: str, existing: Existing) -> str:
    """Who forms the quorum, while there is none.

    The first voters are named only until the quorum was seen: a broker that loses its volume later must come back as
    an observer that asks, not as the voter that it was (KIP-853). Where all that the quorum ever knew is
    on the one volume that is lost, or on none that lasts, no broker can be asked, and it forms again.
    """
    if static_voters(existing) or (is_formed(existing) and not begins_again(brokers)):
        return ""
    addresses = {id: "{}:{}".format(*controller_address(cluster, id)) for id in wanted_voters(brokers.replicas)}
    return ",".join(f"{id}@{address}:{initial_directory(identity, id)}" for id, address in addresses.items())


def begins_again(brokers: Brokers) -> bool:
    """Whether a voter that comes back with nothing forms the quorum again, because no other broker has its metadata."""
    lasts = brokers.storage is not None and brokers.storage.size is not None
    return brokers.replicas == 1 or (len(wanted_voters(brokers.replicas)) == 1 and not lasts)


def claims_to_grow(brokers: Brokers, claims: tuple[Mapping[str, Any], ...]) -> list[tuple[str, str]]:
    """(claim, size) for volumes smaller than asked. A size is a minimum: a volume that is larger stays so."""
    if brokers.storage is None or brokers.storage.size is None:
        return []
    wanted = parse_size(brokers.storage.size)
    return [
        (claim["metadata"]["name"], brokers.storage.size)
        for claim in claims
        if parse_size(claim["spec"]["resources"]["requests"]["storage"]) < wanted
    ]


def most_unavailable(cluster: Cluster) -> int:
    """Brokers that may be evicted at once when all are in sync."""
    return cluster.spec.pod_disruption_budget.max_unavailable if cluster.spec.pod_disruption_budget else 1


def _when_scaled(brokers: Brokers) -> str:
    """A broker that was drained leaves nothing on its volume that is not elsewhere."""
    return (brokers.storage.deletion_policy if brokers.storage else DeletionPolicy.RETAIN).value


def _context(
    cluster: Cluster, brokers: Brokers, existing: Existing, settings: Settings, evictable: int | None
) -> dict[str, Any]:
    name, namespace = cluster.metadata.name, cluster.metadata.namespace
    identity = cluster_id(cluster, existing)
    engine = engine_of(cluster)
    image = cluster.spec.image or engine.image or _chosen_image(existing.stateful_set) or settings.image
    template = brokers.template
    where = place(cluster, brokers, identity, existing)
    properties = server_properties(cluster, where, engine)
    selector = {"app.kubernetes.io/name": "broadsheet", CLUSTER_LABEL: name}
    labels = selector | {"app.kubernetes.io/component": "broker", "app.kubernetes.io/managed-by": "broadsheet"}
    headless = f"{name}-brokers"
    topology_key = brokers.rack.topology_key if brokers.rack else ZONE
    context: dict[str, Any] = {
        "name": headless,
        "headless": headless,
        "bootstrap": f"{name}-bootstrap",
        "config_map": f"{name}-config",
        "config_annotations": {
            ANNOTATION: ",".join(remembered(cluster, existing.config_map)),
            **({QUORUM: FORMED} if is_formed(existing) else {}),
        },
        "cluster_id": identity,
        "replicas": brokers.replicas,
        "selector": selector,
        "labels": labels,
        "listeners": [{"name": listener.name, "port": listener.port} for listener in cluster.listeners()],
        "advertised_listeners": ",".join(
            f"{listener}://$(POD_NAME).{headless}.{namespace}.svc:{port}"
            for listener, port in [
                *((listener.name.upper(), listener.port) for listener in cluster.listeners()),
                (LISTENER, CONTROLLER_PORT),
            ]
        ),
        "controller_port": CONTROLLER_PORT,
        "http_port": HTTP_PORT,
        "data_path": DATA_PATH,
        "grace_seconds": GRACE_SECONDS,
        "properties": rendered(properties),
        "files": engine.files(cluster, where, settings.agent_image),
        "containers": engine.containers,
        "logs_json": LOG_FORMAT not in properties,  # no input: a newer operator restarts no broker for its log lines
        "image": image,
        "resources": brokers.resources.model_dump(mode="json", exclude_none=True) if brokers.resources else {},
        "storage": brokers.storage.model_dump(mode="json") if brokers.storage and brokers.storage.size else None,
        "topology_key": topology_key,
        "rack_from_pod": brokers.rack is not None and topology_key in POD_TOPOLOGY_LABELS,
        "template_labels": (template.labels if template else None) or {},
        "template_annotations": (template.annotations if template else None) or {},
        "node_selector": template.node_selector if template else None,
        "tolerations": [_plain(t) for t in template.tolerations] if template and template.tolerations else None,
        "affinity": _plain(template.affinity) if template and template.affinity else None,
        "priority_class_name": template.priority_class_name if template else None,
        "max_unavailable": most_unavailable(cluster) if evictable is None else evictable,
        "when_scaled": _when_scaled(brokers),
        **engine.values(cluster, settings.agent_image),  # the agent is no input, as with the format of logs
    }
    restart = cluster.metadata.annotations.get(RESTART) or _annotations(existing.stateful_set).get(RESTART)
    # Without one it must not be among the inputs, or an upgrade of the operator would restart brokers.
    started_with = _template_inputs(context, properties, engine, cluster) | (
        {inputs.RESTART: restart} if restart else {}
    )
    context["inputs_hash"] = _hash(started_with)
    named = cluster.spec.image or engine.image
    context["annotations"] = {INPUTS: context["inputs_hash"], CHOSEN: "" if named else image}
    context["annotations"] |= {RESTART: restart} if restart else {}
    context["started_with"] = {inputs.ANNOTATION: inputs.remembered(started_with)}
    context["metadata"] = metadata_maker(cluster, labels)
    return context


def _template_inputs(
    context: Mapping[str, Any], properties: Mapping[str, str], engine: Engine, cluster: Cluster
) -> dict[str, Any]:
    """What a broker is started with. Of the storage only whether there is any: a volume grows without a restart.

    The quorum is left out too: its voters change through Kafka's own orders (KIP-853), never by restarts.
    """
    keys = ["image", "listeners", "advertised_listeners", "resources", "template_labels", "template_annotations"]
    keys += ["node_selector", "tolerations", "affinity", "priority_class_name", "rack_from_pod", "topology_key"]
    quorum = {"controller.quorum.voters", "controller.quorum.bootstrap.servers", FIRST_VOTERS}
    static = {key: value for key, value in needs_restart(properties).items() if key not in quorum}
    common = {key: context[key] for key in keys} | {"properties": static, "storage": bool(context["storage"])}
    return common | dict(engine.started_with(cluster))


def metadata_maker(cluster: Cluster, labels: Mapping[str, str]) -> Any:
    """For templates: metadata of a child of the Cluster."""
    owner = {
        "apiVersion": API_VERSION,
        "kind": "Cluster",
        "name": cluster.metadata.name,
        "uid": cluster.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }

    def metadata(name: str, annotations: Mapping[str, str] | None = None) -> str:
        # The Cluster's own labels and annotations stay with it: Argo CD would claim a child that carried them.
        value: dict[str, Any] = {"name": name, "namespace": cluster.metadata.namespace, "labels": dict(labels)}
        if annotations:
            value["annotations"] = dict(annotations)
        return json.dumps(value | {"ownerReferences": [owner]})

    return metadata


def _keep_what_cannot_change(desired: dict[str, Any], existing: Mapping[str, Any]) -> None:
    """A StatefulSet's claim templates are immutable: growth happens on the claims themselves."""
    templates = existing["spec"].get("volumeClaimTemplates")
    if templates and "volumeClaimTemplates" in desired["spec"]:
        fields = ("apiVersion", "kind", "metadata", "spec")
        desired["spec"]["volumeClaimTemplates"] = [
            {key: template[key] for key in fields if key in template} for template in templates
        ]


def _held(rendered: list[dict[str, Any]], existing: Existing) -> list[dict[str, Any]]:
    """The children of a Cluster whose brokers stay as they are."""
    kept = []
    for child in rendered:
        if child["kind"] == "StatefulSet":
            if existing.stateful_set is None:
                continue
            _keep_what_cannot_change(child, existing.stateful_set)
            _keep_template(child, existing.stateful_set)
            known = _annotations(existing.stateful_set)
            for name in (INPUTS, RENDERED, CHOSEN, RESTART):
                child["metadata"]["annotations"].pop(name, None)
                child["metadata"]["annotations"] |= {name: known[name]} if name in known else {}
        elif child["kind"] == "ConfigMap" and existing.config_map is not None and existing.config_map.get("data"):
            child["data"] = dict(existing.config_map["data"])
        kept.append(child)
    return kept


def _keep_template(desired: dict[str, Any], existing: Mapping[str, Any]) -> None:
    desired["spec"]["template"] = existing["spec"]["template"]


def _inputs_of(stateful_set: Mapping[str, Any]) -> str | None:
    value = stateful_set["spec"]["template"]["metadata"].get("annotations", {}).get(INPUTS)
    return None if value is None else str(value)


def _chosen_image(stateful_set: Mapping[str, Any] | None) -> str | None:
    """The image that an operator has chosen for a running Cluster; None while there is no such choice.

    It is not read back from the pod template, where the Cluster's own image or a person's edit may be, unless the
    StatefulSet is from before choices were remembered.
    """
    if stateful_set is None:
        return None
    known = (stateful_set["metadata"].get("annotations") or {}).get(CHOSEN)
    return str(stateful_set["spec"]["template"]["spec"]["containers"][0]["image"]) if known is None else known or None


def _annotations(body: Mapping[str, Any] | None) -> Mapping[str, str]:
    return (body["metadata"].get("annotations") or {}) if body else {}


def _plain(model: SpecModel) -> dict[str, Any]:
    """A part of the spec as Kubernetes has it: only what is written there."""
    return model.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]

"""Cluster: brokers that the operator runs, or a Kafka cluster that is run elsewhere."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, field_validator, model_validator

from broadsheet_operator.api import canary_limits
from broadsheet_operator.api.engine import DEFAULT, Engine, refused_by_engine
from broadsheet_operator.api.maintenance import MaintenanceWindow
from broadsheet_operator.api.meta import (
    API_VERSION,
    ConfigKeys,
    ConfigMap,
    DeletionPolicy,
    Resource,
    SpecModel,
    Status,
    StatusModel,
    lenient_enum,
    unmanaged_keys,
)
from broadsheet_operator.api.owned import ANNOTATIONS, LABELS, PROPERTIES, first_refusal, owned_keys, refused_key
from broadsheet_operator.api.quantities import QUANTITY_HELP, QUANTITY_PATTERN, Size, parse_size, text_of_duration
from broadsheet_operator.api.scheduling import Affinity, Toleration

Port = Annotated[int, Field(ge=1, le=65535)]
LabelText = Annotated[str, StringConstraints(max_length=253)]
HOST_PORT_PATTERN = r"^[^\s:,/]+:[0-9]{1,5}$"
HOST_PORT_HELP = "host:port, as in broker.example.org:9092"
HostPort = Annotated[
    str,
    StringConstraints(pattern=HOST_PORT_PATTERN, max_length=260),
    Field(json_schema_extra={"x-help": HOST_PORT_HELP}),
]


def _quantity(value: object) -> object:
    if isinstance(value, (bool, float)):
        raise ValueError('write it in quotes, as in "500m", "1.5" or "2Gi"')
    return value


Quantity = Annotated[
    Annotated[
        str,
        StringConstraints(pattern=QUANTITY_PATTERN, max_length=32),
        Field(json_schema_extra={"x-help": QUANTITY_HELP}),
    ]
    | int,
    BeforeValidator(_quantity),
]


NAME = r"^[a-z]([-a-z0-9]{0,42}[a-z0-9])?$"
NAME_HELP = (
    "the name of a Cluster has at most 44 small letters, digits and hyphens, begins with a letter and does not end "
    "with a hyphen: its Services, its pods and their labels are named after it"
)
EXTERNAL_NAME = r"^[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?$"
EXTERNAL_NAME_HELP = (
    "the name of a Cluster has at most 52 small letters, digits and hyphens, and begins and ends with a letter or digit"
)


TAKEN_NAMES = ("controller", "quorum", "tcp-quorum", "tcp-prometheus")
TAKEN_NAMES_HELP = f"the names {', '.join(TAKEN_NAMES)} belong to listeners that brokers have anyway; choose another"
TAKEN_PORTS_HELP = "on Kubernetes brokers listen on 9093 for each other and on 9404 for metrics; choose another port"


class ListenerType(StrEnum):
    """Who can reach a listener."""

    INTERNAL = "internal"


class Listener(SpecModel):
    """A listener for clients."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z]([-a-z0-9]{0,13}[a-z0-9])?$", max_length=15, min_length=1)]
    """Lower-case name; Kafka sees it in upper case."""
    port: Port
    """The port. With `broadsheet up` broker 0 listens on it, broker 1 on the next one, and so on."""
    type: Annotated[ListenerType, lenient_enum(ListenerType)] = ListenerType.INTERNAL
    """Who can reach it: internal, from inside the Kubernetes cluster. There is no other way yet."""


class Storage(SpecModel):
    """Where a broker keeps its log."""

    size: Size | None = None
    """Size of each broker's volume: 10Gi. It can grow, never shrink, and brokers without volumes get none later. With
    `broadsheet up` the disk of this machine is the limit."""
    storage_class: LabelText | None = None
    """StorageClass of the volumes. Left out: the default one. It cannot be changed."""
    deletion_policy: Annotated[DeletionPolicy, lenient_enum(DeletionPolicy)] = DeletionPolicy.RETAIN
    """What happens to the volumes when the Cluster is deleted, and to those of brokers that were drained: Retain or
    Delete."""

    @field_validator("size")
    @classmethod
    def _some_room(cls, value: str | None) -> str | None:
        if value is not None and parse_size(value) == 0:
            raise ValueError("a volume must have room for something")
        return value


class Resources(SpecModel):
    """Requests and limits of a broker, as Kubernetes has them."""

    requests: (
        Annotated[dict[Annotated[str, StringConstraints(max_length=253)], Quantity], Field(max_length=16)] | None
    ) = None
    """CPU and memory reserved for a broker."""
    limits: (
        Annotated[dict[Annotated[str, StringConstraints(max_length=253)], Quantity], Field(max_length=16)] | None
    ) = None
    """The most CPU and memory that a broker may use."""


class Rack(SpecModel):
    """Zones."""

    topology_key: Annotated[str, StringConstraints(min_length=1, max_length=317)]
    """The node label whose value is a broker's rack: topology.kubernetes.io/zone."""


class PodTemplate(SpecModel):
    """What is added to the brokers' pods."""

    labels: Annotated[dict[LabelText, LabelText], Field(max_length=64)] | None = None
    """Labels for the pods."""
    annotations: (
        Annotated[dict[LabelText, Annotated[str, StringConstraints(max_length=4096)]], Field(max_length=64)] | None
    ) = None
    """Annotations for the pods."""
    node_selector: Annotated[dict[LabelText, LabelText], Field(max_length=64)] | None = None
    """Only nodes with these labels."""
    priority_class_name: LabelText | None = None
    """PriorityClass of the pods."""
    tolerations: Annotated[list[Toleration], Field(max_length=32)] | None = None
    """Tolerations of the pods, as Kubernetes has them."""
    affinity: Affinity | None = None
    """Affinity of the pods, as Kubernetes has it."""

    @model_validator(mode="after")
    def _leaves_ours(self) -> PodTemplate:
        for place, keys, also in (("labels", self.labels, LABELS), ("annotations", self.annotations, ANNOTATIONS)):
            owned = owned_keys(keys or (), also)
            if owned:
                raise ValueError(refused_key(place, owned[0]))
        return self


class Brokers(SpecModel):
    """The brokers that the operator runs."""

    # Filled in by the API server: the scale subresource reads it there.
    replicas: Annotated[int, Field(ge=1, le=100, json_schema_extra={"x-filled-in": True})] = 1
    """How many brokers. More are added at once; with fewer, those with the highest ids are drained before they go."""
    storage: Storage | None = None
    """Where they keep their logs."""
    resources: Resources | None = None
    """CPU and memory of each broker."""
    rack: Rack | None = None
    """How replicas are spread over zones."""
    template: PodTemplate | None = None
    """What is added to their pods."""


class External(SpecModel):
    """A Kafka cluster that is run elsewhere. Topics and ConsumerGroups work there too."""

    bootstrap_servers: Annotated[list[HostPort], Field(min_length=1, max_length=32, json_schema_extra={"x-set": True})]
    """host:port of some of its brokers."""


class ConsumerGroupMetrics(StrEnum):
    """Which consumer groups the operator exports."""

    ALL = "All"
    DECLARED = "Declared"
    NONE = "None"


class Metrics(SpecModel):
    """What the operator exports about the cluster. Brokers always answer /metrics; with `broadsheet up` they do when
    config sets broadsheet.http.listener."""

    consumer_groups: Annotated[ConsumerGroupMetrics, lenient_enum(ConsumerGroupMetrics)] = ConsumerGroupMetrics.ALL
    """Which consumer groups have their lag in the operator's /metrics: All, Declared ones only,
    or None."""
    exclude_groups: (
        Annotated[
            list[Annotated[str, StringConstraints(min_length=1, max_length=255)]],
            Field(max_length=64, json_schema_extra={"x-set": True}),
        ]
        | None
    ) = None
    """Ids of groups that are left out, with * and ? for any characters: console-consumer-*. Declared ones stay."""


class PodDisruptionBudget(SpecModel):
    """How many brokers may be evicted at once."""

    max_unavailable: Annotated[int, Field(ge=0, le=100)] = 1
    """How many brokers may be evicted at once."""


THROTTLE_PATTERN = r"^([1-9][0-9]{0,8}(k|Ki|M|Mi|G|Gi)|unlimited)$"
THROTTLE_HELP = "bytes per second with a unit, k, M, G or Ki, Mi, Gi, as in 50Mi, or unlimited"


class Reassignments(SpecModel):
    """How replicas move."""

    throttle: (
        Annotated[
            str,
            Field(
                pattern=THROTTLE_PATTERN,
                max_length=24,
                json_schema_extra={"pattern": THROTTLE_PATTERN, "x-help": THROTTLE_HELP},
            ),
        ]
        | None
    ) = None
    """Replication throttle per broker, in bytes per second: 50Mi, or unlimited. It must be more than
    what is written to the topics that move, or they never catch up. Left out: 50Mi."""


def _canary_interval(value: str) -> str:
    canary_limits.interval_ms(value)
    return value


def _canary_latency(value: str) -> str:
    canary_limits.latency_ms(value)
    return value


CanaryInterval = Annotated[
    str,
    BeforeValidator(text_of_duration),
    Field(
        max_length=64,
        json_schema_extra={"pattern": canary_limits.TIME_PATTERN, "x-help": canary_limits.INTERVAL_HELP},
    ),
    AfterValidator(_canary_interval),
]
CanaryLatency = Annotated[
    str,
    BeforeValidator(text_of_duration),
    Field(
        max_length=64,
        json_schema_extra={"pattern": canary_limits.TIME_PATTERN, "x-help": canary_limits.LATENCY_HELP},
    ),
    AfterValidator(_canary_latency),
]


class Canary(SpecModel):
    """A client that writes and reads records over every broker, and measures what clients see."""

    interval: CanaryInterval | None = None
    """Time between two records of a broker, from 100ms to 1h. Left out: 1s."""
    max_latency: CanaryLatency | None = None
    """What 99 % of the records of five minutes may take end to end before CanaryHealthy is False, from 1ms to 5s. Left
    out: 1s."""
    topic_name: (
        Annotated[
            str,
            StringConstraints(max_length=203),
            Field(json_schema_extra={"pattern": canary_limits.TOPIC_PATTERN, "x-help": canary_limits.TOPIC_HELP}),
            AfterValidator(canary_limits.topic_name),
        ]
        | None
    ) = None
    """Its topic. Left out: __broadsheet_canary. Not one of Kafka's own, and one that was not made for a canary is never
    used."""
    resources: Resources | None = None
    """CPU and memory of its pod; the memory limit is at least 64Mi. Left out: 20m CPU and 64Mi are requested, and 128Mi
    is the limit."""
    metrics_port: Port | None = None
    """With `broadsheet up`: the port of its /metrics. Left out: a free one. On Kubernetes it is 9404."""

    @field_validator("resources")
    @classmethod
    def _enough_memory(cls, value: Resources | None) -> Resources | None:
        if value is not None and value.limits is not None and "memory" in value.limits:
            canary_limits.check_memory(value.limits["memory"])
        return value

    @property
    def topic(self) -> str:
        """The name of its topic."""
        return self.topic_name or "__broadsheet_canary"


class AllowedNamespace(SpecModel):
    """A namespace that may define Topics and ConsumerGroups for this cluster."""

    namespace: Annotated[str, StringConstraints(pattern=r"^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?|[*])$", max_length=63)]
    """The namespace's name, or * for all."""
    prefix: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9._-]*$", max_length=200)] | None = None
    """Names of topics and groups declared there must start with this."""


class ClusterSpec(SpecModel):
    """The desired state: either brokers that the operator runs, or external."""

    brokers: Brokers | None = None
    """The brokers that the operator runs."""
    external: External | None = None
    """A Kafka cluster that is run elsewhere."""
    engine: Engine | None = None
    """Which program the brokers are: Broadsheet's own, or Apache Kafka. Left out: Broadsheet's own."""
    image: Annotated[str, StringConstraints(min_length=1, max_length=512)] | None = None
    """Container image of the brokers. Left out: the one that belongs to the operator, or apache/kafka with the tag
    engine.version."""
    listeners: (
        Annotated[list[Listener], Field(min_length=1, max_length=8, json_schema_extra={"x-list-map-keys": ["name"]})]
        | None
    ) = None
    """Listeners for clients. Default: one unencrypted listener, `plain`, on port 9092."""
    config: ConfigMap | None = None
    """Any broker property under its Kafka name, but for those that Broadsheet sets itself, such as listeners and
    log.dirs."""
    unmanaged_config: ConfigKeys | None = None
    """Properties of the running brokers that are left alone, because another tool sets them. null as a value in config
    means the same, but kubectl apply drops it without --server-side."""
    allowed_namespaces: (
        Annotated[list[AllowedNamespace], Field(max_length=100, json_schema_extra={"x-list-map-keys": ["namespace"]})]
        | None
    ) = None
    """Other namespaces that may define Topics and ConsumerGroups for this cluster."""
    metrics: Metrics | None = None
    """What the operator exports about the cluster."""
    pod_disruption_budget: PodDisruptionBudget | None = None
    """How many brokers may be evicted at once."""
    maintenance_windows: (
        Annotated[list[MaintenanceWindow], Field(max_length=20, json_schema_extra={"x-atomic": True})] | None
    ) = None
    """When brokers may be restarted and replicas moved. Left out or empty: at any time."""
    reassignment: Reassignments | None = None
    """How replicas move: for another replication factor, in a drain, in a rebalance."""
    canary: Canary | None = None
    """Write and read records over every broker all the time, and report in the condition CanaryHealthy and in metrics
    what clients see. {} takes the defaults."""
    paused: bool = False
    """True: nothing about this cluster is changed until it is false again."""

    @model_validator(mode="after")
    def _agree(self) -> ClusterSpec:
        if (self.brokers is None) == (self.external is None):
            raise ValueError("give either brokers (we run them) or external (someone else does), one of the two")
        listeners = self.listeners or []
        for what, values in (("name", [x.name for x in listeners]), ("port", [str(x.port) for x in listeners])):
            twice = next((v for v in values if values.count(v) > 1), None)
            if twice:
                raise ValueError(f"two listeners have the {what} {twice}")
        taken = next((x.name for x in listeners if x.name in TAKEN_NAMES), None)
        if taken:
            raise ValueError(f"{taken}: {TAKEN_NAMES_HELP}")
        self.unmanaged_keys()
        refusal = first_refusal(self.config or (), PROPERTIES)
        resources = self.brokers.resources if self.brokers else None
        limit = (resources.limits or {}).get("memory") if resources else None
        refusal = refusal or refused_by_engine(self.engine, self.config, limit, external=self.external is not None)
        if refusal:
            raise ValueError(refusal)
        return self

    def unmanaged_keys(self) -> frozenset[str]:
        """Broker properties that another tool sets."""
        return unmanaged_keys(self.config, self.unmanaged_config)


class BrokerStatus(StatusModel):
    """One broker."""

    id: Annotated[int, Field(ge=0)]
    """Its node id."""
    state: Annotated[str, StringConstraints(max_length=64)]
    """Running, Fenced, Starting, Stopping, Draining, Lost, Failed ..."""
    endpoint: Annotated[str, StringConstraints(max_length=300)] | None = None
    """Where clients reach it."""
    pod: Annotated[str, StringConstraints(max_length=253)] | None = None
    """Its pod on Kubernetes."""
    rack: Annotated[str, StringConstraints(max_length=253)] | None = None
    """Its zone."""
    leaders: Annotated[int, Field(ge=0)] | None = None
    """Partitions it leads."""
    replicas: Annotated[int, Field(ge=0)] | None = None
    """Partitions it keeps a replica of."""
    bytes: Annotated[int, Field(ge=0)] | None = None
    """Bytes of these replicas on its disk, not older than five minutes; /metrics of the operator has it exactly."""
    message: Annotated[str, StringConstraints(max_length=1024)] | None = None
    """What is wrong."""


class ClusterStatus(Status):
    """The observed state of the cluster."""

    cluster_id: Annotated[str, StringConstraints(max_length=64)] | None = None
    """Kafka's cluster id."""
    bootstrap_servers: Annotated[str, StringConstraints(max_length=4096)] | None = None
    """What clients put into bootstrap.servers."""
    controller: int | None = None
    """Node id of the active controller."""
    replicas: Annotated[int, Field(ge=0)] | None = None
    """How many brokers there are."""
    ready_replicas: Annotated[int, Field(ge=0)] | None = None
    """How many brokers take requests."""
    selector: Annotated[str, StringConstraints(max_length=1024)] | None = None
    """Label selector of the brokers' pods, for the scale subresource."""
    brokers: Annotated[list[BrokerStatus], Field(max_length=100, json_schema_extra={"x-list-map-keys": ["id"]})] = (
        Field(default_factory=list)
    )
    """Each broker."""
    topics: Annotated[int, Field(ge=0)] | None = None
    """Topics in the cluster, without Kafka's internal ones."""
    under_replicated_partitions: Annotated[int, Field(ge=0)] | None = None
    """Partitions with a replica that is not in sync."""
    under_min_isr_partitions: Annotated[int, Field(ge=0)] | None = None
    """Partitions that do not take writes with acks=all, because too few replicas are in sync."""
    offline_partitions: Annotated[int, Field(ge=0)] | None = None
    """Partitions without a leader."""
    engine: Annotated[str, StringConstraints(max_length=64)] | None = None
    """The engine that the brokers' volumes are run with: broadsheet, or apache-kafka 4.3.0."""
    exchange: Annotated[str, StringConstraints(max_length=1024)] | None = None
    """What an exchange of the engine is doing or waiting for."""
    rollout: Annotated[str, StringConstraints(max_length=1024)] | None = None
    """What a rolling change is doing or waiting for."""
    maintenance_window: Annotated[str, StringConstraints(max_length=256)] | None = None
    """Whether a maintenance window is open, and until when, or when the next one opens."""
    scaling: Annotated[str, StringConstraints(max_length=1024)] | None = None
    """What is being done to reach the declared number of brokers, or to spread partitions over them."""
    voters: Annotated[list[int], Field(max_length=100)] | None = None
    """Node ids of the brokers that vote in the metadata quorum."""
    metadata_version: Annotated[str, StringConstraints(max_length=64)] | None = None
    """The metadata.version that is finalized, as Kafka names it. Only of a cluster with spec.engine."""
    features: Annotated[dict[Annotated[str, StringConstraints(max_length=64)], int], Field(max_length=32)] | None = None
    """The levels of other features that are finalized. Only of a cluster with spec.engine."""


class Cluster(Resource):
    """A Kafka cluster: brokers that the operator runs, or one that is run elsewhere."""

    PLURAL: ClassVar[str] = "clusters"

    api_version: Literal["broadsheet.io/v1alpha1"] = API_VERSION
    kind: Literal["Cluster"] = "Cluster"
    spec: ClusterSpec
    status: ClusterStatus | None = None

    @model_validator(mode="after")
    def _name_fits(self) -> Cluster:
        pattern, words = (NAME, NAME_HELP) if self.spec.brokers is not None else (EXTERNAL_NAME, EXTERNAL_NAME_HELP)
        if not re.match(pattern, self.metadata.name):
            raise ValueError(f"the name {self.metadata.name} does not fit; {words}")
        return self

    def engine(self) -> Engine:
        """The engine, with the default one if none is given."""
        return self.spec.engine or DEFAULT

    def listeners(self) -> list[Listener]:
        """The listeners, with the default one if none is given."""
        return self.spec.listeners or [Listener(name="plain", port=9092)]

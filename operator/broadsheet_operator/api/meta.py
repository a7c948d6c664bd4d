"""What the three kinds share: names, metadata, conditions and the base models."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

from broadsheet_operator.api.keys import ResourceKey

GROUP = "broadsheet.io"
VERSION = "v1alpha1"
API_VERSION: Final = "broadsheet.io/v1alpha1"


class SpecModel(BaseModel):
    """A part of what a person writes: an unknown field is a mistake."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        strict=True,
        frozen=True,
        use_attribute_docstrings=True,
    )


class StatusModel(BaseModel):
    """A part of what the operator writes.

    It must never be what stops a round: fields that an older or newer operator wrote are dropped, and what is longer
    than the schema allows is cut, since the API server would refuse the whole status for it.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _cut_to_size(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        cut = dict(values)
        for name, info in cls.model_fields.items():
            for key in (name, info.alias or name):
                if key in cut:
                    cut[key] = _cut(cut[key], [*info.metadata, *_limits(info.annotation)], info.annotation)
        return cut


def _limits(annotation: Any) -> list[Any]:
    """Everything that annotates a type, also inside of a union with None."""
    found: list[Any] = []
    if get_origin(annotation) is Annotated:
        inner, *extras = get_args(annotation)
        return [*extras, *_limits(inner)]
    if get_origin(annotation) not in (list, dict):
        for part in get_args(annotation):
            found += _limits(part)
    return found


def _container(annotation: Any) -> Any:
    """The list or dict that a type is underneath its annotations and a union with None, or None."""
    if get_origin(annotation) in (list, dict):
        return annotation
    return next(filter(None, map(_container, get_args(annotation))), None) if get_args(annotation) else None


def _cut(value: Any, limits: list[Any], annotation: Any) -> Any:
    """Text, a list or a map without what is more than its limit; text says that it goes on."""
    most = None
    for limit in limits:
        inside = limit.metadata if isinstance(limit, FieldInfo) else [limit]
        for one in inside:
            most = getattr(one, "max_length", None) or most
    if isinstance(value, str):
        return value if most is None or len(value) <= most else value[: most - 3] + "..." if most > 3 else value[:most]
    if isinstance(value, list):
        item = (get_args(_container(annotation)) or (Any,))[0]
        return [_cut(entry, _limits(item), item) for entry in value[:most]]
    if isinstance(value, Mapping):
        item = (get_args(_container(annotation)) or (Any, Any))[-1]
        kept = list(value.items())[:most]
        return {key: _cut(entry, _limits(item), item) for key, entry in kept}
    return value


class DeletionPolicy(StrEnum):
    """What becomes of the thing in Kafka when its resource is deleted."""

    RETAIN = "Retain"
    DELETE = "Delete"


def lenient_enum(kind: type[StrEnum]) -> Any:
    """A strict model takes enum members only; manifests hold their text."""

    def of_text(value: object) -> object:
        try:
            return kind(str(value))
        except ValueError:
            raise ValueError(f"must be one of: {', '.join(kind)}") from None

    return BeforeValidator(of_text)


ResourceName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$", max_length=253, min_length=1)
]
CLUSTER_PATTERN = r"^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/)?[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?$"
CLUSTER_HELP = (
    "the name of a Cluster, or namespace/name; a name has small letters, digits and hyphens only, and begins and ends "
    "with a letter or digit"
)
ClusterReference = Annotated[
    str,
    StringConstraints(pattern=CLUSTER_PATTERN, min_length=1, max_length=116),
    Field(json_schema_extra={"x-help": CLUSTER_HELP}),
]
TOPIC_PATTERN = r"^[a-zA-Z0-9._-]+$"
TOPIC_HELP = "a topic's name: letters, digits, dots, underscores and hyphens only"
TopicName = Annotated[
    str,
    StringConstraints(pattern=TOPIC_PATTERN, min_length=1, max_length=249),
    Field(json_schema_extra={"x-help": TOPIC_HELP}),
]


def _scalar(value: object) -> object:
    """A Kafka property's value: text or a whole number; the API server takes nothing else for it."""
    if isinstance(value, bool):
        raise ValueError(f'write "{str(value).lower()}" in quotes: a value is text or a whole number')
    if isinstance(value, float):
        raise ValueError(f'write "{value}" in quotes: a value is text or a whole number')
    if isinstance(value, (dict, list)):
        raise ValueError("must be text or a whole number (or null: leave this key alone)")
    return value


ConfigKey = Annotated[str, StringConstraints(min_length=1, max_length=128)]
ConfigText = Annotated[str, StringConstraints(max_length=1024)]
ConfigValue = Annotated[
    ConfigText | int | None, BeforeValidator(_scalar), Field(json_schema_extra={"x-nullable": True})
]
ConfigMap = Annotated[dict[ConfigKey, ConfigValue], Field(max_length=256)]
ConfigKeys = Annotated[list[ConfigKey], Field(max_length=256, json_schema_extra={"x-set": True})]


def unmanaged_keys(config: dict[str, Any] | None, unmanaged: list[str] | None) -> frozenset[str]:
    """Keys that another tool sets: those that are listed, and those with null. ValueError for one that is in both.

    `kubectl apply` drops a null on its way to the API server, so that only the list works with every tool.
    """
    twice = sorted(set(config or ()) & set(unmanaged or ()))
    if twice:
        raise ValueError(f"{twice[0]} is in config and in unmanagedConfig; either it is set here or somewhere else")
    return frozenset(unmanaged or ()) | {key for key, value in (config or {}).items() if value is None}


class ObjectMeta(BaseModel):
    """The part of Kubernetes' ObjectMeta that we read; the rest is carried along."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow", frozen=True)

    name: ResourceName
    namespace: str = ""
    uid: str = ""
    generation: int = 1
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class Condition(StatusModel):
    """One statement about the resource, as metav1.Condition."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=316)]
    """What the statement is about: Ready, Reconciling, Stalled, InSync, LagWithinLimits."""
    status: Literal["True", "False", "Unknown"]
    """True, False or Unknown."""
    reason: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    """One word, for programs: why it has this status."""
    message: Annotated[str, StringConstraints(max_length=32768)] = ""
    """A sentence, for people."""
    last_transition_time: Annotated[str, Field(max_length=40, json_schema_extra={"format": "date-time"})]
    """When the status last went from one value to another."""
    observed_generation: Annotated[int, Field(ge=0)] = 0
    """The generation of the resource that this statement is about."""


class Status(StatusModel):
    """What every status has."""

    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """The generation of the resource that was last acted upon."""
    conditions: Annotated[list[Condition], Field(max_length=16, json_schema_extra={"x-list-map-keys": ["type"]})] = (
        Field(default_factory=list)
    )
    """Statements about the resource. Ready is always there; Reconciling and Stalled only while they are true."""

    def written(self) -> dict[str, Any]:
        """The status as it is written, without what is unset or empty.

        With server-side apply an empty map that had entries before becomes null, which the schema refuses.
        """
        written: dict[str, Any] = without_empty(self.model_dump(mode="json", by_alias=True, exclude_none=True))
        return written

    def condition(self, kind: str) -> Condition | None:
        """The condition of this type, if there is one."""
        return next((c for c in self.conditions if c.type == kind), None)


def without_empty(value: Any) -> Any:
    """Plain data without maps and lists that have nothing in them. An empty map inside of a list stays one entry."""
    if isinstance(value, dict):
        cut = {key: without_empty(entry) for key, entry in value.items()}
        return {key: entry for key, entry in cut.items() if entry not in ({}, [])}
    if isinstance(value, list):
        return [without_empty(entry) for entry in value]
    return value


class Resource(BaseModel):
    """Base of all kinds."""

    PLURAL: ClassVar[str]
    """The kind's name in URLs and on command lines."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    metadata: ObjectMeta

    @property
    def key(self) -> ResourceKey:
        """Namespace and name."""
        return ResourceKey(self.metadata.namespace, self.metadata.name)

    def manifest(self) -> dict[str, Any]:
        """The resource as plain data with Kubernetes' field names, without what is unset."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class Dependent(Resource):
    """Base of what belongs to a Cluster: something in Kafka that a resource declares."""

    NAME_FIELD: ClassVar[str]
    """The field of spec that holds its name in Kafka; left out, the resource's own name is meant."""

    api_version: Any
    kind: Any
    spec: Any
    status: Any = None

    @property
    def kafka_name(self) -> str:
        """The name of the thing in Kafka."""
        return str(self.manifest()["spec"].get(self.NAME_FIELD) or self.metadata.name)

    @property
    def cluster_key(self) -> ResourceKey:
        """The Cluster that spec.cluster names, as `name` or `namespace/name`."""
        namespace, _, name = self.spec.cluster.rpartition("/")
        return ResourceKey(namespace or self.metadata.namespace, name)

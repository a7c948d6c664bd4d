"""spec.engine of a Cluster: which program its brokers are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints, field_validator, model_validator

from broadsheet_operator.api import engine_versions as versions
from broadsheet_operator.api.engine_versions import METADATA_VERSION, VERSION_HELP, VERSION_PATTERN, VERSIONS, Levels
from broadsheet_operator.api.meta import SpecModel, lenient_enum
from broadsheet_operator.api.quantities import QUANTITY_PATTERN, Size, parse_quantity, parse_size


class EngineType(StrEnum):
    """The program."""

    BROADSHEET = "broadsheet"
    APACHE_KAFKA = "apache-kafka"


class Exchange(StrEnum):
    """How a running cluster may get another engine."""

    STOP = "Stop"


LEAST_HEAP = "64Mi"
OPTION_PATTERN = r"^-[!-~]+$"
OPTION_HELP = "an option of the JVM: it begins with a hyphen and has no blanks, as in -XX:+UseZGC"
HEAP_OPTION = r"^-(Xm[sx]|XX:(MaxHeapSize|InitialHeapSize|MaxRAM|InitialRAM|MinRAM)).*$"
HEAP_OPTION_HELP = "set engine.jvm.heap, and not an option: the heap has to fit into the memory limit"
KAFKA_ONLY = "goes with engine.type apache-kafka, and only with it"
NEEDS_VERSION = f"engine.type apache-kafka needs engine.version: {VERSION_HELP}"
NO_PROPERTIES_OF_OURS = (
    "config: properties whose names begin with broadsheet. are only known to Broadsheet's own brokers, and engine.type "
    "is apache-kafka; remove them"
)
NOT_EXTERNAL = "engine goes with brokers: a cluster that is run elsewhere has the engine that it has"
NO_EXCHANGE = (
    "engine.type of a cluster that exists changes only with engine.exchange: Stop, which stops all its brokers and "
    "starts the other engine on their volumes; write both, or set engine.type back"
)
NO_HOME = "engine.home is for `broadsheet up`; on Kubernetes the engine is in the image (spec.image); remove it"
LEAST_LIMIT = "128Mi"
LIMIT_HELP = (
    f"Apache Kafka does not run with a memory limit below {LEAST_LIMIT}: half of it is the heap, which has at least "
    f"{LEAST_HEAP}; raise brokers.resources.limits.memory, to 1Gi or more for real use"
)
HEAP_HELP = (
    "engine.jvm.heap must be less than the memory limit of brokers.resources: the JVM needs more than its heap. Left "
    "out, the heap is half of the limit"
)


def metadata_help(title: str, known: Mapping[str, Levels]) -> str:
    """Which metadata versions an engine may finalize."""
    first = next(iter(versions.METADATA_VERSIONS))
    return f"engine.metadataVersion of {title}: from {first} to {versions.name_of(known[METADATA_VERSION][1])}"


JvmOption = Annotated[
    str,
    StringConstraints(pattern=OPTION_PATTERN, max_length=1024),
    Field(json_schema_extra={"x-help": OPTION_HELP}),
]


class Jvm(SpecModel):
    """The Java virtual machine of Apache Kafka."""

    heap: Size | None = None
    """Size of the heap, as 2Gi; less than the memory limit and at least 64Mi. Left out: half of the memory limit of
    brokers.resources, at most 5Gi; 1Gi where there is no limit."""
    options: Annotated[list[JvmOption], Field(max_length=64)] | None = None
    """Options of the JVM: -XX:+UseZGC. One that chooses a garbage collector replaces Kafka's own choice, G1."""

    @field_validator("heap")
    @classmethod
    def _enough(cls, value: str | None) -> str | None:
        if value is not None and parse_size(value) < parse_size(LEAST_HEAP):
            raise ValueError(f"a heap has at least {LEAST_HEAP}")
        return value

    @field_validator("options")
    @classmethod
    def _no_heap(cls, value: list[str] | None) -> list[str] | None:
        found = next((option for option in value or () if re.match(HEAP_OPTION, option)), None)
        if found:
            raise ValueError(f"{found}: {HEAP_OPTION_HELP}")
        return value


def _as_text(value: object) -> object:
    if isinstance(value, float):
        raise ValueError('write it in quotes, as in "4.3"')
    return value


def _with_patch(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"write {VERSION_HELP}, as in 4.3.0")
    return value


Level = Annotated[int, Field(ge=0, le=32767)]


class Engine(SpecModel):
    """Which program the brokers are: Broadsheet's own, or Apache Kafka."""

    type: Annotated[EngineType, lenient_enum(EngineType)] = EngineType.BROADSHEET
    """broadsheet: Broadsheet's own broker. apache-kafka: Apache Kafka, unmodified."""
    version: (
        Annotated[
            str,
            BeforeValidator(_with_patch),
            StringConstraints(pattern=VERSION_PATTERN, max_length=16),
            Field(json_schema_extra={"pattern": VERSION_PATTERN, "x-help": VERSION_HELP}),
        ]
        | None
    ) = None
    """Version of Apache Kafka: 4.3.0. Its image is apache/kafka with this tag, unless spec.image names another one,
    which must have the same version. Brokers restart one by one for another version."""
    metadata_version: Annotated[str, BeforeValidator(_as_text), StringConstraints(max_length=16)] | None = None
    """The metadata.version that is finalized, as Kafka names it: 4.3-IV0. Left out: what the engine formats new
    clusters with, and no change afterwards. It is raised when all brokers know it, and never lowered."""
    features: Annotated[dict[Annotated[str, StringConstraints(max_length=64)], Level], Field(max_length=16)] | None = (
        None
    )
    """Other features to finalize, with names and levels as Kafka has them: group.version: 1. Those that are left out
    stay as they are."""
    exchange: Annotated[Exchange, lenient_enum(Exchange)] | None = None
    """How a cluster that exists may change its engine.type. Stop: all brokers stop, and the other engine starts on
    their volumes. Left out: not at all."""
    jvm: Jvm | None = None
    """The Java virtual machine of Apache Kafka."""
    home: Annotated[str, StringConstraints(min_length=1, max_length=1024)] | None = None
    """With `broadsheet up`: the directory of Apache Kafka, which has libs/*.jar. Not on Kubernetes, where it is in the
    image."""

    @model_validator(mode="after")
    def _agree(self) -> Engine:
        if self.type is EngineType.BROADSHEET:
            for name, value in (("version", self.version), ("jvm", self.jvm), ("home", self.home)):
                if value is not None:
                    raise ValueError(f"{name} {KAFKA_ONLY}")
        elif self.version is None:
            raise ValueError(NEEDS_VERSION)
        refusal = self._refused_level()
        if refusal:
            raise ValueError(refusal)
        return self

    def _refused_level(self) -> str:
        known = self.knows
        if self.metadata_version is not None:
            level = versions.level_of(self.metadata_version)
            if level is None or level > known[METADATA_VERSION][1]:
                return f"{self.metadata_version}: write {metadata_help(self.title, known)}"
        for name, level in sorted((self.features or {}).items()):
            if name == METADATA_VERSION:
                return "features: set metadata.version in engine.metadataVersion"
            if name not in versions.SETTABLE:
                return f"features: {name} cannot be set; allowed are {', '.join(versions.SETTABLE)}"
            low, high = known[name]
            if not low <= level <= high:
                return f"features: {self.title} knows {name} from {low} to {high}, and not {level}"
        return ""

    @property
    def title(self) -> str:
        """As people say it."""
        return f"Apache Kafka {self.version}" if self.type is EngineType.APACHE_KAFKA else "Broadsheet"

    @property
    def knows(self) -> Mapping[str, Levels]:
        """The features that this engine knows, and their levels: it cannot start on a cluster beyond them."""
        return VERSIONS[versions.minor_of(self.version)] if self.version is not None else versions.BROADSHEET

    @property
    def wanted_levels(self) -> dict[str, int]:
        """The levels that are to be finalized, by feature."""
        levels = dict(self.features or {})
        if self.metadata_version is not None:
            level = versions.level_of(self.metadata_version)
            assert level is not None
            levels[METADATA_VERSION] = level
        return levels


DEFAULT = Engine()
"""The engine of a Cluster that names none."""


def refused_by_engine(
    engine: Engine | None, config: Mapping[str, Any] | None, memory_limit: str | int | None, *, external: bool
) -> str:
    """Why a Cluster's other fields do not go with its engine; empty when they do."""
    if engine is None:
        return ""
    if external:
        return NOT_EXTERNAL
    if engine.type is EngineType.APACHE_KAFKA:
        ours = next((key for key in sorted(config or ()) if key.startswith("broadsheet.")), None)
        if ours:
            return f"{ours}: {NO_PROPERTIES_OF_OURS}"
    if memory_limit is None or not re.match(QUANTITY_PATTERN, str(memory_limit)):
        return ""
    heap, limit = engine.jvm.heap if engine.jvm else None, parse_quantity(str(memory_limit))
    if heap is not None and parse_size(heap) >= limit:
        return f"heap {heap}, memory limit {memory_limit}: {HEAP_HELP}"
    if engine.type is EngineType.APACHE_KAFKA and limit < parse_size(LEAST_LIMIT):
        return f"memory limit {memory_limit}: {LIMIT_HELP}"
    return ""


def is_apache_kafka(spec: Mapping[str, Any]) -> bool:
    """Whether the spec of a Cluster, as the API server has it, declares that engine."""
    return (spec.get("engine") or {}).get("type") == EngineType.APACHE_KAFKA

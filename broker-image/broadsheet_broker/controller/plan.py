"""The result of a decision: records for the metadata log, and the answer once they are committed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

from broadsheet_broker.controller.partition_change import Defaults
from broadsheet_broker.metadata.image import ClusterImage

Answer = TypeVar("Answer")

MAX_RECORDS: Final = 10_000
"""Records of one atomic batch of the metadata log, as Kafka bounds them."""


@dataclass(slots=True)
class Plan(Generic[Answer]):
    """Records to append as one atomic batch (none: nothing changes), and the answer for then."""

    answer: Answer
    records: list[Any] = field(default_factory=list)


@dataclass(slots=True)
class Context:
    """What planners need beside the image: settings and the sources of randomness."""

    image: ClusterImage
    random: Random
    new_id: Callable[[], UUID]
    num_partitions: int
    """num.partitions: for topics created with -1 partitions."""
    replication_factor: int
    """default.replication.factor."""
    validate_topic_config: Callable[[Mapping[str, str]], None]
    """Raises KafkaError(INVALID_CONFIG) with the key, the value and what is allowed."""
    colliding: Callable[[str], str | None]
    """names.NameIndex.colliding."""
    directory_of: Callable[[int], UUID]
    """The log directory of a broker that takes its next replica."""
    defaults: Defaults = field(default_factory=Defaults)
    """What the configuration says about elections."""
    placed: int = 0
    """Topics that got their replicas in this request."""

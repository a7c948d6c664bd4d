"""Brokers and controllers enter the cluster: registration, fencing, unfencing (KIP-631, KIP-919)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from broadsheet_broker.controller.elections import broker_came, broker_went
from broadsheet_broker.metadata.image import METADATA_VERSION, BrokerInfo, ClusterImage, ControllerInfo, Endpoint
from broadsheet_broker.metadata.records import V3_3_IV3, V3_7_IV2, V4_3_IV0
from broadsheet_broker.metadata.snapshot_records import broker_record, controller_record
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.broker_registration_change_record import BrokerRegistrationChangeRecord

SUPPORTED_FEATURES: Final[Mapping[str, tuple[int, int]]] = {
    METADATA_VERSION: (V3_3_IV3, V4_3_IV0),
    "kraft.version": (0, 1),
}
"""Levels that this build acts on. Kafka leaves features out that are supported at level 0 only."""

_KAFKA_4_3: Final[Mapping[str, int]] = {
    "eligible.leader.replicas.version": 1,
    "group.version": 1,
    "share.version": 1,
    "streams.version": 1,
    "transaction.version": 2,
}
"""The highest levels in Kafka 4.3: a directory that Kafka formatted may have them finalized."""

FENCE: Final = 1
UNFENCE: Final = -1
"""Values of BrokerRegistrationChangeRecord.fenced; 0 leaves it alone."""


@dataclass(frozen=True, slots=True)
class Registration:
    """What a broker says of itself when it starts."""

    broker_id: int
    incarnation_id: UUID
    endpoints: Mapping[str, Endpoint]
    log_dirs: tuple[UUID, ...]
    rack: str | None = None


def supported_features(image: ClusterImage) -> dict[str, tuple[int, int]]:
    """What this node registers: its own features, and those that the cluster has finalized already, which Kafka wrote
    there and which it must find supported when it takes the directory back."""
    features = dict(SUPPORTED_FEATURES)
    for name, level in image.features.items():
        if name not in features and level <= _KAFKA_4_3.get(name, 0):
            features[name] = (0, _KAFKA_4_3[name])
    return features


def check_features(image: ClusterImage) -> None:
    """Refuse a cluster that is at levels this build cannot read or would misunderstand."""
    supported = supported_features(image)
    for name, level in image.features.items():
        low, high = supported.get(name, (0, 0))
        if not low <= level <= high:
            raise KafkaError(
                ErrorCode.UNSUPPORTED_VERSION,
                f"The cluster metadata is at level {level} of feature {name}, and this build supports {low} to {high}. "
                "Start a newer version on it, or lower the feature with kafka-features.sh first.",
            )


def register_broker(image: ClusterImage, registration: Registration, epoch: int) -> list[Any]:
    """Records for a new life of a broker. It is fenced until it has caught up; what its former life led is given up.

    `epoch` is the offset of the first of these records.
    """
    records: list[Any] = []
    if image.brokers.get(registration.broker_id) is not None:
        records += broker_went(image, registration.broker_id)
    level = image.features.get(METADATA_VERSION, V4_3_IV0)
    for other in image.brokers.values():
        shared = set(other.log_dirs) & set(registration.log_dirs)
        if shared and other.id != registration.broker_id:
            raise KafkaError(
                ErrorCode.INVALID_REGISTRATION,
                f"Broker {other.id} is already registered with directory {shared.pop()}",
            )
    records.append(
        broker_record(
            BrokerInfo(
                id=registration.broker_id,
                epoch=epoch,
                incarnation_id=registration.incarnation_id,
                endpoints=registration.endpoints,
                features=supported_features(image),
                rack=registration.rack,
                fenced=True,
                log_dirs=registration.log_dirs if level >= V3_7_IV2 else (),
                cordoned_log_dirs=() if level >= V4_3_IV0 else None,
            )
        )
    )
    return records


def unfence_broker(image: ClusterImage, broker_id: int) -> list[Any]:
    """Records that let a registered broker take part: it leads what waited for it."""
    broker = image.brokers[broker_id]
    if not broker.fenced:
        return []
    change = BrokerRegistrationChangeRecord(broker_id=broker_id, broker_epoch=broker.epoch, fenced=UNFENCE)
    return [change, *broker_came(image, broker_id)]


def fence_broker(image: ClusterImage, broker_id: int) -> list[Any]:
    """Records that take a broker out, because it stops or is silent."""
    broker = image.brokers.get(broker_id)
    if broker is None or broker.fenced:
        return []
    change = BrokerRegistrationChangeRecord(broker_id=broker_id, broker_epoch=broker.epoch, fenced=FENCE)
    return [*broker_went(image, broker_id), change]


def register_controller(
    image: ClusterImage, node_id: int, incarnation_id: UUID, endpoints: Mapping[str, Endpoint]
) -> list[Any]:
    info = ControllerInfo(node_id, incarnation_id, endpoints, supported_features(image))
    return [controller_record(info)]

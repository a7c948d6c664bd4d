"""Brokers and controllers enter the cluster: registration, fencing, unfencing (KIP-631, KIP-919)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from broadsheet_broker.controller import eligible_replicas
from broadsheet_broker.controller.elections import broker_came, broker_went
from broadsheet_broker.controller.partition_change import Defaults
from broadsheet_broker.metadata.image import METADATA_VERSION, BrokerInfo, ClusterImage, ControllerInfo, Endpoint
from broadsheet_broker.metadata.records import V3_3_IV3, V3_7_IV2, V4_3_IV0
from broadsheet_broker.metadata.snapshot_records import broker_record, controller_record
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.broker_registration_change_record import BrokerRegistrationChangeRecord
from broadsheet_broker.wire.messages.broker_registration_request import BrokerRegistrationRequest
from broadsheet_broker.wire.messages.controller_registration_request import ControllerRegistrationRequest
from broadsheet_broker.wire.messages.unregister_broker_record import UnregisterBrokerRecord

SUPPORTED_FEATURES: Final[Mapping[str, tuple[int, int]]] = {
    METADATA_VERSION: (V3_3_IV3, V4_3_IV0),
    "kraft.version": (0, 1),
    eligible_replicas.FEATURE: (0, 1),
}
"""Levels that this build acts on. Kafka leaves features out that are supported at level 0 only."""

_KAFKA_4_3: Final[Mapping[str, int]] = {
    "group.version": 1,
    "share.version": 1,
    "streams.version": 1,
    "transaction.version": 2,
}
"""The highest levels in Kafka 4.3: a directory that Kafka formatted may have them finalized."""

FENCE: Final = 1
UNFENCE: Final = -1
"""Values of BrokerRegistrationChangeRecord.fenced; 0 leaves it alone."""
SHUTTING_DOWN: Final = 1
"""Value of BrokerRegistrationChangeRecord.in_controlled_shutdown."""

_DEFAULTS: Final = Defaults()


@dataclass(frozen=True, slots=True)
class Registration:
    """What a broker registers when it starts."""

    broker_id: int
    incarnation_id: UUID
    endpoints: Mapping[str, Endpoint]
    log_dirs: tuple[UUID, ...]
    rack: str | None = None
    features: Mapping[str, tuple[int, int]] | None = None
    """Ranges of levels by feature; None: what this build supports."""
    previous_epoch: int = -1
    """The epoch of its life before, as its clean-shutdown marker says; -1 when that did not end cleanly."""

    @classmethod
    def of(cls, request: BrokerRegistrationRequest) -> Registration:
        return cls(
            broker_id=request.broker_id,
            incarnation_id=request.incarnation_id,
            endpoints={item.name: Endpoint(item.host, item.port, item.security_protocol) for item in request.listeners},
            log_dirs=tuple(request.log_dirs),
            rack=request.rack,
            features={f.name: (f.min_supported_version, f.max_supported_version) for f in request.features},
            previous_epoch=request.previous_broker_epoch,
        )


def supported_features(image: ClusterImage) -> dict[str, tuple[int, int]]:
    """The features that this node registers: its own, and those that Apache Kafka has finalized in this cluster. Kafka
    must find them supported when it takes the directories back."""
    features = dict(SUPPORTED_FEATURES)
    for name, level in image.features.items():
        if name not in features and level <= _KAFKA_4_3.get(name, 0):
            features[name] = (0, _KAFKA_4_3[name])
    return features


def check_features(image: ClusterImage) -> None:
    """Refuse a cluster whose feature levels this build cannot read."""
    supported = supported_features(image)
    for name, level in image.features.items():
        low, high = supported.get(name, (0, 0))
        if not low <= level <= high:
            raise KafkaError(
                ErrorCode.UNSUPPORTED_VERSION,
                f"The cluster metadata is at level {level} of feature {name}, and this build supports {low} to {high}. "
                "Start a newer version on it, or lower the feature with kafka-features.sh first.",
            )


def register_broker(
    image: ClusterImage, registration: Registration, epoch: int, defaults: Defaults = _DEFAULTS
) -> list[Any]:
    """Records for a new life of a broker. It is fenced until it has caught up; what its former life led is given up.

    `epoch` is the offset of the first of these records.
    """
    _check_registration(image, registration)
    records: list[Any] = []
    existing = image.brokers.get(registration.broker_id)
    # A broker that was unregistered meanwhile cannot prove a clean stop either.
    unclean = existing is None or registration.previous_epoch != existing.epoch
    records += broker_went(image, registration.broker_id, defaults, lost_tail=unclean)
    level = image.features.get(METADATA_VERSION, V4_3_IV0)
    features = supported_features(image) if registration.features is None else registration.features
    records.append(
        broker_record(
            BrokerInfo(
                id=registration.broker_id,
                epoch=epoch,
                incarnation_id=registration.incarnation_id,
                endpoints=registration.endpoints,
                features=features,
                rack=registration.rack,
                fenced=True,
                log_dirs=registration.log_dirs if level >= V3_7_IV2 else (),
                cordoned_log_dirs=() if level >= V4_3_IV0 else None,
            )
        )
    )
    return records


def _check_registration(image: ClusterImage, registration: Registration) -> None:
    for other in image.brokers.values():
        shared = set(other.log_dirs) & set(registration.log_dirs)
        if shared and other.id != registration.broker_id:
            raise KafkaError(
                ErrorCode.INVALID_REGISTRATION,
                f"Broker {other.id} is already registered with directory {shared.pop()}",
            )
    if registration.features is None:
        return
    for name, level in image.features.items():
        low, high = registration.features.get(name, (0, 0))
        if not low <= level <= high:
            raise KafkaError(
                ErrorCode.UNSUPPORTED_VERSION,
                f"Unable to register because the broker does not support finalized version {level} of {name}. The "
                f"broker wants a version between {low} and {high}, inclusive.",
            )


def unfence_broker(image: ClusterImage, broker_id: int, defaults: Defaults = _DEFAULTS) -> list[Any]:
    """Records that unfence a registered broker: it leads what waited for it."""
    broker = image.brokers[broker_id]
    if not broker.fenced:
        return []
    change = BrokerRegistrationChangeRecord(broker_id=broker_id, broker_epoch=broker.epoch, fenced=UNFENCE)
    return [change, *broker_came(image, broker_id, defaults)]


def fence_broker(image: ClusterImage, broker_id: int, defaults: Defaults = _DEFAULTS) -> list[Any]:
    """Records that fence a broker, because it stops or is silent."""
    broker = image.brokers.get(broker_id)
    if broker is None or broker.fenced:
        return []
    change = BrokerRegistrationChangeRecord(broker_id=broker_id, broker_epoch=broker.epoch, fenced=FENCE)
    return [*broker_went(image, broker_id, defaults), change]


def shut_down_broker(image: ClusterImage, broker_id: int, defaults: Defaults = _DEFAULTS) -> list[Any]:
    """Records that begin a controlled shutdown: others lead, and the broker can no longer join an ISR (KIP-841)."""
    broker = image.brokers[broker_id]
    change = BrokerRegistrationChangeRecord(
        broker_id=broker_id, broker_epoch=broker.epoch, in_controlled_shutdown=SHUTTING_DOWN
    )
    return [change, *broker_went(image, broker_id, defaults)]


def lose_directories(
    image: ClusterImage, broker_id: int, offline: Iterable[UUID], defaults: Defaults = _DEFAULTS
) -> list[Any]:
    """Records when log directories of a running broker have failed: what is in them is led elsewhere (KIP-858)."""
    broker = image.brokers[broker_id]
    gone = set(offline) & set(broker.log_dirs)
    if not gone:
        return []
    left = [id for id in broker.log_dirs if id not in gone]

    def is_lost(change: Any) -> bool:
        partition = image.topics_by_id[change.topic_id].partitions[change.partition_id]
        return partition.directories[partition.replicas.index(broker_id)] in gone

    changes = [change for change in broker_went(image, broker_id, defaults) if is_lost(change)]
    return [*changes, BrokerRegistrationChangeRecord(broker_id=broker_id, broker_epoch=broker.epoch, log_dirs=left)]


def unregister_broker(image: ClusterImage, broker_id: int, defaults: Defaults = _DEFAULTS) -> list[Any]:
    """Records that make the cluster forget a broker."""
    broker = image.brokers.get(broker_id)
    if broker is None:
        raise KafkaError(ErrorCode.BROKER_ID_NOT_REGISTERED, f"Broker ID {broker_id} is not currently registered")
    record = UnregisterBrokerRecord(broker_id=broker_id, broker_epoch=broker.epoch)
    return [*broker_went(image, broker_id, defaults), record]


def check_epoch(image: ClusterImage, broker_id: int, epoch: int) -> BrokerInfo:
    """The broker, if the epoch is the one of its registration; else KafkaError(STALE_BROKER_EPOCH)."""
    broker = image.brokers.get(broker_id)
    if broker is None:
        raise KafkaError(ErrorCode.STALE_BROKER_EPOCH, f"No broker registration found for broker id {broker_id}")
    if broker.epoch != epoch:
        raise KafkaError(
            ErrorCode.STALE_BROKER_EPOCH, f"Expected broker epoch {broker.epoch}, but got broker epoch {epoch}"
        )
    return broker


def register_controller(
    image: ClusterImage, node_id: int, incarnation_id: UUID, endpoints: Mapping[str, Endpoint]
) -> list[Any]:
    info = ControllerInfo(node_id, incarnation_id, endpoints, supported_features(image))
    return [controller_record(info)]


def register_other_controller(image: ClusterImage, request: ControllerRegistrationRequest) -> list[Any]:
    info = ControllerInfo(
        request.controller_id,
        request.incarnation_id,
        {item.name: Endpoint(item.host, item.port, item.security_protocol) for item in request.listeners},
        {f.name: (f.min_supported_version, f.max_supported_version) for f in request.features},
        request.zk_migration_ready,
    )
    return [] if image.controllers.get(info.id) == info else [controller_record(info)]

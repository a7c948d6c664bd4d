"""An image as the records that make it: what a snapshot of the metadata log holds (org.apache.kafka.image writers)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from broadsheet_broker.metadata.image import METADATA_VERSION, BrokerInfo, ClusterImage, ControllerInfo, PartitionImage
from broadsheet_broker.wire.messages import register_broker_record as broker_messages
from broadsheet_broker.wire.messages import register_controller_record as controller_messages
from broadsheet_broker.wire.messages.client_quota_record import ClientQuotaRecord, EntityData
from broadsheet_broker.wire.messages.config_record import ConfigRecord
from broadsheet_broker.wire.messages.feature_level_record import FeatureLevelRecord
from broadsheet_broker.wire.messages.partition_record import PartitionRecord
from broadsheet_broker.wire.messages.producer_ids_record import ProducerIdsRecord
from broadsheet_broker.wire.messages.topic_record import TopicRecord


def records_of(image: ClusterImage) -> Iterator[Any]:
    """The records, the metadata.version first, since it says how to read the others."""
    if METADATA_VERSION in image.features:
        yield FeatureLevelRecord(name=METADATA_VERSION, feature_level=image.features[METADATA_VERSION])
    for feature, level in image.features.items():
        if feature != METADATA_VERSION:
            yield FeatureLevelRecord(name=feature, feature_level=level)
    for broker in image.brokers.values():
        yield broker_record(broker)
    for controller in image.controllers.values():
        yield controller_record(controller)
    for topic in image.topics_by_id.values():
        yield TopicRecord(name=topic.name, topic_id=topic.id)
        for index, partition in enumerate(topic.partitions):
            yield partition_record(topic.id, index, partition)
    for resource, values in image.configs.items():
        for key, value in values.items():
            yield ConfigRecord(resource_type=resource.type, resource_name=resource.name, name=key, value=value)
    for entity, limits in image.client_quotas.items():
        pairs = [EntityData(entity_type=type, entity_name=name) for type, name in entity]
        for key, limit in limits.items():
            yield ClientQuotaRecord(entity=pairs, key=key, value=limit, remove=False)
    if image.next_producer_id > 0:
        yield ProducerIdsRecord(broker_id=-1, broker_epoch=-1, next_producer_id=image.next_producer_id)
    yield from image.acls.values()
    yield from image.scram.values()
    yield from image.delegation_tokens.values()


def broker_record(broker: BrokerInfo) -> broker_messages.RegisterBrokerRecord:
    cordoned = broker.cordoned_log_dirs
    return broker_messages.RegisterBrokerRecord(
        broker_id=broker.id,
        incarnation_id=broker.incarnation_id,
        broker_epoch=broker.epoch,
        end_points=[
            broker_messages.BrokerEndpoint(name=name, host=e.host, port=e.port, security_protocol=e.security_protocol)
            for name, e in broker.endpoints.items()
        ],
        features=[
            broker_messages.BrokerFeature(name=name, min_supported_version=low, max_supported_version=high)
            for name, (low, high) in broker.features.items()
        ],
        rack=broker.rack,
        fenced=broker.fenced,
        in_controlled_shutdown=broker.in_controlled_shutdown,
        log_dirs=list(broker.log_dirs),
        cordoned_log_dirs=None if cordoned is None else list(cordoned),
    )


def controller_record(controller: ControllerInfo) -> controller_messages.RegisterControllerRecord:
    return controller_messages.RegisterControllerRecord(
        controller_id=controller.id,
        incarnation_id=controller.incarnation_id,
        zk_migration_ready=controller.zk_migration_ready,
        end_points=[
            controller_messages.ControllerEndpoint(
                name=name, host=e.host, port=e.port, security_protocol=e.security_protocol
            )
            for name, e in controller.endpoints.items()
        ],
        features=[
            controller_messages.ControllerFeature(name=name, min_supported_version=low, max_supported_version=high)
            for name, (low, high) in controller.features.items()
        ],
    )


def partition_record(topic_id: UUID, index: int, partition: PartitionImage) -> PartitionRecord:
    return PartitionRecord(
        partition_id=index,
        topic_id=topic_id,
        replicas=list(partition.replicas),
        isr=list(partition.isr),
        removing_replicas=list(partition.removing_replicas),
        adding_replicas=list(partition.adding_replicas),
        leader=partition.leader,
        leader_recovery_state=partition.leader_recovery_state,
        leader_epoch=partition.leader_epoch,
        partition_epoch=partition.partition_epoch,
        directories=list(partition.directories),
        eligible_leader_replicas=list(partition.elr) or None,
        last_known_elr=list(partition.last_known_elr) or None,
    )

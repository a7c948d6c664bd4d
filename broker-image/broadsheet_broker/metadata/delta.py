"""From one image to the next: metadata records go in, a new image and a list of what changed come out.

A delta copies a map of its base image only when the first record touches it. Topics are collected as changed
partitions and made into topic images at the end, so a topic of a thousand partitions is built once.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, Generic, TypeVar

from broadsheet_broker.metadata.image import (
    DIRECTORY_MIGRATING,
    BrokerInfo,
    ClusterImage,
    ConfigResource,
    ControllerInfo,
    Endpoint,
    PartitionImage,
    QuotaEntity,
    ResourceType,
    TopicImage,
)
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.access_control_entry_record import AccessControlEntryRecord
from broadsheet_broker.wire.messages.broker_registration_change_record import BrokerRegistrationChangeRecord
from broadsheet_broker.wire.messages.clear_elr_record import ClearElrRecord
from broadsheet_broker.wire.messages.client_quota_record import ClientQuotaRecord
from broadsheet_broker.wire.messages.config_record import ConfigRecord
from broadsheet_broker.wire.messages.delegation_token_record import DelegationTokenRecord
from broadsheet_broker.wire.messages.feature_level_record import FeatureLevelRecord
from broadsheet_broker.wire.messages.fence_broker_record import FenceBrokerRecord
from broadsheet_broker.wire.messages.no_op_record import NoOpRecord
from broadsheet_broker.wire.messages.partition_change_record import PartitionChangeRecord
from broadsheet_broker.wire.messages.partition_record import PartitionRecord
from broadsheet_broker.wire.messages.producer_ids_record import ProducerIdsRecord
from broadsheet_broker.wire.messages.register_broker_record import RegisterBrokerRecord
from broadsheet_broker.wire.messages.register_controller_record import RegisterControllerRecord
from broadsheet_broker.wire.messages.remove_access_control_entry_record import RemoveAccessControlEntryRecord
from broadsheet_broker.wire.messages.remove_delegation_token_record import RemoveDelegationTokenRecord
from broadsheet_broker.wire.messages.remove_topic_record import RemoveTopicRecord
from broadsheet_broker.wire.messages.remove_user_scram_credential_record import RemoveUserScramCredentialRecord
from broadsheet_broker.wire.messages.topic_record import TopicRecord
from broadsheet_broker.wire.messages.unfence_broker_record import UnfenceBrokerRecord
from broadsheet_broker.wire.messages.unregister_broker_record import UnregisterBrokerRecord
from broadsheet_broker.wire.messages.user_scram_credential_record import UserScramCredentialRecord
from broadsheet_broker.wire.messages.zk_migration_state_record import ZkMigrationStateRecord

LEADER_UNCHANGED: Final = -2
"""PartitionChangeRecord.leader when the record does not speak of the leader."""

K = TypeVar("K")
V = TypeVar("V")


class _Changes(Generic[K, V]):
    """A map of the base image, copied when it is first written."""

    __slots__ = ("_base", "_copy")

    def __init__(self, base: Mapping[K, V]) -> None:
        self._base = base
        self._copy: dict[K, V] | None = None

    @property
    def map(self) -> Mapping[K, V]:
        return self._base if self._copy is None else self._copy

    def get(self, key: K) -> V | None:
        return self.map.get(key)

    def _writable(self) -> dict[K, V]:
        if self._copy is None:
            self._copy = dict(self._base)
        return self._copy

    def put(self, key: K, value: V) -> None:
        self._writable()[key] = value

    def remove(self, key: K) -> None:
        if key in self.map:
            self._writable().pop(key)


class TopicDelta:
    """What happened to one topic that exists now."""

    __slots__ = ("base", "changed", "id", "name")

    def __init__(self, name: str, id: uuid.UUID, base: TopicImage | None) -> None:
        self.name = name
        self.id = id
        self.base = base
        """The topic before; None when it is new."""
        self.changed: dict[int, PartitionImage] = {}
        """The partitions that are new or different, as they are now."""

    @property
    def is_new(self) -> bool:
        return self.base is None

    def partition(self, index: int) -> PartitionImage | None:
        found = self.changed.get(index)
        if found is None and self.base is not None and 0 <= index < len(self.base.partitions):
            return self.base.partitions[index]
        return found

    def before(self, index: int) -> PartitionImage | None:
        """A changed partition as it was; None when it is new."""
        if self.base is None or index >= len(self.base.partitions):
            return None
        return self.base.partitions[index]

    def image(self) -> TopicImage:
        """The topic now. Partitions of a topic are numbered from 0 without gaps."""
        known = 0 if self.base is None else len(self.base.partitions)
        count = max(known, max(self.changed, default=-1) + 1)
        found = [self.partition(index) for index in range(count)]
        partitions = tuple(partition for partition in found if partition is not None)
        if len(partitions) != count:
            missing = found.index(None)
            raise corrupt(f"topic {self.name} has a partition {count - 1}, but no partition {missing}")
        return TopicImage(self.name, self.id, partitions)


class MetadataDelta:
    """Records on top of a base image. Feed it with `replay`, then take `apply`."""

    def __init__(self, base: ClusterImage) -> None:
        self.base = base
        self.changed_topics: dict[uuid.UUID, TopicDelta] = {}
        """Topics that are new or have new or changed partitions."""
        self.deleted_topics: dict[uuid.UUID, TopicImage] = {}
        """Topics of the base image that are gone."""
        self.changed_configs: dict[ConfigResource, None] = {}
        """Resources whose dynamic configuration changed, in the order of the records."""
        self.changed_brokers: dict[int, None] = {}
        """Brokers that registered, changed or left."""
        self._new_names: dict[str, uuid.UUID] = {}
        self._features = _Changes(base.features)
        self._brokers = _Changes(base.brokers)
        self._controllers = _Changes(base.controllers)
        self._configs = _Changes(base.configs)
        self._quotas = _Changes(base.client_quotas)
        self._acls = _Changes(base.acls)
        self._scram = _Changes(base.scram)
        self._tokens = _Changes(base.delegation_tokens)
        self._next_producer_id = base.next_producer_id

    def note_features(self, levels: Mapping[str, int]) -> None:
        """Take finalized levels as they are in another image."""
        for name in [*self._features.map, *levels]:
            if self._features.get(name) != levels.get(name):
                if name in levels:
                    self._features.put(name, levels[name])
                else:
                    self._features.remove(name)

    def broker(self, broker_id: int) -> BrokerInfo | None:
        """A broker as it is after what was replayed so far."""
        return self._brokers.get(broker_id)

    @property
    def features(self) -> Mapping[str, int]:
        """Finalized levels after what was replayed so far."""
        return self._features.map

    def replay_all(self, records: Iterable[Any]) -> MetadataDelta:
        for record in records:
            self.replay(record)
        return self

    def replay(self, record: Any) -> None:
        """Take one metadata record. What cannot follow from a sound log raises KafkaError(CORRUPT_MESSAGE)."""
        handler = _HANDLERS.get(type(record))
        if handler is None:
            raise corrupt(f"no metadata image can hold a {type(record).__name__}")
        handler(self, record)

    def apply(self, offset: int, epoch: int, timestamp_ms: int, controller_id: int | None = None) -> ClusterImage:
        """The image after these records; the position is that of the last of them in the metadata log."""
        base = self.base
        by_name, by_id = base.topics_by_name, base.topics_by_id
        if self.changed_topics or self.deleted_topics:
            names, ids = dict(by_name), dict(by_id)
            for gone in self.deleted_topics.values():
                ids.pop(gone.id, None)
                names.pop(gone.name, None)
            for changed in self.changed_topics.values():
                topic = changed.image()
                names[topic.name] = ids[topic.id] = topic
            by_name, by_id = names, ids
        return ClusterImage(
            cluster_id=base.cluster_id,
            offset=offset,
            epoch=epoch,
            timestamp_ms=timestamp_ms,
            controller_id=base.controller_id if controller_id is None else controller_id,
            features=self._features.map,
            brokers=self._brokers.map,
            controllers=self._controllers.map,
            topics_by_name=by_name,
            topics_by_id=by_id,
            configs=self._configs.map,
            next_producer_id=self._next_producer_id,
            client_quotas=self._quotas.map,
            acls=self._acls.map,
            scram=self._scram.map,
            delegation_tokens=self._tokens.map,
        )

    # Topics.

    def _topic_id(self, name: str) -> uuid.UUID | None:
        created = self._new_names.get(name)
        if created is not None:
            return created
        topic = self.base.topics_by_name.get(name)
        return None if topic is None or topic.id in self.deleted_topics else topic.id

    def _topic(self, topic_id: uuid.UUID, record: Any) -> TopicDelta:
        changed = self.changed_topics.get(topic_id)
        if changed is None:
            base = self.base.topics_by_id.get(topic_id)
            if base is None or topic_id in self.deleted_topics:
                raise corrupt(f"{type(record).__name__} speaks of topic {topic_id}, which does not exist")
            changed = self.changed_topics[topic_id] = TopicDelta(base.name, topic_id, base)
        return changed

    def _replay_topic(self, record: TopicRecord) -> None:
        existing = self._topic_id(record.name)
        if existing is not None:
            raise corrupt(f"TopicRecord creates {record.name} as {record.topic_id}, but it exists as {existing}")
        self._new_names[record.name] = record.topic_id
        self.changed_topics[record.topic_id] = TopicDelta(record.name, record.topic_id, None)

    def _replay_partition(self, record: PartitionRecord) -> None:
        self._topic(record.topic_id, record).changed[record.partition_id] = PartitionImage(
            replicas=tuple(record.replicas),
            directories=tuple(record.directories) or (DIRECTORY_MIGRATING,) * len(record.replicas),
            isr=tuple(record.isr),
            removing_replicas=tuple(record.removing_replicas),
            adding_replicas=tuple(record.adding_replicas),
            elr=tuple(record.eligible_leader_replicas or ()),
            last_known_elr=tuple(record.last_known_elr or ()),
            leader=record.leader,
            leader_recovery_state=record.leader_recovery_state,
            leader_epoch=record.leader_epoch,
            partition_epoch=record.partition_epoch,
        )

    def _replay_partition_change(self, record: PartitionChangeRecord) -> None:
        topic = self._topic(record.topic_id, record)
        before = topic.partition(record.partition_id)
        if before is None:
            raise corrupt(f"PartitionChangeRecord speaks of {topic.name}-{record.partition_id}, which does not exist")
        topic.changed[record.partition_id] = merge_partition(before, record)

    def _replay_remove_topic(self, record: RemoveTopicRecord) -> None:
        topic_id = record.topic_id
        changed = self.changed_topics.pop(topic_id, None)
        base = self.base.topics_by_id.get(topic_id)
        if base is not None and topic_id not in self.deleted_topics:
            self.deleted_topics[topic_id] = base
            name = base.name
        elif changed is not None:
            name = changed.name
        else:
            raise corrupt(f"RemoveTopicRecord speaks of topic {topic_id}, which does not exist")
        if self._new_names.get(name) == topic_id:
            del self._new_names[name]
        resource = ConfigResource(ResourceType.TOPIC, name)
        if self._configs.get(resource) is not None:
            self._configs.remove(resource)
            self.changed_configs[resource] = None

    def _replay_clear_elr(self, record: ClearElrRecord) -> None:
        if record.topic_name:
            topic_id = self._topic_id(record.topic_name)
            if topic_id is None:
                raise corrupt(f"ClearElrRecord speaks of topic {record.topic_name}, which does not exist")
            wanted = [topic_id]
        else:
            wanted = [id for id in self.base.topics_by_id if id not in self.deleted_topics]
            wanted += [id for id in self._new_names.values() if id not in self.base.topics_by_id]
        for topic_id in wanted:
            base = self.base.topics_by_id.get(topic_id)
            changed = self.changed_topics.get(topic_id)
            count = max(len(base.partitions) if base else 0, max(changed.changed, default=-1) + 1 if changed else 0)
            for index in range(count):
                partition = changed.partition(index) if changed else base.partitions[index] if base else None
                if partition is not None and (partition.elr or partition.last_known_elr):
                    changed = self._topic(topic_id, record)
                    changed.changed[index] = partition._replace(
                        elr=(), last_known_elr=(), partition_epoch=partition.partition_epoch + 1
                    )

    # Configuration and features.

    def _replay_config(self, record: ConfigRecord) -> None:
        resource = ConfigResource(record.resource_type, record.resource_name)
        values = dict(self._configs.get(resource) or {})
        if record.value is None:
            values.pop(record.name, None)
        else:
            values[record.name] = record.value
        if values:
            self._configs.put(resource, values)
        else:
            self._configs.remove(resource)
        self.changed_configs[resource] = None

    def _replay_feature_level(self, record: FeatureLevelRecord) -> None:
        if record.feature_level == 0:
            self._features.remove(record.name)
        else:
            self._features.put(record.name, record.feature_level)

    def _replay_producer_ids(self, record: ProducerIdsRecord) -> None:
        self._next_producer_id = record.next_producer_id

    # Brokers and controllers.

    def _replay_register_broker(self, record: RegisterBrokerRecord) -> None:
        cordoned = record.cordoned_log_dirs
        self._brokers.put(
            record.broker_id,
            BrokerInfo(
                id=record.broker_id,
                epoch=record.broker_epoch,
                incarnation_id=record.incarnation_id,
                endpoints={e.name: Endpoint(e.host, e.port, e.security_protocol) for e in record.end_points},
                features={f.name: (f.min_supported_version, f.max_supported_version) for f in record.features},
                rack=record.rack,
                fenced=record.fenced,
                in_controlled_shutdown=record.in_controlled_shutdown,
                log_dirs=tuple(record.log_dirs),
                cordoned_log_dirs=None if cordoned is None else tuple(cordoned),
            ),
        )
        self.changed_brokers[record.broker_id] = None

    def _broker(self, broker_id: int, epoch: int, record: Any) -> BrokerInfo:
        broker = self._brokers.get(broker_id)
        if broker is None:
            raise corrupt(f"{type(record).__name__} speaks of broker {broker_id}, which is not registered")
        if broker.epoch != epoch:
            raise corrupt(f"{type(record).__name__} speaks of broker {broker_id} in epoch {epoch}, not {broker.epoch}")
        self.changed_brokers[broker_id] = None
        return broker

    def _replay_broker_change(self, record: BrokerRegistrationChangeRecord) -> None:
        broker = self._broker(record.broker_id, record.broker_epoch, record)
        cordoned = record.cordoned_log_dirs
        self._brokers.put(
            broker.id,
            replace(
                broker,
                fenced=broker.fenced if record.fenced == 0 else record.fenced > 0,
                in_controlled_shutdown=broker.in_controlled_shutdown or record.in_controlled_shutdown > 0,
                log_dirs=tuple(record.log_dirs) or broker.log_dirs,
                cordoned_log_dirs=broker.cordoned_log_dirs if cordoned is None else tuple(cordoned),
            ),
        )

    def _replay_fence_broker(self, record: FenceBrokerRecord) -> None:
        self._brokers.put(record.id, replace(self._broker(record.id, record.epoch, record), fenced=True))

    def _replay_unfence_broker(self, record: UnfenceBrokerRecord) -> None:
        self._brokers.put(record.id, replace(self._broker(record.id, record.epoch, record), fenced=False))

    def _replay_unregister_broker(self, record: UnregisterBrokerRecord) -> None:
        self._brokers.remove(self._broker(record.broker_id, record.broker_epoch, record).id)

    def _replay_register_controller(self, record: RegisterControllerRecord) -> None:
        self._controllers.put(
            record.controller_id,
            ControllerInfo(
                id=record.controller_id,
                incarnation_id=record.incarnation_id,
                endpoints={e.name: Endpoint(e.host, e.port, e.security_protocol) for e in record.end_points},
                features={f.name: (f.min_supported_version, f.max_supported_version) for f in record.features},
                zk_migration_ready=record.zk_migration_ready,
            ),
        )

    # What later rooms own; kept so that no snapshot loses it.

    def _replay_client_quota(self, record: ClientQuotaRecord) -> None:
        entity: QuotaEntity = tuple(sorted((e.entity_type, e.entity_name) for e in record.entity))
        values = dict(self._quotas.get(entity) or {})
        if record.remove:
            values.pop(record.key, None)
        else:
            values[record.key] = record.value
        if values:
            self._quotas.put(entity, values)
        else:
            self._quotas.remove(entity)

    def _replay_acl(self, record: AccessControlEntryRecord) -> None:
        self._acls.put(record.id, record)

    def _replay_remove_acl(self, record: RemoveAccessControlEntryRecord) -> None:
        self._acls.remove(record.id)

    def _replay_scram(self, record: UserScramCredentialRecord) -> None:
        # A decoded record may point into the buffer of its whole segment; what stays in an image must not.
        kept = UserScramCredentialRecord(
            name=record.name,
            mechanism=record.mechanism,
            salt=bytes(record.salt),
            stored_key=bytes(record.stored_key),
            server_key=bytes(record.server_key),
            iterations=record.iterations,
        )
        self._scram.put((record.name, record.mechanism), kept)

    def _replay_remove_scram(self, record: RemoveUserScramCredentialRecord) -> None:
        self._scram.remove((record.name, record.mechanism))

    def _replay_token(self, record: DelegationTokenRecord) -> None:
        self._tokens.put(record.token_id, record)

    def _replay_remove_token(self, record: RemoveDelegationTokenRecord) -> None:
        self._tokens.remove(record.token_id)

    def _replay_nothing(self, record: NoOpRecord | ZkMigrationStateRecord) -> None:
        """Records that say nothing to an image."""


def merge_partition(before: PartitionImage, record: PartitionChangeRecord) -> PartitionImage:
    """A partition after one change. The partition epoch grows with each record, the leader epoch with each election."""
    leader, leader_epoch = before.leader, before.leader_epoch
    if record.leader != LEADER_UNCHANGED:
        # Also when the leader stays the same: that is how a new epoch is started (KIP-841).
        leader, leader_epoch = record.leader, before.leader_epoch + 1
    replicas = before.replicas if record.replicas is None else tuple(record.replicas)
    directories = before.directories
    if record.directories is not None:
        directories = tuple(record.directories)
    elif len(replicas) != len(before.replicas):
        directories = (DIRECTORY_MIGRATING,) * len(replicas)
    return PartitionImage(
        replicas=replicas,
        directories=directories,
        isr=before.isr if record.isr is None else tuple(record.isr),
        removing_replicas=before.removing_replicas
        if record.removing_replicas is None
        else tuple(record.removing_replicas),
        adding_replicas=before.adding_replicas if record.adding_replicas is None else tuple(record.adding_replicas),
        elr=before.elr if record.eligible_leader_replicas is None else tuple(record.eligible_leader_replicas),
        last_known_elr=before.last_known_elr if record.last_known_elr is None else tuple(record.last_known_elr),
        leader=leader,
        leader_recovery_state=before.leader_recovery_state
        if record.leader_recovery_state < 0
        else record.leader_recovery_state,
        leader_epoch=leader_epoch,
        partition_epoch=before.partition_epoch + 1,
    )


def corrupt(what: str) -> KafkaError:
    return KafkaError(ErrorCode.CORRUPT_MESSAGE, f"The cluster metadata contradicts itself: {what}.")


_HANDLERS: Final[dict[type, Callable[[MetadataDelta, Any], None]]] = {
    AccessControlEntryRecord: MetadataDelta._replay_acl,
    BrokerRegistrationChangeRecord: MetadataDelta._replay_broker_change,
    ClearElrRecord: MetadataDelta._replay_clear_elr,
    ClientQuotaRecord: MetadataDelta._replay_client_quota,
    ConfigRecord: MetadataDelta._replay_config,
    DelegationTokenRecord: MetadataDelta._replay_token,
    FeatureLevelRecord: MetadataDelta._replay_feature_level,
    FenceBrokerRecord: MetadataDelta._replay_fence_broker,
    NoOpRecord: MetadataDelta._replay_nothing,
    PartitionChangeRecord: MetadataDelta._replay_partition_change,
    PartitionRecord: MetadataDelta._replay_partition,
    ProducerIdsRecord: MetadataDelta._replay_producer_ids,
    RegisterBrokerRecord: MetadataDelta._replay_register_broker,
    RegisterControllerRecord: MetadataDelta._replay_register_controller,
    RemoveAccessControlEntryRecord: MetadataDelta._replay_remove_acl,
    RemoveDelegationTokenRecord: MetadataDelta._replay_remove_token,
    RemoveTopicRecord: MetadataDelta._replay_remove_topic,
    RemoveUserScramCredentialRecord: MetadataDelta._replay_remove_scram,
    TopicRecord: MetadataDelta._replay_topic,
    UnfenceBrokerRecord: MetadataDelta._replay_unfence_broker,
    UnregisterBrokerRecord: MetadataDelta._replay_unregister_broker,
    UserScramCredentialRecord: MetadataDelta._replay_scram,
    ZkMigrationStateRecord: MetadataDelta._replay_nothing,
}

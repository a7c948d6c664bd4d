"""Records become images: what each record does, and that snapshots say the same as the records did."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from broadsheet_broker.metadata.delta import MetadataDelta
from broadsheet_broker.metadata.image import EMPTY_IMAGE, ClusterImage, ConfigResource, ResourceType
from broadsheet_broker.metadata.loader import Replayer
from broadsheet_broker.metadata.records import decode_record, encode_record
from broadsheet_broker.metadata.snapshot_records import records_of
from broadsheet_broker.wire.errors import KafkaError
from broadsheet_broker.wire.messages import client_quota_record as quota
from broadsheet_broker.wire.messages import register_broker_record as broker
from broadsheet_broker.wire.messages.abort_transaction_record import AbortTransactionRecord
from broadsheet_broker.wire.messages.access_control_entry_record import AccessControlEntryRecord
from broadsheet_broker.wire.messages.begin_transaction_record import BeginTransactionRecord
from broadsheet_broker.wire.messages.broker_registration_change_record import BrokerRegistrationChangeRecord
from broadsheet_broker.wire.messages.clear_elr_record import ClearElrRecord
from broadsheet_broker.wire.messages.config_record import ConfigRecord
from broadsheet_broker.wire.messages.delegation_token_record import DelegationTokenRecord
from broadsheet_broker.wire.messages.end_transaction_record import EndTransactionRecord
from broadsheet_broker.wire.messages.feature_level_record import FeatureLevelRecord
from broadsheet_broker.wire.messages.no_op_record import NoOpRecord
from broadsheet_broker.wire.messages.partition_change_record import PartitionChangeRecord
from broadsheet_broker.wire.messages.partition_record import PartitionRecord
from broadsheet_broker.wire.messages.producer_ids_record import ProducerIdsRecord
from broadsheet_broker.wire.messages.remove_topic_record import RemoveTopicRecord
from broadsheet_broker.wire.messages.topic_record import TopicRecord
from broadsheet_broker.wire.messages.unregister_broker_record import UnregisterBrokerRecord
from broadsheet_broker.wire.messages.user_scram_credential_record import UserScramCredentialRecord

ORDERS, PAYMENTS = uuid.UUID(int=101), uuid.UUID(int=102)
DIRECTORY = uuid.UUID(int=900)


def partition(topic: uuid.UUID, index: int, replicas: list[int] | None = None) -> PartitionRecord:
    replicas = replicas or [1]
    return PartitionRecord(
        partition_id=index,
        topic_id=topic,
        replicas=replicas,
        isr=replicas,
        leader=replicas[0],
        leader_epoch=0,
        partition_epoch=0,
        directories=[DIRECTORY] * len(replicas),
    )


def applied(*records: Any, base: ClusterImage = EMPTY_IMAGE) -> ClusterImage:
    return MetadataDelta(base).replay_all(records).apply(len(records), 1, 1000)


CLUSTER = (
    FeatureLevelRecord(name="metadata.version", feature_level=30),
    broker.RegisterBrokerRecord(
        broker_id=1,
        incarnation_id=uuid.UUID(int=1),
        broker_epoch=5,
        end_points=[broker.BrokerEndpoint(name="PLAINTEXT", host="h", port=9092, security_protocol=0)],
        rack=None,
        fenced=True,
        log_dirs=[DIRECTORY],
        cordoned_log_dirs=[],
    ),
    BrokerRegistrationChangeRecord(broker_id=1, broker_epoch=5, fenced=-1),
    TopicRecord(name="orders", topic_id=ORDERS),
    ConfigRecord(resource_type=2, resource_name="orders", name="retention.ms", value="1"),
    partition(ORDERS, 0),
    partition(ORDERS, 1),
    TopicRecord(name="payments", topic_id=PAYMENTS),
    partition(PAYMENTS, 0, [1, 2, 3]),
    ProducerIdsRecord(broker_id=1, broker_epoch=5, next_producer_id=1000),
)


def test_topics_and_brokers_appear() -> None:
    image = applied(*CLUSTER)
    assert set(image.topics_by_name) == {"orders", "payments"}
    assert image.topics_by_id[ORDERS] is image.topics_by_name["orders"]
    assert len(image.topics_by_name["orders"].partitions) == 2
    assert image.brokers[1].is_active and image.brokers[1].endpoints["PLAINTEXT"].port == 9092
    assert image.config(ResourceType.TOPIC, "orders") == {"retention.ms": "1"}
    assert image.next_producer_id == 1000


def test_an_image_shares_what_did_not_change() -> None:
    before = applied(*CLUSTER)
    after = applied(ConfigRecord(resource_type=4, resource_name="", name="a", value="b"), base=before)
    assert after.topics_by_name is before.topics_by_name and after.brokers is before.brokers
    after = applied(PartitionChangeRecord(partition_id=0, topic_id=ORDERS, leader=-1), base=before)
    assert after.topics_by_name["payments"] is before.topics_by_name["payments"]
    assert after.topics_by_name["orders"] is not before.topics_by_name["orders"]
    assert before.topics_by_name["orders"].partitions[0].leader == 1, "the older image stays as it was"


def test_leader_epochs_grow_with_elections_and_partition_epochs_with_everything() -> None:
    change = PartitionChangeRecord(partition_id=0, topic_id=ORDERS, isr=[])
    election = PartitionChangeRecord(partition_id=0, topic_id=ORDERS, leader=1)
    found = applied(change, election, base=applied(*CLUSTER)).topics_by_name["orders"].partitions[0]
    assert (found.leader_epoch, found.partition_epoch, found.isr) == (1, 2, ())


def test_a_delta_says_what_changed() -> None:
    base = applied(*CLUSTER)
    delta = MetadataDelta(base).replay_all(
        [
            partition(ORDERS, 2),
            RemoveTopicRecord(topic_id=PAYMENTS),
            ConfigRecord(resource_type=2, resource_name="orders", name="retention.ms", value=None),
        ]
    )
    (changed,) = delta.changed_topics.values()
    assert (changed.name, changed.is_new, set(changed.changed), changed.before(2)) == ("orders", False, {2}, None)
    assert set(delta.deleted_topics) == {PAYMENTS}
    assert list(delta.changed_configs) == [ConfigResource(ResourceType.TOPIC, "orders")]
    image = delta.apply(20, 1, 1)
    assert len(image.topics_by_name["orders"].partitions) == 3
    assert ConfigResource(ResourceType.TOPIC, "orders") not in image.configs


def test_a_topic_may_be_deleted_and_made_again_in_one_delta() -> None:
    again = uuid.UUID(int=103)
    delta = MetadataDelta(applied(*CLUSTER)).replay_all(
        [RemoveTopicRecord(topic_id=ORDERS), TopicRecord(name="orders", topic_id=again), partition(again, 0)]
    )
    image = delta.apply(20, 1, 1)
    assert image.topics_by_name["orders"].id == again
    assert set(delta.deleted_topics) == {ORDERS} and set(delta.changed_topics) == {again}
    assert ORDERS not in image.topics_by_id
    assert image.config(ResourceType.TOPIC, "orders") == {}, "the new topic has none of the old one's configuration"


def test_a_topic_that_came_and_went_leaves_nothing() -> None:
    base = applied(*CLUSTER)
    short = uuid.UUID(int=104)
    delta = MetadataDelta(base).replay_all(
        [TopicRecord(name="short", topic_id=short), partition(short, 0), RemoveTopicRecord(topic_id=short)]
    )
    assert not delta.changed_topics and not delta.deleted_topics
    assert delta.apply(20, 1, 1).topics_by_name == base.topics_by_name


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (TopicRecord(name="orders", topic_id=uuid.UUID(int=9)), "but it exists"),
        (RemoveTopicRecord(topic_id=uuid.UUID(int=9)), "does not exist"),
        (partition(uuid.UUID(int=9), 0), "does not exist"),
        (PartitionChangeRecord(partition_id=7, topic_id=ORDERS), "orders-7, which does not exist"),
        (BrokerRegistrationChangeRecord(broker_id=1, broker_epoch=4), "in epoch 4, not 5"),
        (UnregisterBrokerRecord(broker_id=3, broker_epoch=4), "broker 3, which is not registered"),
        (ClearElrRecord(topic_name="nothing"), "does not exist"),
        (BeginTransactionRecord(), "no metadata image can hold"),
    ],
)
def test_records_that_contradict_the_image_are_refused(record: Any, message: str) -> None:
    with pytest.raises(KafkaError, match=message):
        applied(record, base=applied(*CLUSTER))


def test_a_gap_in_the_partitions_is_refused() -> None:
    with pytest.raises(KafkaError, match="no partition 2"):
        applied(partition(ORDERS, 3), base=applied(*CLUSTER))


def test_clear_elr_clears_every_topic_or_one() -> None:
    with_elr = applied(
        PartitionChangeRecord(partition_id=0, topic_id=ORDERS, eligible_leader_replicas=[2], last_known_elr=[3]),
        PartitionChangeRecord(partition_id=0, topic_id=PAYMENTS, eligible_leader_replicas=[2]),
        base=applied(*CLUSTER),
    )
    one = applied(ClearElrRecord(topic_name="orders"), base=with_elr)
    assert one.topics_by_name["orders"].partitions[0].elr == ()
    assert one.topics_by_name["payments"].partitions[0].elr == (2,)
    both = applied(ClearElrRecord(topic_name=""), base=with_elr)
    assert both.topics_by_name["payments"].partitions[0].elr == ()


def test_a_snapshot_says_the_same_as_the_records() -> None:
    image = applied(
        *CLUSTER,
        quota.ClientQuotaRecord(
            entity=[quota.EntityData(entity_type="user", entity_name=None)], key="producer_byte_rate", value=1.5
        ),
        AccessControlEntryRecord(id=uuid.UUID(int=7), resource_type=2, resource_name="*", principal="User:x", host="*"),
        UserScramCredentialRecord(name="u", mechanism=1, salt=b"s", stored_key=b"k", server_key=b"v", iterations=4096),
        DelegationTokenRecord(owner="User:x", requester="User:x", token_id="t"),
        NoOpRecord(),
    )
    values = [encode_record(record) for record in records_of(image)]
    again = MetadataDelta(EMPTY_IMAGE).replay_all(map(decode_record, values)).apply(image.offset, 1, 1000)
    assert again == image


def test_transactions_count_when_they_end_or_not_at_all() -> None:
    replayer, delta = Replayer(), MetadataDelta(EMPTY_IMAGE)
    replayer.replay(delta, [BeginTransactionRecord(name="x"), FeatureLevelRecord(name="a", feature_level=1)])
    assert replayer.in_transaction and not delta.apply(1, 1, 1).features
    replayer.replay(delta, [AbortTransactionRecord(reason="r"), BeginTransactionRecord()])
    replayer.replay(delta, [FeatureLevelRecord(name="b", feature_level=2), EndTransactionRecord()])
    assert delta.apply(1, 1, 1).features == {"b": 2} and not replayer.in_transaction
    with pytest.raises(KafkaError, match="never began"):
        replayer.replay(delta, [EndTransactionRecord()])

"""What another engine would have to take over is found in a running cluster of either engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from broadsheet_operator.api.engine_versions import BROADSHEET
from broadsheet_operator.kafka.client import KafkaPythonGateway
from broadsheet_operator.reconcilers.engines.broadsheet import Broadsheet as Ours
from broadsheet_operator.reconcilers.exchange import Stored, refusal
from e2e.apache.apache import ApacheKafka
from tests.support.broadsheet import Broadsheet
from tests.support.broker_process import BrokerProcess
from tests.support.waiting import wait_until


def stored(broker: BrokerProcess) -> Stored:
    """What the gateway finds, once it can look."""
    gateway = KafkaPythonGateway([broker.bootstrap])
    try:
        return wait_until(lambda: s if isinstance(s := gateway.observe_stored(), Stored) else None, "what is stored")
    finally:
        gateway.close()


@pytest.fixture(scope="module")
def apache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    authorizer = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    with ApacheKafka(tmp_path_factory.mktemp("apache"), overrides=authorizer, heap="512M") as broker:
        yield broker


def test_a_new_cluster_of_either_engine_can_be_taken_over(tmp_path: Path, apache: ApacheKafka) -> None:
    with Broadsheet(tmp_path / "ours") as ours:
        for broker in (ours, apache):
            found = stored(broker)
            assert found.features["metadata.version"] <= BROADSHEET["metadata.version"][1]
            assert refusal(Ours(), found) == ""


def test_what_only_apache_kafka_serves_is_named(apache: ApacheKafka) -> None:
    admin = AdminClient({"bootstrap.servers": apache.bootstrap, "log_level": 0})
    admin.create_topics([NewTopic("orders", 1, 1)])["orders"].result(30)
    producer = Producer({"bootstrap.servers": apache.bootstrap, "transactional.id": "billing", "log_level": 0})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce("orders", b"1")
    assert producer.flush(30) == 0
    settings = {"bootstrap.servers": apache.bootstrap, "group.id": "modern", "group.protocol": "consumer"}
    consumer = Consumer({**settings, "auto.offset.reset": "earliest", "log_level": 0})
    consumer.subscribe(["orders"])
    secret = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096)
    upsert = UserScramCredentialUpsertion("alice", secret, b"not a secret")
    for done in admin.alter_user_scram_credentials([upsert]).values():
        done.result(30)
    try:
        wait_until(lambda: consumer.poll(0.2) is None and "modern" in stored(apache).groups, "the group to be there")
        found = stored(apache)
        assert found.groups == {"modern": "consumer"}
        assert found.transactional_ids == {"billing": "Ongoing"}
        assert found.scram_users == 1
        producer.commit_transaction(30)
        wait_until(lambda: stored(apache).transactional_ids == {"billing": ""}, "the end of the transaction")
        words = refusal(Ours(), stored(apache))
        assert "billing" in words and "modern" in words and "SCRAM" in words
    finally:
        consumer.close()


def test_access_rules_are_counted(apache: ApacheKafka) -> None:
    admin = AdminClient({"bootstrap.servers": apache.bootstrap, "log_level": 0})
    rule = AclBinding(
        ResourceType.TOPIC,
        "orders",
        ResourcePatternType.LITERAL,
        "User:alice",
        "*",
        AclOperation.READ,
        AclPermissionType.ALLOW,
    )
    assert stored(apache).acls == 0
    admin.create_acls([rule])[rule].result(30)
    wait_until(lambda: stored(apache).acls == 1, "the rule to be there")

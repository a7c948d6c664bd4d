"""The environment of the official image, as its compose files set it."""

from __future__ import annotations

import pytest

from broadsheet_broker.config import ConfigError, Listener, load_config
from broadsheet_broker.config.image import properties_of

COMPOSE = {
    "KAFKA_NODE_ID": "1",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PLAINTEXT_HOST:PLAINTEXT",
    "KAFKA_ADVERTISED_LISTENERS": "PLAINTEXT_HOST://localhost:9092,PLAINTEXT://broker:19092",
    "KAFKA_PROCESS_ROLES": "broker,controller",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@broker:29093",
    "KAFKA_LISTENERS": "CONTROLLER://:29093,PLAINTEXT_HOST://:9092,PLAINTEXT://:19092",
    "KAFKA_INTER_BROKER_LISTENER_NAME": "PLAINTEXT",
    "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    "CLUSTER_ID": "4L6g3nShT-eMCtK--X86sw",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
    "KAFKA_LOG_DIRS": "/tmp/kraft-combined-logs",
    "PATH": "/bin",
}


def test_a_compose_file_of_kafka_starts_a_broker() -> None:
    config = load_config(None, [], COMPOSE)
    assert config.cluster_id == "4L6g3nShT-eMCtK--X86sw"
    assert config.auto_format
    assert config.log_dirs == ["/tmp/kraft-combined-logs"]
    assert config.advertised_listeners == [
        Listener("PLAINTEXT_HOST", "localhost", 9092),
        Listener("PLAINTEXT", "broker", 19092),
    ]
    assert config.inter_broker_listener == "PLAINTEXT"
    assert not config.warnings


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("KAFKA_LOG_RETENTION_MS", "log.retention.ms"),
        ("KAFKA_A__B", "a_b"),
        ("KAFKA_A___B", "a-b"),
        ("KAFKA_LISTENER_NAME_MY__LISTENER_X", "listener.name.my_listener.x"),
    ],
)
def test_names_become_keys(name: str, key: str) -> None:
    assert properties_of({name: "v"}) == {key: "v"}


def test_what_is_no_property_is_left_alone() -> None:
    others = {
        "KAFKA_HEAP_OPTS": "-Xmx1g",
        "KAFKA_OPTS": "-Dx=y",
        "KAFKA_VERSION": "4.3.0",
        "KAFKA_SERVICE_HOST": "10.0.0.1",
        "KAFKA_SERVICE_PORT": "9092",
        "KAFKA_PORT": "tcp://10.0.0.1:9092",
        "KAFKA_PORT_9092_TCP_ADDR": "10.0.0.1",
        "KAFKA_BOOTSTRAP_SERVICE_HOST": "10.0.0.2",
        "HOME": "/root",
    }
    assert properties_of(others) == {}


def test_listeners_follow_from_what_is_advertised() -> None:
    advertised = {"KAFKA_ADVERTISED_LISTENERS": "A://one:9092,B://two:9094"}
    assert properties_of(advertised)["listeners"] == "A://0.0.0.0:9092,B://0.0.0.0:9094"


def test_a_controller_must_not_advertise() -> None:
    with pytest.raises(ConfigError, match="KAFKA_ADVERTISED_LISTENERS is not supported"):
        properties_of({"KAFKA_PROCESS_ROLES": "controller", "KAFKA_ADVERTISED_LISTENERS": "A://x:1"})


def test_file_then_environment_then_override() -> None:
    text = "num.partitions=1\nnum.replica.fetchers=1\nlog.retention.ms=1\n"
    base = load_config(None, [], {}).values
    text += "".join(f"{key}={value}\n" for key, value in base.items())
    environment = {"KAFKA_NUM_REPLICA_FETCHERS": "2", "KAFKA_LOG_RETENTION_MS": "2"}
    config = load_config(text, ["log.retention.ms=3"], environment)
    keys = ("num.partitions", "num.replica.fetchers", "log.retention.ms")
    assert [config.get_int(key) for key in keys] == [1, 2, 3]

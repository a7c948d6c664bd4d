"""What a node may be told, what it makes of it, and what it says when it cannot start with that."""

from __future__ import annotations

import re

import pytest

from broadsheet_broker.config import (
    KEYS,
    TOPIC_KEYS,
    BrokerConfig,
    ConfigError,
    Kind,
    Listener,
    Source,
    Voter,
    describe_broker,
    load_config,
)

COMBINED = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "listeners": "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093",
    "controller.listener.names": "CONTROLLER",
    "controller.quorum.voters": "1@localhost:9093",
    "log.dirs": "/data/a,/data/b",
}

KAFKA_EXAMPLE = """
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://:9092,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs=/tmp/kraft-combined-logs
num.partitions=1
num.recovery.threads.per.data.dir=2
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
"""
"""The settings of the server.properties that comes with Kafka 4."""


def config(**changes: str | None) -> BrokerConfig:
    values = {**COMBINED, **{name.replace("_", "."): value for name, value in changes.items()}}
    return BrokerConfig({name: value for name, value in values.items() if value is not None})


def test_nothing_at_all_is_a_broker_on_localhost() -> None:
    made = load_config()
    assert made.process_roles == ["broker", "controller"]
    assert made.node_id == 1
    assert made.advertised_listeners == [Listener("PLAINTEXT", "localhost", 9092)]
    assert made.controller_listeners == [Listener("CONTROLLER", "localhost", 9093)]
    assert made.quorum_voters == [Voter(1, "localhost", 9093)]
    assert made.log_dirs == ["broadsheet-data"]
    assert made.auto_format
    assert made.http_listener is None
    assert not made.warnings


def test_the_file_that_comes_with_kafka_starts_a_broker() -> None:
    made = load_config(KAFKA_EXAMPLE)
    assert made.bootstrap_servers == [("localhost", 9093)]
    assert made.inter_broker_listener == "PLAINTEXT"
    assert not made.warnings
    assert any("num.io.threads has no effect here: one event loop" in note for note in made.notes)
    assert not made.auto_format


def test_values_have_their_types() -> None:
    made = config(log_retention_ms=" -1 ", auto_create_topics_enable="FALSE", log_cleaner_min_cleanable_ratio="0.25")
    assert made.get_int("log.retention.ms") == -1
    assert made.get_bool("auto.create.topics.enable") is False
    assert made.get_float("log.cleaner.min.cleanable.ratio") == 0.25
    assert made.get_list("log.dirs") == ["/data/a", "/data/b"]
    assert made.get_optional_int("log.roll.ms") is None
    assert made.get_str("compression.type") == "producer"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"num_partitions": "0"}, "Invalid value 0 for configuration num.partitions: allowed is at least 1"),
        ({"num_partitions": "many"}, "Invalid value many for configuration num.partitions: allowed is a whole number"),
        ({"message_max_bytes": "3000000000"}, "allowed is a whole number from -2147483648 to 2147483647"),
        ({"delete_topic_enable": "yes"}, "allowed is true or false"),
        ({"log_cleanup_policy": "shred"}, "allowed is a list of compact, delete"),
        ({"process_roles": "broker,zookeeper"}, "allowed is a list of broker, controller"),
        ({"process_roles": None}, "Missing required configuration process.roles"),
        ({"node_id": None}, "Missing required configuration node.id"),
        ({"node_id": "-1"}, "allowed is at least 0"),
        ({"node_id": "one"}, "Invalid value one for configuration node.id: allowed is a whole number"),
        ({"broker_id": "2"}, "Invalid value 2 for configuration broker.id: allowed is 1"),
        ({"listeners": "PLAINTEXT:9092"}, "allowed is name://host:port"),
        ({"listeners": "PLAINTEXT://:9092,PLAINTEXT://:9094,CONTROLLER://:9093"}, "each listener needs its own name"),
        ({"listeners": "PLAINTEXT://:9093,CONTROLLER://:9093"}, "port 9093 is given more than once"),
        ({"listeners": "CONTROLLER://:9093"}, "a broker needs a listener that is not for controllers"),
        ({"listeners": "OUTSIDE://:9092,CONTROLLER://:9093"}, "Listener OUTSIDE has no entry in listener.security"),
        ({"listeners": "SSL://:9092,PLAINTEXT://:9094,CONTROLLER://:9093"}, "CONTROLLER has no entry|only PLAINTEXT"),
        ({"advertised_listeners": "OTHER://localhost:9092"}, "names must be among those of listeners"),
        ({"advertised_listeners": "PLAINTEXT://0.0.0.0:9092"}, "clients need a host they can reach"),
        ({"listeners": "PLAINTEXT://0.0.0.0:9092,CONTROLLER://:9093"}, "clients need a host they can reach"),
        ({"inter_broker_listener_name": "OTHER"}, "must be among the advertised listeners: PLAINTEXT"),
        ({"controller_listener_names": None}, "Missing required configuration controller.listener.names"),
        ({"controller_listener_names": "ELSEWHERE"}, "ELSEWHERE"),
        ({"controller_quorum_voters": None}, "controller.quorum.voters or controller.quorum.bootstrap.servers"),
        ({"controller_quorum_voters": "2@localhost:9093"}, "must be among the voters"),
        ({"controller_quorum_voters": "one@localhost:9093"}, "allowed is id@host:port"),
        ({"controller_quorum_voters": "\N{SUPERSCRIPT TWO}@localhost:9093"}, "allowed is id@host:port"),
        ({"controller_quorum_voters": "1@localhost"}, "allowed is host:port"),
        ({"controller_quorum_voters": "1@localhost:\N{SUPERSCRIPT TWO}"}, "allowed is host:port"),
        ({"process_roles": "broker"}, "must not listen there"),
        ({"process_roles": "controller"}, "a pure controller listens on controller listeners only"),
        ({"log_retention_ms": "0"}, "must be -1 (no limit) or at least 1"),
        ({"group_min_session_timeout_ms": "1900000"}, "must not be above group.max.session.timeout.ms"),
        ({"log_cleaner_min_compaction_lag_ms": "2", "log_cleaner_max_compaction_lag_ms": "1"}, "must not be above"),
        ({"queued_max_request_bytes": "1000"}, "at least socket.request.max.bytes"),
        ({"max_connections_per_ip": "0"}, "needs max.connections.per.ip.overrides"),
        ({"log_dirs": ""}, "log.dirs is empty: allowed is one directory or more"),
        ({"log_dirs": "/data/a,/data/a"}, "each directory may be given once"),
        ({"broadsheet_http_listener": "localhost:9404"}, "allowed is http://host:port"),
        ({"ssl_keystore_location": "/secret"}, "authentication, TLS and authorization are not built yet"),
        ({"authorizer_class_name": "org.example.Guard"}, "ignoring this would leave the broker open"),
        ({"sasl_jaas_config": "password"}, r"Invalid value \[hidden\] for configuration sasl.jaas.config"),
        ({"listener_name_outside_ssl_keystore_location": "/secret"}, "authentication and TLS are not built yet"),
        ({"create_topic_policy_class_name": "org.example.Policy"}, "not built yet, and ignoring it"),
        ({"remote_log_storage_system_enable": "true"}, "not built yet"),
    ],
)
def test_what_a_broker_cannot_start_with_is_said_in_words(changes: dict[str, str | None], complaint: str) -> None:
    pattern = complaint if "|" in complaint or "\\" in complaint else re.escape(complaint)
    with pytest.raises(ConfigError, match=pattern):
        config(**changes)


def test_security_settings_with_kafkas_defaults_are_no_danger() -> None:
    made = config(ssl_client_auth="none", authorizer_class_name="", sasl_enabled_mechanisms="GSSAPI")
    assert not made.warnings


def test_unknown_keys_warn_and_near_misses_are_named() -> None:
    made = config(log_retention_hour="1", something_else="2", zookeeper_connect="localhost:2181")
    assert made.warnings == [
        "Configuration log.retention.hour is unknown and ignored; did you mean log.retention.hours?",
        "Configuration something.else is unknown and ignored",
        "Configuration zookeeper.connect is ignored: Kafka 4 has no ZooKeeper: controllers keep the metadata "
        "(process.roles)",
    ]


def test_a_pure_broker_and_a_pure_controller() -> None:
    broker = config(
        process_roles="broker",
        node_id="4",
        listeners="PLAINTEXT://host4:9092",
        controller_quorum_voters="1@a:1,2@b:1",
    )
    assert broker.controller_listeners == []
    controller = config(process_roles="controller", listeners="CONTROLLER://:9093")
    assert controller.advertised_listeners == []


def test_a_listener_without_host_is_advertised_by_the_machines_name() -> None:
    values = {**COMBINED, "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093"}
    assert BrokerConfig(values, hostname="box").advertised_listeners == [Listener("PLAINTEXT", "box", 9092)]


def test_ports_that_the_system_chose_are_advertised() -> None:
    made = config(listeners="PLAINTEXT://localhost:0,CONTROLLER://localhost:0")
    assert made.advertised({"PLAINTEXT": 41001}) == [Listener("PLAINTEXT", "localhost", 41001)]


def test_ipv6_and_ipv4_may_share_a_port() -> None:
    made = config(
        listeners="V4://127.0.0.1:9092,V6://[::1]:9092,CONTROLLER://:9093",
        listener_security_protocol_map="V4:PLAINTEXT,V6:PLAINTEXT,CONTROLLER:PLAINTEXT",
        inter_broker_listener_name="V4",
    )
    assert str(made.listeners[1]) == "V6://[::1]:9092"


def test_broker_configs_are_described_with_their_source() -> None:
    made = config(log_retention_ms="1000", background_threads="3")
    entries = {entry.name: entry for entry in describe_broker(made, {"log.retention.ms": "7"}, {"num.partitions": "2"})}
    retention = entries["log.retention.ms"]
    assert (retention.value, retention.source, retention.kind) == ("7", Source.DYNAMIC_BROKER, Kind.LONG)
    assert [(s.name, s.value, s.source) for s in retention.synonyms] == [
        ("log.retention.ms", "7", Source.DYNAMIC_BROKER),
        ("log.retention.ms", "1000", Source.STATIC_BROKER),
    ]
    assert not retention.read_only
    assert entries["node.id"].read_only
    assert "has no effect here" in entries["background.threads"].documentation.lower()
    assert entries["ssl.keystore.password"].sensitive
    assert entries["ssl.keystore.password"].value is None


def test_every_key_is_documented_or_says_why_it_has_no_effect() -> None:
    for key in (*KEYS.values(), *TOPIC_KEYS.values()):
        assert bool(key.doc) != bool(key.no_effect), key.name
        key.parse(key.default)

"""What may be set for a topic, and what a topic has in the end."""

from __future__ import annotations

import pytest

from broadsheet_broker.config import (
    TOPIC_KEYS,
    BrokerConfig,
    Source,
    describe_topic,
    effective_topic_configs,
    load_config,
    validate_topic_configs,
)
from broadsheet_broker.wire.errors import ErrorCode, KafkaError


def config(*overrides: str) -> BrokerConfig:
    return load_config(None, overrides)


@pytest.mark.parametrize(
    "good",
    [
        {},
        {"retention.ms": "-1"},
        {"cleanup.policy": "compact,delete"},
        {"cleanup.policy": ""},
        {"cleanup.policy": "delete,delete"},
        {"retention.ms": None},
        {"leader.replication.throttled.replicas": "*"},
        {"follower.replication.throttled.replicas": "0:1,1:2"},
        {"compression.gzip.level": "-1"},
        {"segment.bytes": "1048576"},
    ],
)
def test_allowed(good: dict[str, str | None]) -> None:
    validate_topic_configs(good)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"retention": "1"}, "Unknown topic config name: retention"),
        ({"retention.mss": "1"}, "did you mean retention.ms"),
        ({"retention.ms": "-2"}, "Invalid value -2 for configuration retention.ms: allowed is at least -1"),
        ({"retention.ms": "abc"}, "Invalid value abc for configuration retention.ms"),
        ({"retention.ms": ""}, "Invalid value  for configuration retention.ms"),
        ({"segment.bytes": "1000"}, "allowed is at least 1048576"),
        ({"cleanup.policy": "shred"}, "allowed is a list of compact, delete"),
        ({"compression.type": "zip"}, "one of uncompressed, zstd, lz4, snappy, gzip, producer"),
        ({"min.cleanable.dirty.ratio": "1.5"}, "a number from 0 to 1"),
        ({"compression.gzip.level": "0"}, "1 to 9, or -1"),
        ({"message.timestamp.type": "createtime"}, "one of CreateTime, LogAppendTime"),
        ({"leader.replication.throttled.replicas": "a"}, "pairs partition:broker"),
        ({"leader.replication.throttled.replicas": "\N{SUPERSCRIPT TWO}:1"}, "pairs partition:broker"),
        ({"leader.replication.throttled.replicas": "9" * 5000 + ":1"}, "pairs partition:broker"),
        ({"retention.ms": "9" * 5000}, "allowed is a whole number"),
        ({"retention.ms": "\N{SUPERSCRIPT TWO}"}, "allowed is a whole number"),
        ({"remote.storage.enable": "true"}, "tiered storage is not built"),
        ({"min.compaction.lag.ms": "2", "max.compaction.lag.ms": "1"}, "conflict topic config setting"),
    ],
)
def test_refused(bad: dict[str, str | None], message: str) -> None:
    with pytest.raises(KafkaError, match=message) as caught:
        validate_topic_configs(bad)
    assert caught.value.code == ErrorCode.INVALID_CONFIG


def test_defaults_are_those_of_kafka() -> None:
    effective = effective_topic_configs(config())
    assert effective["retention.ms"] == "604800000"
    assert effective["segment.ms"] == "604800000"
    assert effective["segment.jitter.ms"] == "0"
    assert effective["flush.ms"] == "9223372036854775807"
    assert effective["max.message.bytes"] == "1048588"
    assert effective["cleanup.policy"] == "delete"
    assert set(effective) == set(TOPIC_KEYS) - {"internal.segment.bytes"}


@pytest.mark.parametrize(
    ("overrides", "own", "retention"),
    [
        ((), {}, "604800000"),
        (("log.retention.hours=1",), {}, "3600000"),
        (("log.retention.hours=1", "log.retention.minutes=2"), {}, "120000"),
        (("log.retention.hours=1", "log.retention.minutes=2", "log.retention.ms=3"), {}, "3"),
        (("log.retention.hours=-1",), {}, "-1"),
        (("log.retention.ms=3",), {"retention.ms": "4"}, "4"),
    ],
)
def test_a_topic_takes_the_brokers_default(overrides: tuple[str, ...], own: dict[str, str], retention: str) -> None:
    assert effective_topic_configs(config(*overrides), own)["retention.ms"] == retention


def test_what_was_changed_for_one_broker_comes_before_what_was_changed_for_all() -> None:
    made = config("log.retention.ms=1")
    assert effective_topic_configs(made, {}, {}, {"log.retention.ms": "2"})["retention.ms"] == "2"
    assert (
        effective_topic_configs(made, {}, {"log.retention.ms": "3"}, {"log.retention.ms": "2"})["retention.ms"] == "3"
    )


def test_a_topic_is_described_with_its_synonyms() -> None:
    made = config("log.retention.hours=1")
    entries = {entry.name: entry for entry in describe_topic(made, {"retention.ms": "5"})}
    retention = entries["retention.ms"]
    assert (retention.value, retention.source) == ("5", Source.TOPIC)
    assert [(s.name, s.value, s.source) for s in retention.synonyms] == [
        ("retention.ms", "5", Source.TOPIC),
        ("log.retention.hours", "1", Source.STATIC_BROKER),
        ("log.retention.hours", "168", Source.DEFAULT),
    ]
    assert entries["segment.bytes"].source == Source.DEFAULT
    assert "internal.segment.bytes" not in entries

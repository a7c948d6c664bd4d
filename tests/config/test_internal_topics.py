"""The table of the topics that Kafka keeps for itself: its names, its keys, and that nobody keeps a second list."""

from __future__ import annotations

from pathlib import Path

import pytest

import broadsheet_broker
from broadsheet_broker.config import KEYS, TOPIC_KEYS, load_config, validate_topic_configs
from broadsheet_broker.config.internal_topics import CLUSTER_METADATA_TOPIC, INTERNAL_TOPICS, InternalTopic, is_internal

PACKAGE = Path(broadsheet_broker.__file__).parent


def test_the_names_are_kafkas() -> None:
    assert set(INTERNAL_TOPICS) == {"__consumer_offsets", "__transaction_state", "__share_group_state"}
    assert all(is_internal(name) for name in INTERNAL_TOPICS)
    assert not is_internal(CLUSTER_METADATA_TOPIC)  # not a topic that the metadata lists
    assert not is_internal("orders")


@pytest.mark.parametrize("topic", INTERNAL_TOPICS.values(), ids=lambda topic: topic.name)
def test_every_key_of_a_row_is_honoured(topic: InternalTopic) -> None:
    for name in (topic.partitions_key, topic.replication_factor_key, *topic.configured.values()):
        assert not KEYS[name].no_effect
    assert {*topic.fixed, *topic.configured} <= set(TOPIC_KEYS)


@pytest.mark.parametrize("topic", INTERNAL_TOPICS.values(), ids=lambda topic: topic.name)
def test_a_topic_can_be_created_with_its_properties(topic: InternalTopic) -> None:
    config = load_config()
    validate_topic_configs(topic.topic_configs(config))
    assert topic.topic_configs(config)["segment.bytes"] == "104857600"


def test_a_single_node_can_have_all_of_them() -> None:
    config = load_config()
    for topic in INTERNAL_TOPICS.values():
        assert config.get_int(topic.replication_factor_key) == 1
        assert topic.topic_configs(config).get("min.insync.replicas", "1") == "1"


def test_the_names_are_written_nowhere_else() -> None:
    names = [f'"{name}' for name in (*INTERNAL_TOPICS, CLUSTER_METADATA_TOPIC)]
    texts = {path.name: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    holders = {file for file, text in texts.items() if any(name in text for name in names)}
    assert holders == {"internal_topics.py"}

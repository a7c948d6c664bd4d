"""Metadata and the administration of topics and configurations, through the codec, over a real controller."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from broadsheet_broker.apis import load, metadata
from broadsheet_broker.apis.notices import Notices
from broadsheet_broker.apis.registry import REGISTRY
from broadsheet_broker.apis.request import Request
from broadsheet_broker.metadata import MetadataCache
from broadsheet_broker.node import MetadataNode, automatic_topics
from broadsheet_broker.storage_tool import load_identity
from broadsheet_broker.wire.api_messages import request_class, response_class
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages import describe_configs_request as describe
from broadsheet_broker.wire.messages import describe_topic_partitions_request as partitions
from broadsheet_broker.wire.messages.create_topics_request import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from broadsheet_broker.wire.messages.delete_topics_request import DeleteTopicsRequest
from broadsheet_broker.wire.messages.describe_cluster_request import DescribeClusterRequest
from broadsheet_broker.wire.messages.describe_quorum_request import DescribeQuorumRequest, PartitionData, TopicData
from broadsheet_broker.wire.messages.init_producer_id_request import InitProducerIdRequest
from broadsheet_broker.wire.messages.list_config_resources_request import ListConfigResourcesRequest
from broadsheet_broker.wire.messages.metadata_request import MetadataRequest, MetadataRequestTopic
from tests.support.controllers import CLUSTER_ID, broker_config, environment

load()


class Call(Request[Any]):
    """Keeps its answers."""

    __slots__ = ("answers",)

    def answer(self, message: Any) -> None:
        self.answers.append(message)


class Client:
    """Asks the handlers and gives back what a client would decode."""

    def __init__(self, services: Any) -> None:
        self.services = services
        self.listener = "PLAINTEXT"

    async def ask(self, key: int, body: Any, version: int | None = None) -> Any:
        version = REGISTRY[key].highest if version is None else version
        decoded, _ = request_class(key).decode(memoryview(b"".join(body.encode(version))), version)
        connection: Any = SimpleNamespace(
            id=1, listener=self.listener, host="127.0.0.1", principal="User:ANONYMOUS", closed=False
        )
        request = Call(key, version, 1, "test", decoded, connection, 0.0)
        request.answers = []
        waiting = REGISTRY[key].handler(self.services, request)
        if waiting is not None:
            await waiting
        (answer,) = request.answers
        return response_class(key).decode(memoryview(b"".join(answer.encode(version))), version)[0]


@asynccontextmanager
async def cluster(directory: Path, **overrides: str) -> AsyncIterator[Client]:
    env = environment()
    config = broker_config(directory, **overrides)
    metadata = MetadataCache(config)
    controller = MetadataNode(env, config, metadata, load_identity(env, config))
    await controller.start()
    try:
        services = SimpleNamespace(environment=env, config=config, metadata=metadata, node=controller)
        services.notices = Notices()
        yield Client(services)
    finally:
        await controller.stop()


def scenario(directory: Path, run: Callable[[Client], Awaitable[None]], **overrides: str) -> None:
    async def main() -> None:
        async with cluster(directory, **overrides) as client:
            await run(client)

    asyncio.run(main())


def named(*names: str) -> list[MetadataRequestTopic]:
    return [MetadataRequestTopic(name=name) for name in names]


async def create(client: Client, name: str, count: int = 1) -> uuid.UUID:
    topic = CreatableTopic(name=name, num_partitions=count, replication_factor=1)
    answer = await client.ask(19, CreateTopicsRequest(topics=[topic], timeout_ms=1000))
    assert answer.topics[0].error_code == 0, answer
    found: uuid.UUID = answer.topics[0].topic_id
    return found


@pytest.mark.parametrize("version", range(14))
def test_every_version_of_metadata_tells_of_brokers_and_topics(tmp_path: Path, version: int) -> None:
    async def run(client: Client) -> None:
        await create(client, "orders", 3)
        answer = await client.ask(3, MetadataRequest(topics=named("orders")), version)
        (broker,) = answer.brokers
        assert (broker.node_id, broker.host, broker.port) == (1, "127.0.0.1", 9092)
        (topic,) = answer.topics
        assert (topic.error_code, topic.name, topic.is_internal) == (0, "orders", False)
        rows = [(p.partition_index, p.leader_id, p.replica_nodes, p.isr_nodes) for p in topic.partitions]
        assert rows == [(index, 1, [1], [1]) for index in range(3)]
        if version >= 1:
            assert answer.controller_id == 1
        if version >= 2:
            assert answer.cluster_id == CLUSTER_ID

    scenario(tmp_path, run)


def test_null_topics_are_all_topics_and_an_empty_list_none(tmp_path: Path) -> None:
    async def run(client: Client) -> None:
        await create(client, "a")
        await create(client, "b")
        assert {t.name for t in (await client.ask(3, MetadataRequest(topics=None))).topics} == {"a", "b"}
        assert (await client.ask(3, MetadataRequest(topics=[]))).topics == []
        assert len((await client.ask(3, MetadataRequest(topics=[]), 0)).topics) == 2, "version 0 has no null"

    scenario(tmp_path, run)


@pytest.mark.parametrize("version", range(14))
def test_all_topics_are_encoded_once_for_all_that_ask_and_again_when_something_changes(
    tmp_path: Path, version: int
) -> None:
    async def run(client: Client) -> None:
        await create(client, "a")
        asked = MetadataRequest(topics=None if version else [])
        first = await client.ask(3, asked, version)
        image = client.services.metadata.image
        (kept,) = image.derived["metadata"].values()
        assert await client.ask(3, asked, version) == first
        assert list(image.derived["metadata"].values()) == [kept]
        if version >= 3:
            kept.throttle_time_ms = 1234
            throttled = await client.ask(3, asked, version)
            assert (throttled.throttle_time_ms, throttled.topics) == (1234, first.topics)
            assert await client.ask(3, asked, version) == first
        if version >= 8:
            with_operations = MetadataRequest(topics=None, include_topic_authorized_operations=True)
            (told,) = (await client.ask(3, with_operations, version)).topics
            assert told.topic_authorized_operations == 3576
        await create(client, "b")
        assert {topic.name for topic in (await client.ask(3, asked, version)).topics} == {"a", "b"}

    scenario(tmp_path, run)


def test_what_is_kept_for_an_image_is_bounded(tmp_path: Path) -> None:
    async def run(client: Client) -> None:
        await create(client, "a")
        for version in range(14):
            for topics, cluster in itertools.product((False, True), repeat=2):
                asked = MetadataRequest(topics=None if version else [])
                if version >= 8:
                    asked.include_topic_authorized_operations = topics
                if 8 <= version <= 10:
                    asked.include_cluster_authorized_operations = cluster
                assert [topic.name for topic in (await client.ask(3, asked, version)).topics] == ["a"]
        assert len(client.services.metadata.image.derived["metadata"]) <= 8

    scenario(tmp_path, run)


def test_topics_by_id(tmp_path: Path) -> None:
    async def run(client: Client) -> None:
        known = await create(client, "orders")
        unknown = uuid.UUID(int=77)
        asked = [MetadataRequestTopic(topic_id=known, name=None), MetadataRequestTopic(topic_id=unknown, name=None)]
        answer = await client.ask(3, MetadataRequest(topics=asked))
        assert [(t.error_code, t.name, t.topic_id) for t in answer.topics] == [
            (0, "orders", known),
            (ErrorCode.UNKNOWN_TOPIC_ID, None, unknown),
        ]

    scenario(tmp_path, run)


def test_topics_come_into_being_when_client_and_broker_allow_it(tmp_path: Path) -> None:
    async def run(client: Client) -> None:
        for allowed in (False, False, True):
            request = MetadataRequest(topics=named("orders"), allow_auto_topic_creation=allowed)
            (topic,) = (await client.ask(3, request)).topics
            assert topic.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "not even in the answer that makes it"
            assert topic.partitions == []
        (topic,) = (await client.ask(3, request)).topics
        assert (topic.error_code, len(topic.partitions)) == (0, 2), "num.partitions"
        (bad,) = (await client.ask(3, MetadataRequest(topics=named("no/topic")))).topics
        assert bad.error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
        (offsets,) = (await client.ask(3, MetadataRequest(topics=named("__consumer_offsets")))).topics
        assert offsets.is_internal and offsets.partitions == []
        (offsets,) = (await client.ask(3, MetadataRequest(topics=named("__consumer_offsets")))).topics
        assert offsets.is_internal and len(offsets.partitions) == 50

    scenario(tmp_path, run, num_partitions="2")


def test_a_topic_of_a_coordinator_comes_into_being_as_kafka_makes_it(tmp_path: Path) -> None:
    async def run(client: Client) -> None:
        await client.ask(3, MetadataRequest(topics=named("__transaction_state")))
        (topic,) = (await client.ask(3, MetadataRequest(topics=named("__transaction_state")))).topics
        assert topic.is_internal and len(topic.partitions) == 7
        asked = describe.DescribeConfigsResource(resource_type=2, resource_name="__transaction_state")
        (described,) = (await client.ask(32, describe.DescribeConfigsRequest(resources=[asked]))).results
        values = {row.name: row.value for row in described.configs}
        assert values["cleanup.policy"] == "compact" and values["min.insync.replicas"] == "1"

    scenario(
        tmp_path,
        run,
        transaction_state_log_num_partitions="7",
        transaction_state_log_replication_factor="1",
        transaction_state_log_min_isr="1",
    )


def test_a_topic_that_was_deleted_is_gone_for_who_looks_although_looking_makes_it(tmp_path: Path) -> None:
    """Clients delete a topic and read its partitions: with partitions in the answer it seemed to be still there."""

    async def run(client: Client) -> None:
        await create(client, "orders")
        await client.ask(20, DeleteTopicsRequest(topic_names=["orders"], timeout_ms=10_000), 3)
        (gone,) = (await client.ask(3, MetadataRequest(topics=named("orders")))).topics
        assert (gone.error_code, gone.partitions) == (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, [])

    scenario(tmp_path, run)


def test_existing_topics_do_not_wait_for_a_creation_that_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(client: Client) -> None:
        await create(client, "orders")
        automatic = client.services.node.automatic_topics
        orders: list[list[str]] = []

        async def order(request: CreateTopicsRequest, answer: Any) -> None:
            orders.append([topic.name for topic in request.topics])
            await asyncio.get_running_loop().create_future()

        monkeypatch.setattr(automatic, "_order", order)
        monkeypatch.setattr(metadata, "_CREATION_SECONDS", 0.01)
        for _ in range(2):
            answer = await client.ask(3, MetadataRequest(topics=named("orders", "new")))
            assert [(topic.name, topic.error_code) for topic in answer.topics] == [
                ("orders", 0),
                ("new", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
            ]
        assert orders == [["new"]], "one creation, however often it is asked for"
        monkeypatch.setattr(automatic_topics, "MOST_UNDER_WAY", 2)
        await client.ask(3, MetadataRequest(topics=named("another", "one too many")))
        assert orders == [["new"], ["another"]]

    scenario(tmp_path, run)


def test_why_a_topic_cannot_be_made_is_told(tmp_path: Path) -> None:
    async def run(client: Client) -> None:
        (topic,) = (await client.ask(3, MetadataRequest(topics=named("orders")))).topics
        assert topic.error_code == ErrorCode.INVALID_REPLICATION_FACTOR

    scenario(tmp_path, run, default_replication_factor="3")


def test_no_topic_comes_into_being_when_the_broker_forbids_it(tmp_path: Path) -> None:
    async def run(client: Client) -> None:
        (topic,) = (await client.ask(3, MetadataRequest(topics=named("orders")))).topics
        assert topic.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    scenario(tmp_path, run, auto_create_topics_enable="false")


def test_authorized_operations_are_told_when_asked_for(tmp_path: Path) -> None:
    async def run(client: Client) -> None:
        await create(client, "orders")
        (silent,) = (await client.ask(3, MetadataRequest(topics=named("orders")))).topics
        assert silent.topic_authorized_operations == -(2**31)
        asked = MetadataRequest(topics=named("orders"), include_topic_authorized_operations=True)
        (told,) = (await client.ask(3, asked)).topics
        assert told.topic_authorized_operations == 3576
        (silent,) = (await client.ask(3, MetadataRequest(topics=named("orders")))).topics
        assert silent.topic_authorized_operations == -(2**31)

    scenario(tmp_path, run)


def test_created_topics_are_answered_with_their_configuration(tmp_path: Path) -> None:
    async def run(client: Client) -> None:
        request = CreateTopicsRequest(
            topics=[CreatableTopic(name="orders", num_partitions=2, replication_factor=1)], timeout_ms=1
        )
        (result,) = (await client.ask(19, request)).topics
        assert (result.num_partitions, result.replication_factor, result.error_message) == (2, 1, None)
        configs = {config.name: config for config in result.configs}
        assert configs["cleanup.policy"].value == "delete" and configs["cleanup.policy"].config_source == 5

    scenario(tmp_path, run)


def test_deletion_can_be_switched_off(tmp_path: Path) -> None:
    async def run(client: Client) -> None:
        await create(client, "orders")
        with pytest.raises(KafkaError) as caught:
            await client.ask(20, DeleteTopicsRequest(topic_names=["orders"], timeout_ms=1), 5)
        assert caught.value.code is ErrorCode.TOPIC_DELETION_DISABLED
        with pytest.raises(KafkaError) as caught:
            await client.ask(20, DeleteTopicsRequest(topic_names=["orders"], timeout_ms=1), 2)
        assert caught.value.code is ErrorCode.INVALID_REQUEST

    scenario(tmp_path, run, delete_topic_enable="false")


def resource(type: int, name: str, keys: list[str] | None = None) -> describe.DescribeConfigsResource:
    return describe.DescribeConfigsResource(resource_type=type, resource_name=name, configuration_keys=keys)


def test_configurations_are_described_with_source_synonyms_and_documentation(tmp_path: Path) -> None:
    async def run(client: Client) -> None:
        await create(client, "orders")
        asked = describe.DescribeConfigsRequest(
            resources=[
                resource(2, "orders"),
                resource(4, "1"),
                resource(2, "nothing"),
                resource(4, "7"),
                resource(4, "--1"),
            ],
            include_synonyms=True,
            include_documentation=True,
        )
        topic, broker, missing, other, odd = (await client.ask(32, asked)).results
        rows = {row.name: row for row in topic.configs}
        assert rows["max.message.bytes"].synonyms[0].name == "message.max.bytes"
        assert rows["max.message.bytes"].documentation
        rows = {row.name: row for row in broker.configs}
        assert rows["node.id"].value == "1" and rows["node.id"].read_only and rows["node.id"].config_source == 4
        assert all(row.value is None for row in broker.configs if row.is_sensitive)
        assert missing.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert "Unexpected broker id, expected 1 or empty string, but received 7" in other.error_message
        assert odd.error_message == "Broker id must be an integer, but it is: --1"
        one = describe.DescribeConfigsRequest(resources=[resource(2, "orders", ["retention.ms"])])
        assert [row.name for row in (await client.ask(32, one)).results[0].configs] == ["retention.ms"]

    scenario(tmp_path, run)


def test_topics_of_the_same_settings_share_their_description_and_only_those(tmp_path: Path) -> None:
    """A thousand topics took two thirds of a second, in which no other request was handled."""

    async def run(client: Client) -> None:
        for name in ("a", "b"):
            await create(client, name)
        own = CreatableTopicConfig(name="retention.ms", value="1234")
        topics = [
            CreatableTopic(name=f"own-{number}", num_partitions=1, replication_factor=1, configs=[own])
            for number in range(2)
        ]
        topics += [
            CreatableTopic(
                name=f"each-{number}",
                num_partitions=1,
                replication_factor=1,
                configs=[CreatableTopicConfig(name="retention.ms", value=str(number))],
            )
            for number in range(80)
        ]
        await client.ask(19, CreateTopicsRequest(topics=topics, timeout_ms=1000))

        async def described(*names: str, **flags: bool) -> dict[str, list[Any]]:
            body = describe.DescribeConfigsRequest(resources=[resource(2, name) for name in names], **flags)
            answer = await client.ask(32, body, 4)
            return {result.resource_name: result.configs for result in answer.results}

        found = await described("a", "b", "own-0", "own-1", "each-7")
        assert found["a"] == found["b"]
        assert found["own-0"] == found["own-1"] != found["a"]
        kept = client.services.metadata.image.derived["configurations"]
        assert len(kept) == 3
        values = {name: {row.name: row.value for row in rows}["retention.ms"] for name, rows in found.items()}
        assert values == {"a": "604800000", "b": "604800000", "own-0": "1234", "own-1": "1234", "each-7": "7"}
        documented = await described("a", include_documentation=True)
        assert all(row.documentation for row in documented["a"])
        assert not any(row.documentation for row in (await described("a"))["a"])
        await described(*[f"each-{number}" for number in range(80)])
        assert len(kept) == 64

    scenario(tmp_path, run)


def test_topic_partitions_come_in_pages(tmp_path: Path) -> None:
    async def run(client: Client) -> None:
        await create(client, "a", 3)
        await create(client, "b", 2)
        seen, cursor = [], None
        for _ in range(10):
            request = partitions.DescribeTopicPartitionsRequest(topics=[], response_partition_limit=2, cursor=cursor)
            answer = await client.ask(75, request)
            seen += [(topic.name, row.partition_index) for topic in answer.topics for row in topic.partitions]
            if answer.next_cursor is None:
                break
            cursor = partitions.Cursor(
                topic_name=answer.next_cursor.topic_name, partition_index=answer.next_cursor.partition_index
            )
        assert seen == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)]
        unknown = partitions.DescribeTopicPartitionsRequest(topics=[partitions.TopicRequest(name="x")])
        assert (await client.ask(75, unknown)).topics[0].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    scenario(tmp_path, run)


def test_the_cluster_and_its_quorum(tmp_path: Path) -> None:
    async def run(client: Client) -> None:
        answer = await client.ask(60, DescribeClusterRequest())
        assert (answer.cluster_id, answer.controller_id, [b.port for b in answer.brokers]) == (CLUSTER_ID, 1, [9092])
        with pytest.raises(KafkaError) as caught:
            await client.ask(60, DescribeClusterRequest(endpoint_type=2))
        assert caught.value.code is ErrorCode.MISMATCHED_ENDPOINT_TYPE
        client.listener = "CONTROLLER"
        answer = await client.ask(60, DescribeClusterRequest(endpoint_type=2))
        assert [b.port for b in answer.brokers] == [9093]
        rows = [PartitionData(partition_index=0), PartitionData(partition_index=1)]
        request = DescribeQuorumRequest(topics=[TopicData(topic_name="__cluster_metadata", partitions=rows)])
        quorum, unknown = (await client.ask(55, request)).topics[0].partitions
        assert (quorum.leader_id, quorum.leader_epoch, quorum.current_voters[0].replica_id) == (1, 1, 1)
        assert quorum.high_watermark == quorum.current_voters[0].log_end_offset
        assert unknown.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    scenario(tmp_path, run)


@pytest.mark.parametrize("version", [0, 1, 2])
def test_the_quorum_is_described_in_versions_without_nodes_and_directories(tmp_path: Path, version: int) -> None:
    async def run(client: Client) -> None:
        rows = [PartitionData(partition_index=0)]
        request = DescribeQuorumRequest(topics=[TopicData(topic_name="__cluster_metadata", partitions=rows)])
        answer = await client.ask(55, request, version)
        (quorum,) = answer.topics[0].partitions
        assert (quorum.error_code, quorum.leader_id) == (0, 1)
        assert len(answer.nodes) == (1 if version == 2 else 0)

    scenario(tmp_path, run)


def test_producer_ids_are_never_given_twice(tmp_path: Path) -> None:
    async def run(client: Client) -> None:
        answers = await asyncio.gather(
            *(client.ask(22, InitProducerIdRequest(transactional_id=None)) for _ in range(9))
        )
        ids = {answer.producer_id for answer in answers}
        assert len(ids) == 9 and {answer.producer_epoch for answer in answers} == {0}
        with pytest.raises(KafkaError, match="Transactions are not served yet"):
            await client.ask(22, InitProducerIdRequest(transactional_id="t"))

    scenario(tmp_path, run)

    async def again(client: Client) -> None:
        answer = await client.ask(22, InitProducerIdRequest(transactional_id=None))
        assert answer.producer_id >= 1000, "the rest of the block died with the process that had it"

    scenario(tmp_path, again)


def test_configurable_resources_are_listed(tmp_path: Path) -> None:
    async def run(client: Client) -> None:
        await create(client, "orders")
        answer = await client.ask(74, ListConfigResourcesRequest(resource_types=[]))
        assert {(row.resource_type, row.resource_name) for row in answer.config_resources} == {
            (2, "orders"),
            (4, "1"),
            (8, "1"),
        }
        assert (await client.ask(74, ListConfigResourcesRequest(), 0)).config_resources == []

    scenario(tmp_path, run)

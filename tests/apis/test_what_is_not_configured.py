"""APIs of what this broker does not have, with the empty or disabled answers that tools know from Apache Kafka."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from broadsheet_broker.config import Source
from broadsheet_broker.metadata.image import ResourceType
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages import describe_configs_request as describe
from broadsheet_broker.wire.messages import describe_user_scram_credentials_request as scram
from broadsheet_broker.wire.messages import incremental_alter_configs_request as alter
from broadsheet_broker.wire.messages.create_acls_request import AclCreation, CreateAclsRequest
from broadsheet_broker.wire.messages.create_topics_request import CreatableTopic, CreateTopicsRequest
from broadsheet_broker.wire.messages.delete_acls_request import DeleteAclsFilter, DeleteAclsRequest
from broadsheet_broker.wire.messages.describe_acls_request import DescribeAclsRequest
from broadsheet_broker.wire.messages.describe_client_quotas_request import ComponentData, DescribeClientQuotasRequest
from broadsheet_broker.wire.messages.list_transactions_request import ListTransactionsRequest
from broadsheet_broker.wire.messages.user_scram_credential_record import UserScramCredentialRecord
from tests.apis.test_metadata_apis import Client, cluster

LOGGER = "broadsheet_broker.apis.test"


def ask(directory: Path, scenario: Callable[[Client], Awaitable[None]]) -> None:
    async def main() -> None:
        async with cluster(directory) as client:
            await scenario(client)

    asyncio.run(main())


def test_acls_are_disabled(tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        described = await client.ask(29, DescribeAclsRequest(resource_type_filter=1, pattern_type_filter=1))
        assert described.error_code == ErrorCode.SECURITY_DISABLED
        assert described.error_message == "No Authorizer is configured on the broker"
        assert described.resources == []
        creation = AclCreation(resource_type=2, resource_name="orders", principal="User:a", host="*", operation=3)
        created = await client.ask(30, CreateAclsRequest(creations=[creation, creation]))
        assert [row.error_code for row in created.results] == [ErrorCode.SECURITY_DISABLED] * 2
        filters = [DeleteAclsFilter(resource_type_filter=1, operation=1, permission_type=1)]
        deleted = await client.ask(31, DeleteAclsRequest(filters=filters))
        assert [row.error_message for row in deleted.filter_results] == ["No Authorizer is configured."]

    ask(tmp_path, scenario)


QUOTAS = {
    (("client-id", "app"), ("user", "ann")): {"producer_byte_rate": 1024.0},
    (("user", None),): {"consumer_byte_rate": 2048.0},
    (("ip", "127.0.0.1"),): {"connection_creation_rate": 5.0},
}


@pytest.mark.parametrize(
    ("components", "strict", "expected"),
    [
        ([], False, list(QUOTAS)),
        ([], True, []),
        ([("user", 0, "ann")], False, [(("client-id", "app"), ("user", "ann"))]),
        ([("user", 0, "ann")], True, []),
        ([("user", 1, None)], False, [(("user", None),)]),
        ([("user", 2, None)], False, [(("client-id", "app"), ("user", "ann")), (("user", None),)]),
        ([("ip", 2, None)], True, [(("ip", "127.0.0.1"),)]),
        ([("client-id", 0, "other")], False, []),
    ],
)
def test_quotas_are_those_of_the_metadata(tmp_path: Path, components: Any, strict: bool, expected: Any) -> None:
    async def scenario(client: Client) -> None:
        rows = [ComponentData(entity_type=type, match_type=match, match=name) for type, match, name in components]
        request = DescribeClientQuotasRequest(components=rows, strict=strict)
        assert (await client.ask(48, request)).entries == []
        image = dataclasses.replace(client.services.metadata.image, client_quotas=QUOTAS)
        client.services.metadata = SimpleNamespace(image=image)
        answer = await client.ask(48, request)
        found = [tuple((e.entity_type, e.entity_name) for e in entry.entity) for entry in answer.entries]
        assert found == expected
        assert all(entry.values[0].value for entry in answer.entries)

    ask(tmp_path, scenario)


@pytest.mark.parametrize(
    ("components", "code", "message"),
    [
        ([("", 0, "a")], ErrorCode.INVALID_REQUEST, "empty entity type"),
        ([("user", 0, "a"), ("user", 1, None)], ErrorCode.INVALID_REQUEST, "more than once"),
        ([("group", 0, "a")], ErrorCode.UNSUPPORTED_VERSION, "Unsupported entity type group"),
        ([("user", 7, "a")], ErrorCode.INVALID_REQUEST, "Unknown match type 7"),
        ([("user", 0, None)], ErrorCode.INVALID_REQUEST, "needs a match string"),
        ([("user", 1, "a")], ErrorCode.INVALID_REQUEST, "takes no match string"),
        ([("ip", 2, None), ("user", 2, None)], ErrorCode.INVALID_REQUEST, "IP filter"),
    ],
)
def test_filters_of_quotas_that_mean_nothing_are_refused(
    tmp_path: Path, components: Any, code: ErrorCode, message: str
) -> None:
    async def scenario(client: Client) -> None:
        rows = [ComponentData(entity_type=type, match_type=match, match=name) for type, match, name in components]
        with pytest.raises(KafkaError, match=message) as caught:
            await client.ask(48, DescribeClientQuotasRequest(components=rows))
        assert caught.value.code is code

    ask(tmp_path, scenario)


def test_credentials_are_those_of_the_metadata_without_their_secrets(tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        everyone = scram.DescribeUserScramCredentialsRequest(users=None)
        assert (await client.ask(50, everyone)).results == []
        names = [scram.UserName(name=name) for name in ("ann", "bob", "bob")]
        asked = scram.DescribeUserScramCredentialsRequest(users=names)
        answer = await client.ask(50, asked)
        assert {row.user: row.error_code for row in answer.results} == {
            "ann": ErrorCode.RESOURCE_NOT_FOUND,
            "bob": ErrorCode.DUPLICATE_RESOURCE,
        }
        record = UserScramCredentialRecord(name="ann", mechanism=1, iterations=4096)
        image = dataclasses.replace(client.services.metadata.image, scram={("ann", 1): record})
        client.services.metadata = SimpleNamespace(image=image)
        (row,) = (await client.ask(50, everyone)).results
        assert (row.user, row.error_code) == ("ann", 0)
        assert [(info.mechanism, info.iterations) for info in row.credential_infos] == [(1, 4096)]

    ask(tmp_path, scenario)


def test_there_are_no_transactions(tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        request = ListTransactionsRequest(state_filters=["Ongoing", "Nonsense"])
        answer = await client.ask(66, request)
        assert (answer.error_code, answer.transaction_states, answer.unknown_state_filters) == (0, [], ["Nonsense"])

    ask(tmp_path, scenario)


def described(type: int, name: str) -> describe.DescribeConfigsRequest:
    resource = describe.DescribeConfigsResource(resource_type=type, resource_name=name, configuration_keys=None)
    return describe.DescribeConfigsRequest(resources=[resource], include_synonyms=True)


@pytest.mark.parametrize("type", [ResourceType.GROUP, ResourceType.CLIENT_METRICS])
def test_groups_and_client_metrics_have_no_configs_of_their_own(tmp_path: Path, type: ResourceType) -> None:
    async def scenario(client: Client) -> None:
        (row,) = (await client.ask(32, described(type, "readers"))).results
        assert (row.error_code, row.configs) == (0, [])
        (row,) = (await client.ask(32, described(type, ""))).results
        assert row.error_code == ErrorCode.INVALID_REQUEST
        assert row.error_message.endswith("name must not be empty")

    ask(tmp_path, scenario)


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    found = logging.getLogger(LOGGER)
    yield found
    found.setLevel(logging.NOTSET)


def change(name: str, operation: int, value: str | None, broker: str = "1", *, validate_only: bool = False) -> Any:
    configs = [alter.AlterableConfig(name=name, config_operation=operation, value=value)]
    resource = alter.AlterConfigsResource(
        resource_type=ResourceType.BROKER_LOGGER, resource_name=broker, configs=configs
    )
    return alter.IncrementalAlterConfigsRequest(resources=[resource], validate_only=validate_only)


def test_log_levels_are_read_and_changed_while_the_broker_runs(tmp_path: Path, logger: logging.Logger) -> None:
    async def scenario(client: Client) -> None:
        async def level() -> str:
            (row,) = (await client.ask(32, described(ResourceType.BROKER_LOGGER, "1"))).results
            shown = {config.name: config for config in row.configs}
            assert "root" in shown and shown[LOGGER].config_source == Source.BROKER_LOGGER
            assert not shown[LOGGER].read_only and shown[LOGGER].synonyms == []
            return str(shown[LOGGER].value)

        before = await level()
        await client.ask(44, change(LOGGER, 0, "ERROR", validate_only=True))
        assert await level() == before
        (row,) = (await client.ask(44, change(LOGGER, 0, "ERROR"))).responses
        assert (row.error_code, row.resource_type, row.resource_name) == (0, ResourceType.BROKER_LOGGER, "1")
        assert await level() == "ERROR" and logger.level == logging.ERROR
        await client.ask(44, change(LOGGER, 1, None))
        assert await level() == before and logger.level == logging.NOTSET

    ask(tmp_path, scenario)


@pytest.mark.parametrize(
    ("request_of", "code", "message"),
    [
        (lambda: change("kafka.nothing", 0, "INFO"), ErrorCode.INVALID_CONFIG, "Logger kafka.nothing does not exist!"),
        (lambda: change(LOGGER, 0, "LOUD"), ErrorCode.INVALID_CONFIG, "LOUD as it is not a supported log level"),
        (lambda: change(LOGGER, 2, "INFO"), ErrorCode.INVALID_REQUEST, "SET or DELETE"),
        (lambda: change("root", 1, None), ErrorCode.INVALID_REQUEST, "the root logger is not allowed"),
        (lambda: change(LOGGER, 0, "INFO", "2"), ErrorCode.INVALID_REQUEST, "Unexpected broker id, expected 1"),
        (lambda: change(LOGGER, 0, "INFO", ""), ErrorCode.INVALID_REQUEST, "Broker id must not be empty"),
    ],
)
def test_log_levels_that_cannot_be_set_are_refused(
    tmp_path: Path, logger: logging.Logger, request_of: Callable[[], Any], code: ErrorCode, message: str
) -> None:
    async def scenario(client: Client) -> None:
        (row,) = (await client.ask(44, request_of())).responses
        assert row.error_code == code
        assert message in row.error_message
        assert logger.level == logging.NOTSET

    ask(tmp_path, scenario)


def test_a_topic_property_without_a_broker_property_names_no_default(tmp_path: Path) -> None:
    async def scenario(client: Client) -> None:
        topic = CreatableTopic(name="orders", num_partitions=1, replication_factor=1)
        await client.ask(19, CreateTopicsRequest(topics=[topic], timeout_ms=10_000))
        (row,) = (await client.ask(32, described(ResourceType.TOPIC, "orders"))).results
        shown = {config.name: config for config in row.configs}
        throttled = shown["leader.replication.throttled.replicas"]
        assert (throttled.config_source, throttled.synonyms) == (Source.DEFAULT, [])
        assert [synonym.source for synonym in shown["segment.bytes"].synonyms] == [Source.DEFAULT]

    ask(tmp_path, scenario)

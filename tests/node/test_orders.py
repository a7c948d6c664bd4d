"""The table of orders, and the way of an order to the active controller."""

from __future__ import annotations

import ast
import asyncio
import pathlib
from typing import Any
from unittest import mock

import pytest

from broadsheet_broker.apis import load
from broadsheet_broker.apis.controllers import carry_out_here, pass_on
from broadsheet_broker.apis.registry import REGISTRY, Handler
from broadsheet_broker.controller.orders import ORDERS
from broadsheet_broker.node.forwarding import expect
from broadsheet_broker.wire.api_messages import request_class, response_class
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.create_topics_request import CreatableTopic, CreateTopicsRequest
from broadsheet_broker.wire.messages.create_topics_response import CreateTopicsResponse
from broadsheet_broker.wire.messages.delete_topics_response import DeleteTopicsResponse
from broadsheet_broker.wire.messages.update_features_request import FeatureUpdateKey, UpdateFeaturesRequest
from broadsheet_broker.wire.messages.update_features_response import UpdateFeaturesResponse
from tests.node.support import start

PACKAGE = pathlib.Path(__file__).resolve().parents[2] / "broker-image/broadsheet_broker"


def test_every_order_has_one_row_and_every_row_is_served() -> None:
    load()
    handlers = (pass_on.__name__, carry_out_here.__name__, "order")
    served = {request_class(key) for key, api in REGISTRY.items() if names_in(api.handler).intersection(handlers)}
    assert served == set(ORDERS)


def names_in(handler: Handler) -> set[str]:
    """What a function names, read from its source: a compiled function has no code object."""
    source = (PACKAGE / f"{handler.__module__.partition('.')[2].replace('.', '/')}.py").read_text()
    (function,) = (
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == handler.__name__
    )
    nodes = list(ast.walk(function))
    return {node.id for node in nodes if isinstance(node, ast.Name)} | {
        node.attr for node in nodes if isinstance(node, ast.Attribute)
    }


def test_every_row_answers_with_the_response_of_its_request() -> None:
    """mypy checks a row's planner or method against the answer that it names; this checks the answer."""
    for request, row in ORDERS.items():
        assert row.answer is response_class(request.API_KEY)


def test_an_answer_of_another_type_is_an_error_and_not_believed() -> None:
    with pytest.raises(KafkaError, match="DeleteTopicsResponse instead of CreateTopics") as caught:
        expect(DeleteTopicsResponse(), CreateTopicsResponse)
    assert caught.value.code is ErrorCode.UNKNOWN_SERVER_ERROR


def run(test: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await test()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

    asyncio.run(bounded())


def test_an_order_whose_meaning_depends_on_its_version_is_forwarded_in_it() -> None:
    """UpdateFeatures 0 has `allow_downgrade` and no dry run; sent on in version 1 it would upgrade."""

    async def test() -> None:
        _, nodes = await start(3)
        sent: list[tuple[str, int]] = []
        peers = nodes[2]._forwarder._peers
        assert peers is not None
        real = peers.send

        def send(id: int, address: Any, request: Any, version: int, *rest: Any, **named: Any) -> None:
            sent.append((type(request).__name__, version))
            real(id, address, request, version, *rest, **named)

        with mock.patch.object(peers, "send", send):
            row = FeatureUpdateKey(feature="group.version", max_version_level=1)
            await nodes[2].order(UpdateFeaturesRequest(feature_updates=[row]), UpdateFeaturesResponse, 0)
            topic = CreatableTopic(name="orders", num_partitions=1, replication_factor=1)
            await nodes[2].order(CreateTopicsRequest(topics=[topic], timeout_ms=1000), CreateTopicsResponse, 2)
        assert ("UpdateFeaturesRequest", 0) in sent
        assert ("CreateTopicsRequest", CreateTopicsRequest.HIGHEST_VERSION) in sent

    run(test)


def test_a_client_that_waits_for_its_order_sees_what_was_done_on_the_broker_it_asked() -> None:
    """The answer waits until the image of that broker has the topic, however late the records come."""

    async def test() -> None:
        quorum, nodes = await start(3)
        late: list[int] = []
        node = quorum.nodes[3]
        real = node.catch_up

        def catch_up() -> None:
            loop = asyncio.get_running_loop()
            late.append(1)
            loop.call_later(0.3, real)

        with mock.patch.object(node, "catch_up", catch_up):
            topic = CreatableTopic(name="orders", num_partitions=1, replication_factor=1)
            answer = await nodes[3].order(CreateTopicsRequest(topics=[topic], timeout_ms=1000), CreateTopicsResponse)
        assert late and answer.topics[0].error_code == 0
        assert "orders" in nodes[3].cache.image.topics_by_name

    run(test)

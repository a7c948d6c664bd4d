"""Orders that get no answer: they are tried again, and nothing is left of them when they are given up."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from broadsheet_broker.node.forwarding import Forwarder, Leader
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.create_topics_request import CreateTopicsRequest
from broadsheet_broker.wire.peers import Address, PeerError


class Topics(list[Any]):
    """What an order holds, and can be watched."""


class DeafPeers:
    """No request is answered: each connection ends."""

    def __init__(self) -> None:
        self.sent = 0

    def send(self, node_id: int, address: Address, request: Any, version: int, on_answer: Any, **options: Any) -> None:
        self.sent += 1
        asyncio.get_running_loop().call_soon(on_answer, None, PeerError("reset", "the connection ended"))


def test_an_order_without_an_answer_is_tried_again_and_leaves_nothing() -> None:
    async def scenario() -> None:
        peers: Any = DeafPeers()
        leader = Leader(2, Address("localhost", 9093))
        forwarder = Forwarder(Environment(asyncio.get_running_loop()), peers, lambda: leader)
        order = CreateTopicsRequest(topics=Topics())
        watched = weakref.ref(order.topics)
        with pytest.raises(KafkaError) as refusal:
            await forwarder.call(order, 7, lambda: None, 0.2)
        assert refusal.value.code is ErrorCode.REQUEST_TIMED_OUT
        assert peers.sent > 1
        del order, refusal
        assert watched() is None

    gc.collect()
    gc.disable()
    try:
        asyncio.run(scenario())
    finally:
        gc.enable()

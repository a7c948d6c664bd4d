"""What simulated clients stand on."""

from __future__ import annotations

import asyncio
import gc
from types import SimpleNamespace
from typing import Any

import pytest

from broadsheet_broker.wire.messages.init_producer_id_request import InitProducerIdRequest
from tests.simulation.clients.connection import Connection


@pytest.mark.parametrize("lost_before", [True, False])
def test_an_answer_that_a_lost_connection_cannot_bring_is_no_unheard_failure(lost_before: bool) -> None:
    """A producer drops the answers to what it had sent behind a batch that failed: the run was called a failure."""

    async def main() -> None:
        failures: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        connection = Connection("orders")
        connection.connection_made(SimpleNamespace(is_closing=lambda: False, write=lambda data: None))  # type: ignore[arg-type]
        if lost_before:
            connection.connection_lost(None)
        answer = connection.send(InitProducerIdRequest(transactional_id=None), 4)
        if not lost_before:
            connection.connection_lost(None)
        assert answer.done()
        del answer
        gc.collect()
        assert failures == []

    asyncio.run(main())


def test_who_awaits_such_an_answer_hears_that_the_connection_is_lost() -> None:
    async def main() -> None:
        connection = Connection("orders")
        connection.connection_made(SimpleNamespace(is_closing=lambda: True))  # type: ignore[arg-type]
        with pytest.raises(ConnectionResetError):
            await connection.send(InitProducerIdRequest(transactional_id=None), 4)

    asyncio.run(main())

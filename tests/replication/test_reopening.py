"""Partitions that are tried again, and a broker that stops meanwhile."""

from __future__ import annotations

import asyncio
import errno
from types import SimpleNamespace
from typing import Any, cast

from broadsheet_broker.log import StorageError
from broadsheet_broker.replication.reopening import Reopening

FULL = StorageError("full", OSError(errno.ENOSPC, "full"))


def test_a_stop_waits_for_the_log_that_is_being_opened_and_not_for_all_the_others() -> None:
    """Each may take minutes of recovery; and one that was done in spite of a kill set the timer again."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        tried: list[str] = []
        taken: list[str] = []
        opened = asyncio.Event()

        async def open_again(topic: str, index: int) -> bool:
            tried.append(topic)
            await opened.wait()
            return True

        hosts: Any = SimpleNamespace(
            environment=SimpleNamespace(loop=loop),
            logs=SimpleNamespace(failure=lambda topic, index: FULL, open_again=open_again),
            serve_again=lambda topic, index: taken.append(topic),
        )
        reopening = Reopening(hosts, {("a", 0): FULL, ("b", 0): FULL, ("c", 0): FULL})
        reopening._look()
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(reopening.close())
        await asyncio.sleep(0)
        opened.set()
        await closing
        assert (tried, taken) == (["a"], [])
        assert cast(asyncio.TimerHandle, reopening._timer).cancelled()

    asyncio.run(scenario())

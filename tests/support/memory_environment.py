"""An environment whose files are in memory and whose clock is set by hand."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from broadsheet_broker.seams import Environment
from tests.support.memory_files import MemoryFiles
from tests.support.virtual_time import HandClock


class MemoryEnvironment(Environment):
    """Blocking work runs at once, where it is called."""

    clock: HandClock
    files: MemoryFiles

    async def offload(self, function: Callable[..., Any], *arguments: Any) -> Any:
        await asyncio.sleep(0)
        return function(*arguments)


def memory_environment(seed: int = 1) -> MemoryEnvironment:
    clock = HandClock()
    files = MemoryFiles(clock.time_ms)
    files.make_directory("/logs")
    loop: Any = None
    return MemoryEnvironment(loop, clock, random.Random(seed), files)

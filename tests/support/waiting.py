"""Wait for a condition, with a deadline: for processes and threads by `wait_until`, on an event loop by `until`, and by
`turns_until` where its turns are counted.

Both give back what the condition returned, and fail with the name of what did not happen.
"""

from __future__ import annotations

import asyncio
import inspect
import pathlib
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str = "", deadline_s: float = 60.0, every_s: float = 0.02) -> T:
    """What `condition()` returns, once that is true; TimeoutError naming `what` when it is not by the deadline."""
    end = time.monotonic() + deadline_s
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError(_complaint(condition, what, deadline_s, found))
        time.sleep(every_s)
    return found


async def until(condition: Callable[[], T], what: str = "", deadline_s: float = 30.0, every_s: float = 0.001) -> T:
    """As `wait_until`, while the running loop goes on; its time is the loop's."""
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline_s
    while not (found := condition()):
        if loop.time() > end:
            raise TimeoutError(_complaint(condition, what, deadline_s, found))
        await asyncio.sleep(every_s)
    return found


async def turns_until(condition: Callable[[], object], what: str, deadline_s: float = 60.0) -> int:
    """How many turns of the running loop it takes until the condition is true; a deadline as in `until`."""
    turns = 0
    end = time.monotonic() + deadline_s
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError(_complaint(condition, what, deadline_s, found))
        await asyncio.sleep(0)
        turns += 1
    return turns


def _complaint(condition: Callable[[], object], what: str, deadline_s: float, found: object) -> str:
    if not what:  # the place of the condition says it as well
        code = inspect.unwrap(condition).__code__
        what = f"the condition of {pathlib.Path(code.co_filename).name}, line {code.co_firstlineno}"
    return f"not within {deadline_s:g} s: {what}; the last look found {found!r}"

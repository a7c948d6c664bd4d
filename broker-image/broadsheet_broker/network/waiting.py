"""Handlers that are coroutines. Not compiled: a compiled coroutine does not show what it waits for."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any


async def finish(handling: Coroutine[Any, Any, None], failed: Callable[[Exception], None]) -> None:
    """Await a handler; `failed` gets what it raises."""
    try:
        await handling
    except Exception as error:
        failed(error)

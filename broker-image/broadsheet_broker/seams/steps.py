"""Work that grows with what clients store, done in steps between the other work of the event loop.

Such work is a generator. It yields None after each step of a few milliseconds, and a `Room` where it needs memory in
proportion to what a client sent, or must run a function that blocks. Whoever runs it without a loop (a test, a tool)
uses `run_now`; a broker uses its one `Steps`, which lets one step of all the work in hand happen in a turn of the loop
and admits as many bytes of room as its budget has.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

T = TypeVar("T")

ROOM_BYTES = 128 * 1024 * 1024
"""Bytes of decompressed records that a broker holds at a time beyond the few that each step needs."""


class Room:
    """What a generator yields to get `size` bytes of the budget, and `run` called in a thread if there is one.

    The bytes are given back when the generator ends, or when it asks for more: it should hold nothing then, since it
    may have to wait for others. A `Room` of no more than it has does not wait.
    """

    __slots__ = ("run", "size")

    def __init__(self, size: int, run: Callable[[], object] | None) -> None:
        self.size = size
        self.run = run


Stepwise = Generator[Room | None, None, T]


def run_now(work: Stepwise[T]) -> T:
    """All steps at once."""
    try:
        while True:
            try:
                room = next(work)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            if room is not None and room.run is not None:
                room.run()
    finally:
        work.close()


def resumed(work: Stepwise[T], room: Room | None) -> Stepwise[T]:
    """The rest of `work`, whose first step was done and gave `room`."""
    try:
        yield room
        return (yield from work)
    finally:
        work.close()


class Steps:
    """The work that is in hand on one event loop, and the room that it has taken."""

    __slots__ = ("_known_loop", "_passing", "_queue", "_room", "_waiting", "taken")

    def __init__(self, loop: asyncio.AbstractEventLoop | None, room_bytes: int = ROOM_BYTES) -> None:
        self._known_loop = loop
        self._room = room_bytes
        self.taken = 0
        """Bytes of room that are in use."""
        self._queue: deque[asyncio.Future[None]] = deque()
        """Work that waits for its next step, first come first served."""
        self._passing = False
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        """Work that waits for room, likewise."""

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return self._known_loop or asyncio.get_running_loop()

    async def run(self, work: Stepwise[T], offload: Callable[[Callable[[], object]], Awaitable[Any]]) -> T:
        """Run the rest of `work` and return what it returns; `offload` calls a function in a thread."""
        held = 0
        try:
            while True:
                try:
                    room = next(work)
                except StopIteration as stop:
                    return stop.value  # type: ignore[no-any-return]
                if room is None:
                    await self.turn()
                    continue
                size = min(room.size, self._room)
                if size > held:
                    self._give_back(held)
                    held = 0
                    await self._take(size)
                    held = size
                if room.run is not None:
                    await offload(room.run)
        finally:
            work.close()
            self._give_back(held)

    def turn(self) -> asyncio.Future[None]:
        """Done when the caller may do one step: one caller in each turn of the loop."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._queue.append(future)
        if not self._passing:
            self._passing = True
            self._loop.call_soon(self._pass)
        return future

    def _pass(self) -> None:
        while self._queue:
            future = self._queue.popleft()
            if not future.done():
                future.set_result(None)
                break
        if self._queue:
            self._loop.call_soon(self._pass)
        else:
            self._passing = False

    async def _take(self, size: int) -> None:
        if self.taken + size <= self._room and not self._waiting:
            self.taken += size
            return
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((future, size))
        try:
            await future
        except asyncio.CancelledError:
            if not future.cancelled():  # it was given in the turn in which this task was cancelled
                self._give_back(size)
            raise

    def _give_back(self, size: int) -> None:
        self.taken -= size
        while self._waiting:
            future, wanted = self._waiting[0]
            if not future.cancelled():
                if self.taken + wanted > self._room:
                    return
                self.taken += wanted
                future.set_result(None)
            self._waiting.popleft()

"""A queue of dirty keys: batches of distinct keys, one batch at a time, with back-off per key.

Adding a key that is waiting changes nothing; adding one that is being worked on makes it run once more afterwards. So
a burst of events costs one reconcile, and none is lost. Where keys have nothing to do with each other each may be a
batch of its own: one whose work takes long keeps no other waiting.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Generic, TypeVar

from broadsheet_operator.settings import DEFAULTS, OperatorSettings

K = TypeVar("K", bound=Hashable)
logger = logging.getLogger(__name__)


class Backoff:
    """Seconds until the next try of each key that failed: doubling, bounded."""

    def __init__(self, first: float, last: float) -> None:
        self._first = first
        self._last = last
        self._failures: dict[Hashable, int] = {}

    def failed(self, key: Hashable) -> float:
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        return float(min(self._last, self._first * 2 ** min(count, 20)))

    def succeeded(self, key: Hashable) -> None:
        self._failures.pop(key, None)


class BatchQueue(Generic[K]):
    """Keys to be reconciled by `work(batch)`, which returns the keys that want another try."""

    def __init__(
        self,
        name: str,
        work: Callable[[list[K]], Awaitable[Mapping[K, float | None]]],
        *,
        linger_seconds: float = 0.0,
        largest: int = 1000,
        together: bool = True,
        settings: OperatorSettings = DEFAULTS,
    ) -> None:
        """`work` returns, for some keys, seconds until they are to be looked at again, or None for "it failed".

        `linger_seconds`: how long a first key waits for others to share its batch. `largest`: keys in a batch.
        `together` False: each key is worked on by itself, at the same time as others, but never twice at a time.
        """
        self.name = name
        self._work = work
        self._linger = linger_seconds
        self._largest = largest
        self._together = together
        self._single: dict[K, asyncio.Task[None]] = {}
        """What works on single keys."""
        self._dirty: dict[K, None] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._wake = asyncio.Event()
        self._backoff = Backoff(settings.first_backoff_seconds, settings.last_backoff_seconds)
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"queue {name}")

    def __len__(self) -> int:
        return len(self._dirty)

    def add(self, key: K, delay: float = 0.0) -> None:
        """Reconcile this key soon, or after `delay` seconds unless something makes it earlier."""
        if delay <= 0:
            timer = self._timers.pop(key, None)
            if timer:
                timer.cancel()
            self._dirty[key] = None
            self._wake.set()
            return
        if key in self._dirty:
            return
        due = asyncio.get_running_loop().time() + delay
        timer = self._timers.get(key)
        if timer is None or timer.when() > due:
            if timer:
                timer.cancel()
            self._timers[key] = asyncio.get_running_loop().call_at(due, self.add, key)

    def forget(self, key: K) -> None:
        """The object is gone: no more tries."""
        self._dirty.pop(key, None)
        self._backoff.succeeded(key)
        timer = self._timers.pop(key, None)
        if timer:
            timer.cancel()

    async def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        tasks = [self._task, *self._single.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            if self._linger:
                await asyncio.sleep(self._linger)
            batch = [key for key in self._dirty if key not in self._single]
            if self._together:
                batch = batch[: self._largest]
            for key in batch:
                del self._dirty[key]
            if not self._dirty or not self._together:
                self._wake.clear()  # a key that is worked on meanwhile wakes us when it is through
            if not self._together:
                for key in batch:
                    self._single[key] = asyncio.get_running_loop().create_task(self._process_one(key))
            elif batch:
                await self._process(batch)

    async def _process_one(self, key: K) -> None:
        try:
            await self._process([key])
        finally:
            del self._single[key]
            if self._dirty:
                self._wake.set()

    async def _process(self, batch: list[K]) -> None:
        try:
            again = await self._work(batch)
        except Exception:
            logger.exception("%s: reconciling %d objects failed; they are tried again", self.name, len(batch))
            again = dict.fromkeys(batch)
        for key in batch:
            if key not in again:
                self._backoff.succeeded(key)
                continue
            delay = again[key]
            if delay is not None:
                self._backoff.succeeded(key)
            self.add(key, self._backoff.failed(key) if delay is None else delay)

"""Time, randomness and the event loop, gathered in one value that every room receives."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, TypeVarTuple, Unpack

from broadsheet_broker.seams.files import Files, LocalFiles
from broadsheet_broker.seams.loop_monitor import Work
from broadsheet_broker.seams.metrics import Metrics
from broadsheet_broker.seams.steps import Steps, Stepwise

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Clock(Protocol):
    """The wall clock."""

    def time_ms(self) -> int:
        """Milliseconds since the Unix epoch: Kafka's record timestamps. May step: no measure of elapsed time."""
        ...


class SystemClock:
    """The machine's wall clock."""

    def time_ms(self) -> int:
        return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Environment:
    """What a broker may touch of the outside world."""

    loop: asyncio.AbstractEventLoop
    clock: Clock = field(default_factory=SystemClock)
    random: random.Random = field(default_factory=random.SystemRandom)
    files: Files = field(default_factory=LocalFiles)
    metrics: Metrics = field(default_factory=Metrics)
    on_buffer: Callable[[int], None] = lambda size: None
    """Called with the size of each new receive buffer; see `memory`."""
    timer: Callable[[], float] = time.monotonic
    """Seconds from an arbitrary start, for how long something took: uvloop's clock has milliseconds only."""

    work: Work = field(default_factory=Work)
    """Notes what the loop is at work on, for who asks why a turn of it took long; see `loop_monitor`."""

    steps: Steps = field(init=False)
    """Work that must not hold the loop, and the memory that it takes."""

    def __post_init__(self) -> None:
        self.steps = Steps(self.loop)

    def monotonic(self) -> float:
        """Seconds that never step back: elapsed time, deadlines."""
        return self.loop.time()

    def uuid(self) -> uuid.UUID:
        """A random UUID (version 4) from the environment's randomness, never one of Kafka's reserved ids.

        Kafka reserves (0,0) and (0,1) and avoids ids whose base64 form starts with a dash, which its command line
        tools would take for an option (org.apache.kafka.common.Uuid).
        """
        while True:
            value = uuid.UUID(int=self.random.getrandbits(128), version=4)
            if value.bytes[0] >> 2 != 62:  # base64url digit 62 is '-'
                return value

    async def offload(self, function: Callable[[Unpack[Ts]], T], *arguments: *Ts) -> T:
        """Run a blocking function (fsync, recovery of a log) off the loop. The simulation overrides this."""
        return await self.loop.run_in_executor(None, function, *arguments)

    async def in_steps(self, work: Stepwise[T]) -> T:
        """Run work that grows with what clients store, one step in a turn of the loop; see `seams.steps`."""
        return await self.steps.run(work, self.offload)

"""Keeps a server's memory near its target: checks the size of the process, and applies what `pressure` decides."""

from __future__ import annotations

import gc
import logging
from typing import TYPE_CHECKING

from broadsheet_broker.network.pressure import LOOK_SECONDS, NONE, SHEDDING, Pressure
from broadsheet_broker.seams.memory import resident_bytes

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from broadsheet_broker.network.server import Server
    from broadsheet_broker.seams import Environment

logger = logging.getLogger(__name__)

_MIB = 1024 * 1024


class MemoryGuard:
    """One for each server; idle where there is no target."""

    def __init__(
        self, server: Server, environment: Environment, target: int, resident: Callable[[], int] | None = None
    ) -> None:
        self._server = server
        self._loop = environment.loop
        self._resident = resident or (lambda: resident_bytes(environment.files))
        self._timer: asyncio.TimerHandle | None = None
        self.pressure = Pressure(target)
        metrics = environment.metrics
        self._closed = metrics.counter(
            "broadsheet_memory_closed_connections_total", "Connections closed because memory was short."
        )
        metrics.gauge(
            "broadsheet_memory_target_bytes", "Size of the process above which load is shed; 0: none.", lambda: target
        )
        metrics.gauge(
            "broadsheet_memory_pressure",
            "0: none; 1: little is read from clients; 2: connections are closed.",
            lambda: self.pressure.level,
        )

    def start(self) -> None:
        if self.pressure.target and self._timer is None:
            self._timer = self._loop.call_later(LOOK_SECONDS, self._tick)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = self._loop.call_later(LOOK_SECONDS, self._tick)
        self.look()

    def look(self) -> None:
        """Check the size of the process once, and do what it asks for."""
        pressure, server = self.pressure, self._server
        resident = self._resident()
        if pressure.update(resident):
            if pressure.level == NONE:
                logger.info("memory: %d MiB are in use, and clients are served as usual", resident // _MIB)
            else:
                self._relieve()
                logger.warning(
                    "memory: %d MiB are in use, the target is %d MiB (broadsheet.memory.target): %s",
                    resident // _MIB, pressure.target // _MIB,
                    "connections are closed" if pressure.level == SHEDDING else "little is read from clients",
                )  # fmt: skip
            server.tighten(pressure.level)
        if pressure.level == SHEDDING:
            self._shed(resident)

    def _relieve(self) -> None:
        """Let go of what nobody needs."""
        self._server.pool.trim()
        gc.collect()

    def _shed(self, resident: int) -> None:
        for size, connection in self.pressure.victims(resident, self._server.holdings()):
            logger.warning(
                "memory: closing the connection of %s on listener %s, which holds %d KiB",
                connection.host, connection.listener, size // 1024,
            )  # fmt: skip
            self._closed.value += 1
            connection.abort()

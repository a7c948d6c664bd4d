"""Whose requests are handled next, and when the event loop gets its turn.

A connection handles what it has read at once as long as nobody waits. Once the requests of one turn of the loop have
taken `TURN_SECONDS`, connections with more to do queue, and each further turn serves the queue for that long: timers,
heartbeats and replication come in between. A request that takes longer than that is not interrupted.

The queue is start-time fair (Goyal, Vin and Cheng, SIGCOMM 1996): each connection has a virtual time that moves by what
its requests have cost, and the one that is furthest behind is next. So a client that asks for little is served within
about a turn, however much others have pipelined, and those share the rest equally.

Costs are seconds of the environment's timer. A request counts as `REQUEST_SECONDS` at least, which also bounds a turn
in the simulation, where no time passes within a callback.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final, Protocol

SLICE_SECONDS: Final = 0.001
"""How long a connection is served in a row, and what the requests of a turn cost before the scheduler steps in."""

TURN_SECONDS: Final = 0.004
"""How long requests are handled before the loop gets its turn."""

REQUEST_SECONDS: Final = 0.000_01
"""The least that a request costs."""


CREDIT_SECONDS: Final = 0.01
"""How far behind a connection may be that had nothing to do: it goes before those that always have."""


class Served(Protocol):
    """What the scheduler knows of a connection."""

    closed: bool
    queued: bool
    """Waits in the queue. Set by the scheduler only."""
    virtual_time: float
    """Where the connection stands in the scheduler's virtual time, in seconds."""

    def serve(self) -> None:
        """Handle requests for about a slice, and `charge` them; `add` again if there are more."""
        ...


class Turns:
    """The scheduler of one server."""

    __slots__ = ("_added", "_call_soon", "_queue", "_scheduled", "_used", "_virtual_time", "turns")

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._call_soon = call_soon
        self._queue: list[tuple[float, int, Served]] = []
        """A heap by virtual time; each connection is in it once at most."""
        self._added = 0
        self._scheduled = False
        self._used = 0.0
        """Seconds that requests have taken since the last turn of `_run`."""
        self._virtual_time = 0.0
        self.turns = 0
        """How often the queue was served."""

    def __len__(self) -> int:
        return len(self._queue)

    def may_serve_now(self) -> bool:
        """Whether a connection with requests need not queue."""
        return not self._queue and self._used < TURN_SECONDS

    def add(self, connection: Served) -> None:
        """Serve a connection when it is due."""
        if connection.queued or connection.closed:
            return
        connection.queued = True
        self._added += 1
        start = max(self._virtual_time - CREDIT_SECONDS, connection.virtual_time)
        heapq.heappush(self._queue, (start, self._added, connection))
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self._run)

    def charge(self, connection: Served, seconds: float) -> None:
        """The connection was served, which took so long."""
        start = max(self._virtual_time - CREDIT_SECONDS, connection.virtual_time)
        if start > self._virtual_time:
            self._virtual_time = start
        connection.virtual_time = start + seconds
        self._used += seconds
        if self._used > SLICE_SECONDS and not self._scheduled:
            self._scheduled = True
            self._call_soon(self._run)

    def _run(self) -> None:
        self._scheduled = False
        self._used = 0.0
        queue = self._queue
        if not queue:
            return
        self.turns += 1
        while queue and self._used < TURN_SECONDS:
            connection = heapq.heappop(queue)[2]
            connection.queued = False
            if not connection.closed:
                connection.serve()
        if queue and not self._scheduled:
            self._scheduled = True
            self._call_soon(self._run)

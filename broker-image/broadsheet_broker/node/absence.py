"""Whether this process did not run for long enough that others may lead what it led.

A process that was stopped (a frozen virtual machine, SIGSTOP, a disk that held it up) goes on as if no time had passed.
Requests of clients wait on its connections, and it would answer them before it learns that others lead what it led:
a coordinator with offsets that are out of date. So a broker that was away for longer than the shortest session asks the
controller first. When it finds no controller for some time it goes on all the same, since without a controller no other
broker can have taken over either.
"""

from __future__ import annotations

from typing import Final

PAUSE: Final = 1.0
"""Seconds without a sign of the event loop that count as a pause."""
PATIENCE: Final = 10.0
"""Seconds to wait for the controller after a pause."""


class Absence:
    """Times are monotonic seconds."""

    def __init__(self, session: float, now: float) -> None:
        """`session`: seconds of silence after which a controller may fence a broker (`heartbeats.least_session`)."""
        self._session = session
        self._ran_at = now
        self._heard_at = now
        self._since: float | None = None
        """When this process noticed that it had been away; None: it was not, or the controller has answered since."""

    def may_be_replaced(self, now: float) -> bool:
        """Whether others may lead what this broker led without its knowledge. Ask often: that is how a pause is
        noticed."""
        if now - self._ran_at > PAUSE and now - self._heard_at > self._session:
            self._since = now
        self._ran_at = now
        return self._since is not None and now - self._since < PATIENCE

    def heard(self, asked_at: float) -> None:
        """The controller answered a heartbeat that was sent at this time: this broker is unfenced."""
        self._heard_at = asked_at
        if self._since is not None and asked_at >= self._since:
            self._since = None

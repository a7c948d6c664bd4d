"""Notices the death of a broker process at once: its port refuses connections, so no process listens there.

A broker that is slow, stopped or cut off answers late or never; the session timeout is for those. A refused connection
is different: the machine is up and reports that no process listens. The active controller sends each broker a small
request a few times per second. When two in a row are refused and no heartbeat arrived in between, the broker is dead.
A broker that is refused and alive (a firewall) shows it by its next heartbeat; from then on only its session counts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from broadsheet_broker.metadata.image import BrokerInfo
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.messages.api_versions_request import ApiVersionsRequest
from broadsheet_broker.wire.peers import Address, PeerError, Peers

logger = logging.getLogger(__name__)

INTERVAL: Final = 0.25
"""Seconds between two questions to a broker."""
_AGAIN: Final = 0.06
"""Seconds after a refusal until the second question."""
_PATIENCE: Final = 5.0
"""Seconds after which an unanswered question is given up."""
_STRIKES: Final = 2
_LANE: Final = "watch"
_API_VERSIONS_VERSION: Final = 3


class _Watched:
    __slots__ = ("asking", "beats", "epoch", "fenced_by_us", "next_at", "strikes", "trusted")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.asking = False
        self.next_at = 0.0
        self.strikes = 0
        self.beats = 0
        """Heartbeats up to the first refusal."""
        self.fenced_by_us = False
        self.trusted = True
        """False once it lived although it had been refused."""


class ProcessWatch:
    """Watches the unfenced brokers, for as long as this node is the active controller."""

    def __init__(
        self,
        environment: Environment,
        peers: Peers,
        listener: str,
        brokers: Callable[[], Iterable[BrokerInfo]],
        beats: Callable[[int], int],
        died: Callable[[int, int], None],
    ) -> None:
        """`beats(id)`: the number of heartbeats of a broker. `died(id, epoch)` is called for a dead process."""
        self._environment = environment
        self._peers = peers
        self._listener = listener
        self._brokers = brokers
        self._beats = beats
        self._died = died
        self._watched: dict[int, _Watched] = {}
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._look()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._watched.clear()

    def _look(self) -> None:
        now = self._environment.monotonic()
        soonest = now + INTERVAL
        present: dict[int, _Watched] = {}
        for broker in self._brokers():
            watched = self._watched.get(broker.id)
            if watched is None or watched.epoch != broker.epoch:
                watched = _Watched(broker.epoch)
            present[broker.id] = watched
            if broker.fenced:
                continue
            if watched.fenced_by_us:  # it is back in the same life: it was not dead
                watched.fenced_by_us, watched.trusted = False, False
                logger.warning(
                    "Broker %d is alive although its port refused connections: from now on only its session counts",
                    broker.id,
                )
            if watched.trusted and not watched.asking and watched.next_at <= now:
                self._ask(broker, watched)
            elif not watched.asking and watched.trusted:
                soonest = min(soonest, watched.next_at)
        self._watched = present
        self._timer = self._environment.loop.call_later(max(soonest - now, 0.01), self._look)

    def _ask(self, broker: BrokerInfo, watched: _Watched) -> None:
        endpoint = broker.endpoints.get(self._listener) or next(iter(broker.endpoints.values()), None)
        if endpoint is None:
            return
        watched.asking = True
        asked_at = self._environment.monotonic()

        def answered(message: object, error: PeerError | None) -> None:
            watched.asking = False
            if self._timer is not None:
                self._answered(broker, watched, asked_at, error)

        self._peers.send(
            broker.id,
            Address(endpoint.host, endpoint.port),
            ApiVersionsRequest(client_software_name="broadsheet", client_software_version="1"),
            _API_VERSIONS_VERSION,
            answered,
            timeout=_PATIENCE,
            lane=_LANE,
        )

    def _answered(self, broker: BrokerInfo, watched: _Watched, asked_at: float, error: PeerError | None) -> None:
        now = self._environment.monotonic()
        if error is None or error.kind != "refused":
            watched.strikes = 0
            reset = error is not None and error.kind == "reset"
            watched.next_at = now if reset else asked_at + INTERVAL
        else:
            if not watched.strikes or self._beats(broker.id) != watched.beats:
                watched.strikes = 0
                watched.beats = self._beats(broker.id)
            watched.strikes += 1
            watched.next_at = now + _AGAIN
            if watched.strikes >= _STRIKES:
                watched.strikes, watched.fenced_by_us = 0, True
                self._died(broker.id, broker.epoch)
                return
        if watched.next_at - now < INTERVAL / 2 and self._timer is not None:
            self._timer.cancel()
            self._timer = self._environment.loop.call_later(max(watched.next_at - now, 0.001), self._look)

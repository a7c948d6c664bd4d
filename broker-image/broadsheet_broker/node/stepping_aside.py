"""A broker whose disk is full steps aside: others lead what it can no longer write, and do not wait for its copies.

Apache Kafka takes the log directory offline, and with the last directory ends the process, until an operator starts it
again. Here the broker asks the controller to fence it (`want_fence` of its heartbeats), replicates as far as it can,
and asks to be unfenced when no write has failed for a while. It steps aside only if everything stays readable:
when another active broker is in sync for each of its replicas. Otherwise it stays, and refuses what does not fit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from broadsheet_broker.metadata.image import ClusterImage
from broadsheet_broker.seams import Environment

logger = logging.getLogger(__name__)

FIRST_PAUSE: Final = 3.0
"""Seconds without a refusal after which a broker comes back; copying is tried at least once a second meanwhile."""
LONGEST_PAUSE: Final = 60.0
_FORGIVEN: Final = 120.0
"""Seconds after the return at which the pause is short again."""


def may_step_aside(image: ClusterImage, broker_id: int) -> bool:
    """Whether everything that this broker leads or is in sync for can be led by another broker."""
    others = {broker.id for broker in image.brokers.values() if broker.is_active} - {broker_id}
    for topic in image.topics_by_id.values():
        for partition in topic.partitions:
            if (partition.leader == broker_id or broker_id in partition.isr) and others.isdisjoint(partition.isr):
                return False
    return bool(others)


class SteppingAside:
    """When this broker asks to be fenced because its disk is full: `wish(True)` begins that, `wish(False)` ends it."""

    def __init__(self, environment: Environment, may: Callable[[], bool], wish: Callable[[bool], None]) -> None:
        self._environment = environment
        self._may = may
        self._wish = wish
        self._is_aside = False
        self._refused_at = 0.0
        self._returned_at = float("-inf")
        self._pause = FIRST_PAUSE
        self._timer: asyncio.TimerHandle | None = None

    def disk_full(self) -> None:
        """A write failed because the disk is full."""
        now = self._refused_at = self._environment.monotonic()
        if self._is_aside or not self._may():
            return
        again = now - self._returned_at < _FORGIVEN
        self._pause = min(self._pause * 2, LONGEST_PAUSE) if again else FIRST_PAUSE
        self._is_aside = True
        logger.error("The disk is full: stepping aside, other brokers lead until there is space")
        self._wish(True)
        self._schedule_look(self._pause)

    def _schedule_look(self, seconds: float) -> None:
        self._timer = self._environment.loop.call_later(seconds, self._look)

    def _look(self) -> None:
        now = self._environment.monotonic()
        left = self._refused_at + self._pause - now
        if left > 0:
            self._schedule_look(left)
            return
        self._timer, self._is_aside, self._returned_at = None, False, now
        logger.info("No write failed for lack of space for %.0f s: asking to be unfenced", self._pause)
        self._wish(False)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

"""Observes the lag of all groups of one cluster again and again, for /metrics alone: no resource waits for it.

It has a lane of its own, so a slow cluster delays neither its own Topics nor other clusters. It takes at most a tenth
of the time: the pause before the next observation is at least nine times as long as the last one took.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from broadsheet_operator.kafka.lane import Lane
from broadsheet_operator.reconcilers.observed import Failure, LagQuery, LagView, TopicPartition
from broadsheet_operator.settings import OperatorSettings

logger = logging.getLogger(__name__)

Times = Mapping[TopicPartition, Mapping[int, int]]
QueryFor = Callable[[Times], LagQuery | None]
"""What is asked, given the times of records that are known; None: nothing."""

OBSERVATIONS_KEPT = 4
"""What was seen is exported for this many intervals, when later observations fail."""


class LagWatch:
    """Of one cluster."""

    def __init__(self, cluster: str, lane: Lane, query_for: QueryFor, settings: OperatorSettings) -> None:
        self.seconds = 0.0
        """How long the last observation took."""
        self.observed: datetime | None = None
        """When the last one succeeded."""
        self._cluster = cluster
        self._lane = lane
        self._query_for = query_for
        self._settings = settings
        self._view: LagView | None = None
        self._told = ""
        """The failure that was logged: once, however often it is met."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"lag of {cluster}")

    @property
    def view(self) -> LagView | None:
        """What was seen, if that is not too long ago."""
        if self.observed is None:
            return None
        age = (datetime.now(UTC) - self.observed).total_seconds()
        return self._view if age < OBSERVATIONS_KEPT * self._pause() else None

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _pause(self) -> float:
        return max(self._settings.lag_seconds, 9 * self.seconds)

    async def _run(self) -> None:
        while True:
            query = self._query_for(self._view.times if self._view is not None else {})
            if query is None:
                self._view = self.observed = None
            else:
                began = time.monotonic()
                await self._observe(query)
                self.seconds = time.monotonic() - began
            await asyncio.sleep(self._pause() * random.uniform(0.9, 1.1))

    async def _observe(self, query: LagQuery) -> None:
        now = datetime.now(UTC)
        try:
            found = await self._lane.call(lambda gateway: gateway.observe_lag(query))
        except Exception:
            logger.exception("the lag of the groups of %s could not be observed", self._cluster)
            return
        if isinstance(found, Failure):
            if found.message != self._told:
                logger.info("the lag of the groups of %s could not be observed: %s", self._cluster, found.message)
            self._told = found.message
            return
        if found.left_out and self._told != "left out":
            logger.warning(
                "%s: %d consumer groups have no metrics: all groups together have more than %d partitions; exclude "
                "groups with spec.metrics.excludeGroups of the Cluster, or raise --lag-partitions",
                self._cluster,
                found.left_out,
                query.most_partitions,
            )
        self._told = "left out" if found.left_out else ""
        self._view, self.observed = found, now

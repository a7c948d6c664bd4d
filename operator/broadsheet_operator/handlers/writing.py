"""What the operator says about its resources: status, events and finalizers, each written only when it changes."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from broadsheet_operator.api.keys import ResourceKey
from broadsheet_operator.api.meta import Status
from broadsheet_operator.handlers.store import KubernetesStore
from broadsheet_operator.kubernetes import Kind, Kubernetes, KubernetesError
from broadsheet_operator.reconcilers.conditions import (
    Figures,
    bad_since,
    is_bad_news,
    overdue,
    should_write,
    without_refused,
)
from broadsheet_operator.settings import DEFAULTS

logger = logging.getLogger(__name__)

FINALIZER = "broadsheet.io/cleanup"
"""Held only while something in Kafka is to be deleted with the resource: nothing else may keep a namespace alive."""

EVENTS_AT_ONCE = 4
EVENTS_KEPT = 5000
"""Events that could not be written yet: beyond this number the oldest are dropped."""


class Writer:
    """Status, events and finalizers."""

    def __init__(
        self, api: Kubernetes, store: KubernetesStore, overdue_seconds: float = DEFAULTS.overdue_seconds
    ) -> None:
        """`overdue_seconds`: how long bad news may last before the status says that it is Stalled."""
        self._api = api
        self._store = store
        self._overdue_seconds = overdue_seconds
        self._bad_since: dict[tuple[Kind, ResourceKey], tuple[int | None, datetime]] = {}
        """Since when a generation has been bad news."""
        self._last_status: dict[tuple[Kind, ResourceKey], datetime] = {}
        self._refused: dict[tuple[Kind, ResourceKey], dict[str, Any]] = {}
        """Statuses that the API server refused, without their times: the same is not offered again."""
        self.statuses_written = 0
        self._events: deque[tuple[Mapping[str, Any], str, str, str]] = deque(maxlen=EVENTS_KEPT)
        self._posting: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Say what is still to be said, if that does not take long."""
        if self._posting is not None:
            await asyncio.wait({self._posting}, timeout=2)
            self._posting.cancel()
            await asyncio.gather(self._posting, return_exceptions=True)

    async def status(
        self, kind: Kind, body: Mapping[str, Any], before: Status | None, after: Status, figures: Figures,
        now: datetime, *, announce: bool = True,
    ) -> bool:  # fmt: skip
        """Write a status if it has changed; True if it was written.

        A change of Ready is an event, unless one has just said more (`announce` False).
        """
        key = ResourceKey.of(body)
        after = overdue(before, after, self._bad_for(kind, key, before, after, now), self._overdue_seconds, now)
        if not should_write(before, after, figures, self._last_status.get((kind, key)), now):
            return False
        wanted = after.written()
        known = self._refused.get((kind, key))
        if known is not None and _without_times(wanted) == known:
            return False  # the same was refused before; a part of it is written
        for fields_are_known in (True, False, None):
            try:
                written = await self._apply_status(kind, key, after.written())
                break
            except KubernetesError as error:
                if error.status == 404:  # deleted meanwhile
                    return False
                if error.retriable:
                    raise
                logger.warning("%s %s: a part of the status is refused and left out: %s", kind.kind, key, error)
                self._refused[kind, key] = _without_times(wanted)
                after = without_refused(after, error.fields if fields_are_known else (), error.message, now)
        else:
            return False
        if after.written() == wanted:
            self._refused.pop((kind, key), None)
        self._last_status[kind, key] = now
        self.statuses_written += 1
        if self._store.get(kind, key) is not None:
            self._store.put(kind, {"apiVersion": kind.api_version, "kind": kind.kind, **written})
        if announce or (kind, key) in self._refused:
            self._announce(body, before, after)
        return True

    def _bad_for(self, kind: Kind, key: ResourceKey, before: Status | None, status: Status, now: datetime) -> float:
        """Seconds since this generation of a resource has been bad news. What an earlier leader wrote counts."""
        if not is_bad_news(status):
            self._bad_since.pop((kind, key), None)
            return 0.0
        since = self._bad_since.get((kind, key))
        if since is None or since[0] != status.observed_generation:
            since = self._bad_since[kind, key] = status.observed_generation, bad_since(before, status) or now
        return (now - since[1]).total_seconds()

    async def _apply_status(self, kind: Kind, key: ResourceKey, status: Mapping[str, Any]) -> dict[str, Any]:
        metadata = {"name": key.name, "namespace": key.namespace}
        return await self._api.apply_status(
            {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "status": status}
        )

    def _announce(self, body: Mapping[str, Any], before: Status | None, after: Status) -> None:
        """One event per transition: when Ready, or its reason, is another one, and when it is Stalled for the first
        time."""
        stalled = after.condition("Stalled")
        if stalled is not None and stalled.status == "True" and (before is None or not before.condition("Stalled")):
            self.event(body, "Warning", stalled.reason, stalled.message or stalled.reason)
            return
        old = before.condition("Ready") if before else None
        new = after.condition("Ready")
        if new is None or (old is not None and (old.status, old.reason) == (new.status, new.reason)):
            return
        self.event(body, "Warning" if is_bad_news(after) else "Normal", new.reason, new.message or new.reason)

    def event(self, body: Mapping[str, Any], severity: str, reason: str, note: str) -> None:
        """Say something about an object soon. It is a courtesy: nothing waits for it, its failure stops nothing."""
        logger.info("%s %s: %s: %s", body["kind"], ResourceKey.of(body), reason, note)
        self._events.append((body, severity, reason, note))
        if self._posting is None or self._posting.done():
            self._posting = asyncio.get_running_loop().create_task(self._post_events(), name="events")

    async def _post_events(self) -> None:
        while self._events:
            some = [self._events.popleft() for _ in range(min(EVENTS_AT_ONCE, len(self._events)))]
            await asyncio.gather(*(self._post(*event) for event in some))

    async def _post(self, body: Mapping[str, Any], severity: str, reason: str, note: str) -> None:
        try:
            await self._api.event(body, severity, reason, "Reconcile", note)
        except KubernetesError as error:
            logger.info("%s %s: the event could not be written: %s", body["kind"], ResourceKey.of(body), error)

    async def hold(self, kind: Kind, body: Mapping[str, Any], wanted: bool) -> None:
        """Have our finalizer on an object, or not."""
        metadata = body["metadata"]
        finalizers = list(metadata.get("finalizers", ()))
        if (FINALIZER in finalizers) == wanted:
            return
        if wanted and metadata.get("deletionTimestamp"):
            return  # the API server takes no new finalizers on what is being deleted
        changed = [*finalizers, FINALIZER] if wanted else [name for name in finalizers if name != FINALIZER]
        key = ResourceKey.of(body)
        patch = {"metadata": {"finalizers": changed, "resourceVersion": metadata["resourceVersion"]}}
        try:
            written = await self._api.patch(kind, key.namespace, key.name, patch)
        except KubernetesError as error:
            if error.status == 404:
                return
            raise
        if wanted and self._store.get(kind, key) is not None:
            self._store.put(kind, {"apiVersion": kind.api_version, "kind": kind.kind, **written})

    def forget(self, kind: Kind, key: ResourceKey) -> None:
        """The object is gone."""
        self._last_status.pop((kind, key), None)
        self._bad_since.pop((kind, key), None)
        self._refused.pop((kind, key), None)


def _without_times(status: Mapping[str, Any]) -> dict[str, Any]:
    """A status as written, without when its conditions changed."""
    conditions = [{**c, "lastTransitionTime": ""} for c in status.get("conditions", ())]
    return {**status, "conditions": conditions}

"""Resources that belong to a Cluster: from dirty keys of one cluster to rounds, statuses, events and finalizers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from broadsheet_operator.api.cluster import Cluster
from broadsheet_operator.api.keys import ResourceKey
from broadsheet_operator.api.manifests import ManifestError, parse
from broadsheet_operator.api.meta import DeletionPolicy, Dependent, Status
from broadsheet_operator.handlers.counts import Counts
from broadsheet_operator.handlers.session import Session
from broadsheet_operator.handlers.store import KubernetesResources, KubernetesStore, known_fields
from broadsheet_operator.handlers.writing import FINALIZER, Writer
from broadsheet_operator.kafka.dependents import DependentKind
from broadsheet_operator.kafka.rounds import Histories, Outcome, Task
from broadsheet_operator.kubernetes import Kind, KubernetesError, kind_of
from broadsheet_operator.reconcilers import exchange_state
from broadsheet_operator.reconcilers.access import refusal
from broadsheet_operator.reconcilers.conditions import (
    NO_FIGURES,
    Statement,
    as_before,
    as_before_the_pause,
    stuck,
    waiting,
    with_statements,
)
from broadsheet_operator.reconcilers.reasons import Reason
from broadsheet_operator.reconcilers.rivals import rivals
from broadsheet_operator.settings import DEFAULTS, OperatorSettings

logger = logging.getLogger(__name__)

WRITES_AT_ONCE = 20
"""Status writes in flight: the API server answers about 270 a second so, and more are no faster."""


VIEWS_KEPT_SECONDS = 60.0
"""What was seen of a group is exported for this long, when later looks fail."""


class Dependents:
    """What is done for resources that belong to a Cluster."""

    def __init__(
        self,
        store: KubernetesStore,
        writer: Writer,
        session_of: Callable[[ResourceKey, Cluster], Awaitable[Session | None]],
        kinds: Mapping[Kind, DependentKind],
        settings: OperatorSettings = DEFAULTS,
        is_ours: Callable[[Mapping[str, Any]], bool] = lambda cluster: True,
        *,
        look_up: Callable[[Kind, ResourceKey], Awaitable[Mapping[str, Any] | None]],
        was_tried: Callable[[ResourceKey], bool] = lambda cluster: True,
        counts: Counts | None = None,
    ) -> None:
        """`session_of`: what talks to a Cluster, None while it is not ready. `look_up`: asks the API server for what
        no watch has reported. `was_tried`: whether there was a first round for a Cluster, after which everything in it
        is routed again."""
        self._store = store
        self._resources = KubernetesResources(store)
        self._writer = writer
        self._session_of = session_of
        self._settings = settings
        self._kinds = kinds
        self._is_ours = is_ours
        self._look_up = look_up
        self._was_tried = was_tried
        self._counts = counts or Counts()
        self._histories = Histories()
        self._parsed: dict[tuple[Kind, ResourceKey], tuple[Mapping[str, Any], Dependent]] = {}
        """What was read, with the very object that it was read from: a resync parses nothing again."""
        self._declared: dict[tuple[Kind, ResourceKey], tuple[Any, Dependent]] = {}
        """Topics by the version that was parsed: a thousand are not parsed again for each batch."""
        self._views: dict[Kind, dict[ResourceKey, tuple[float, Any]]] = {kind: {} for kind in kinds}
        """The last look at each thing of a kind whose rounds keep one, and when that was."""

    def recent_views(self, kind: Kind) -> dict[ResourceKey, Any]:
        """The last look at each thing of a kind: exact figures for /metrics, and none that are long out of date."""
        oldest = time.monotonic() - VIEWS_KEPT_SECONDS
        return {key: view for key, (looked, view) in list(self._views[kind].items()) if looked > oldest}

    # -- routing ------------------------------------------------------------------------------------------------------

    async def route(self, kind: Kind, key: ResourceKey) -> float | None:
        """Queue a resource with its cluster's session, or say why it has none. Seconds until it is looked at again."""
        body = self._store.get(kind, key)
        if body is None:
            self.forget(kind, key)
            return 0.0
        resource = await self._read(kind, body)
        if resource is None:
            return 0.0
        target = resource.cluster_key
        declared = self._store.get(Kind.CLUSTER, target) or await self._look_up(Kind.CLUSTER, target)
        cluster = self._cluster(target)
        if declared is None or declared["metadata"].get("deletionTimestamp"):
            await self._without_cluster(kind, body, resource, target, declared is not None)
            return 0.0
        if not self._is_ours(declared):
            return 0.0  # another operator looks after the Cluster, or this one has not begun to
        if await self._namespace_is_going(kind, body, resource):
            return 0.0
        if cluster is None:  # it is there, and so may be what a deletion must remove: wait until it can be read
            message = f"the Cluster {target} is not valid, its status says why; nothing is done in it until it is"
            await self._say(kind, body, resource, waiting(Reason.CLUSTER_NOT_READY, message))
            return 0.0
        refused = refusal(resource, cluster)
        if refused:
            await self._say(kind, body, resource, stuck(Reason.NAMESPACE_NOT_ALLOWED, refused))
            if resource.metadata.deletion_timestamp:
                await self._release(kind, body, f"{resource.spec.cluster} was never changed by this resource")
            return 0.0
        if self._is_stopped(target):
            await self._say(kind, body, resource, self._as_before_the_stop(resource, target))
            return 0.0
        session = await self._session_of(target, cluster)
        if session is None and not self._was_tried(target):
            return 0.0  # what was said before an operator restarted is not replaced by what it does not know yet
        if session is None:
            message = f"the Cluster {target} is not ready yet"
            await self._say(kind, body, resource, waiting(Reason.CLUSTER_NOT_READY, message))
            return 0.0
        session.queues[kind.kind].add(key)
        return 0.0

    def _is_stopped(self, cluster: ResourceKey) -> bool:
        """Whether the brokers of a Cluster are stopped for an exchange of its engine, or have not come back from it."""
        name = ResourceKey(cluster.namespace, f"{cluster.name}-brokers")
        return exchange_state.under_way(self._store.get(Kind.STATEFUL_SET, name))

    def _as_before_the_stop(self, resource: Dependent, cluster: ResourceKey) -> list[Statement]:
        message = f"the brokers of the Cluster {cluster} were stopped for an exchange of the engine"
        return as_before(resource.status, resource.metadata.generation, Reason.CLUSTER_NOT_READY, message)

    def forget(self, kind: Kind, key: ResourceKey) -> None:
        self._writer.forget(kind, key)
        self._parsed.pop((kind, key), None)
        self._declared.pop((kind, key), None)
        self._views[kind].pop(key, None)
        if kind is Kind.CONSUMER_GROUP:  # topics may have the same names
            self._histories.forget(key)

    def say_what_stays(self, kind: Kind, body: Mapping[str, Any]) -> None:
        """An event for a resource that is gone and that had nothing to delete in Kafka: without a finalizer no round
        saw it go, and the pruning of a GitOps tool looks as if it had deleted the records."""
        row, before = self._kinds[kind], self._status_of(kind, body)
        try:
            resource = read_dependent(kind, body)
        except (ManifestError, ValidationError):
            return
        declared = self._store.get(Kind.CLUSTER, resource.cluster_key)
        namespace = self._store.get(Kind.NAMESPACE, ResourceKey("", resource.metadata.namespace))
        going = any(owner is not None and owner["metadata"].get("deletionTimestamp") for owner in (declared, namespace))
        if declared is None or going or not self._is_ours(declared):
            return
        if resource.spec.deletion_policy is DeletionPolicy.RETAIN and before is not None and row.exists(before):
            stays = row.stays.format(resource.kafka_name)
            note = f"{stays} stay in Kafka (deletionPolicy Retain); a new {resource.kind} of the same name manages them"
            self._writer.event(body, "Normal", "Retained", note)

    async def _read(self, kind: Kind, body: Mapping[str, Any]) -> Dependent | None:
        """The resource as a model. What the schema lets through and the model does not is said in its status."""
        place = (kind, ResourceKey.of(body))
        known = self._parsed.get(place)
        if known is not None and known[0] is body:
            return known[1]
        try:
            resource = read_dependent(kind, body)
            self._parsed[place] = (body, resource)
            return resource
        except (ManifestError, ValidationError) as error:
            generation = body["metadata"].get("generation", 1)
            statements = stuck(Reason.INVALID_RESOURCE, str(error)[:4000])
            now = utc_now()
            before = self._status_of(kind, body)
            after = with_statements(before, self._kinds[kind].empty_status(), statements, generation, now)
            await self._writer.status(kind, body, before, after, NO_FIGURES, now)
            if body["metadata"].get("deletionTimestamp"):
                await self._writer.hold(kind, body, False)
            return None

    def _cluster(self, key: ResourceKey) -> Cluster | None:
        cluster = self._resources.get(Cluster.__name__, key)
        return cluster if isinstance(cluster, Cluster) else None

    async def _without_cluster(
        self, kind: Kind, body: Mapping[str, Any], resource: Dependent, target: ResourceKey, going: bool
    ) -> None:
        if resource.metadata.deletion_timestamp:
            await self._release(kind, body, f"its Cluster {target} is gone, so nothing was deleted in Kafka")
            return
        message = f"there is no Cluster {target}; create it, or correct spec.cluster"
        if going:
            message = f"the Cluster {target} is being deleted"
        await self._say(kind, body, resource, waiting(Reason.CLUSTER_NOT_FOUND, message))

    async def _namespace_is_going(self, kind: Kind, body: Mapping[str, Any], resource: Dependent) -> bool:
        """A namespace in deletion waits for our finalizer; what Kafka keeps must not hold it up."""
        if not resource.metadata.deletion_timestamp or FINALIZER not in body["metadata"].get("finalizers", ()):
            return False
        place = ResourceKey("", resource.metadata.namespace)
        namespace = self._store.get(Kind.NAMESPACE, place) or await self._look_up(Kind.NAMESPACE, place)
        if namespace is None or not namespace["metadata"].get("deletionTimestamp"):
            return False
        what = f"{resource.kind} {ResourceKey.of(body)}: {resource.kafka_name}"
        note = f"{what} stays in Kafka, because the whole namespace is being deleted"
        self._writer.event({**namespace, "apiVersion": "v1", "kind": "Namespace"}, "Warning", "Orphaned", note)
        await self._writer.hold(kind, body, False)
        return True

    async def _say(self, kind: Kind, body: Mapping[str, Any], resource: Dependent, statements: list[Statement]) -> None:
        now = utc_now()
        generation = resource.metadata.generation
        after = with_statements(resource.status, self._kinds[kind].empty_status(), statements, generation, now)
        await self._writer.status(kind, body, resource.status, after, NO_FIGURES, now)

    async def _release(self, kind: Kind, body: Mapping[str, Any], words: str) -> None:
        if FINALIZER in body["metadata"].get("finalizers", ()):
            self._writer.event(body, "Warning", "Orphaned", words)
            await self._writer.hold(kind, body, False)

    # -- rounds -------------------------------------------------------------------------------------------------------

    async def round(
        self, row: DependentKind, session: Session, batch: list[ResourceKey]
    ) -> Mapping[ResourceKey, float | None]:
        """A round for resources of one kind and cluster."""
        kind, failed = kind_of(row.model), set[ResourceKey]()
        found = dict(await self._batch(kind, session, batch, failed))
        cluster = self._cluster(session.cluster)
        task = Task(
            resources=list(found.values()),
            clock=utc_now,
            rivals=rivals(self._declared_in(kind, session.cluster)),
            cluster=cluster.spec if cluster else None,
            histories=self._histories,
        )
        times = [time.monotonic()]
        outcomes = await session.lane(row).call(row.round, task)
        times.append(time.monotonic())
        looked = time.monotonic()
        self._views[kind] |= {key: (looked, outcomes[key].view) for key in found if outcomes[key].view is not None}
        again = await self._finish(kind, {key: outcomes[key] for key in found})
        kafka, kubernetes = times[1] - times[0], time.monotonic() - times[1]
        for key in [*found, *failed]:
            to_be_tried_again = key in failed or (key in again and again[key] is None)
            self._counts.reconciled(row.name, kafka + kubernetes, failed=to_be_tried_again)
        logger.debug(
            "%s: %d %s: %.3f s in Kafka, %.3f s in writing", session.cluster, len(found), row.plural, kafka, kubernetes
        )
        for key in found:
            delay = row.ready_seconds(self._settings, outcomes[key].status)
            if delay > 0 and key not in again and self._store.get(kind, key) is not None:
                again[key] = delay
        return again | dict.fromkeys(failed)

    async def _batch(
        self, kind: Kind, session: Session, batch: list[ResourceKey], failed: set[ResourceKey]
    ) -> list[tuple[ResourceKey, Dependent]]:
        """The resources behind dirty keys, as they are now; those of another cluster drop out. `failed`: takes the keys
        that could not be prepared and are to be tried again."""
        cluster = self._cluster(session.cluster)
        if cluster is None or cluster.metadata.deletion_timestamp:
            return []
        found: list[tuple[ResourceKey, Dependent]] = []
        for key in batch:
            try:
                resource = await self._prepared(kind, session.cluster, cluster, key)
            except KubernetesError as error:  # one resource that cannot be written to stops no other
                logger.warning("%s %s: %s", kind.kind, key, error)
                failed.add(key)
                if not error.retriable:
                    await self._say_refused(kind, key, error)
                continue
            if resource is not None:
                found.append((key, resource))
        return found

    async def _say_refused(self, kind: Kind, key: ResourceKey, error: KubernetesError) -> None:
        """The API server does not take the finalizer, without which nothing is done that a deletion has to undo."""
        body = self._store.get(kind, key)
        resource = await self._read(kind, body) if body is not None else None
        if body is None or resource is None:
            return
        try:
            await self._say(kind, body, resource, stuck(Reason.KUBERNETES_REFUSED, error.message))
        except KubernetesError as again:
            logger.warning("%s %s: %s", kind.kind, key, again)

    async def _prepared(self, kind: Kind, at: ResourceKey, cluster: Cluster, key: ResourceKey) -> Dependent | None:
        """The resource behind a key, with its finalizer; None when nothing is to be done for it in this Cluster."""
        body = self._store.get(kind, key)
        resource = await self._read(kind, body) if body is not None else None
        if body is None or resource is None or resource.cluster_key != at or refusal(resource, cluster):
            return None
        if cluster.spec.paused:
            generation = resource.metadata.generation
            told = as_before_the_pause(resource.status, generation, f"the Cluster {at} is paused")
            await self._say(kind, body, resource, told)
            return None
        if self._is_stopped(at):
            await self._say(kind, body, resource, self._as_before_the_stop(resource, at))
            return None
        # Before anything is made that a deletion would have to undo.
        if not resource.metadata.deletion_timestamp:
            await self._writer.hold(kind, body, resource.spec.deletion_policy is DeletionPolicy.DELETE)
        return resource

    def _declared_in(self, kind: Kind, cluster: ResourceKey) -> list[Dependent]:
        """All resources of a kind that declare something in a cluster, those that are being deleted too: of two for
        one thing the older one that stays wins, and the other may not take the thing with it."""
        found: list[Dependent] = []
        for key, body in self._store.list(kind):
            metadata = body["metadata"]
            version = (metadata["uid"], metadata.get("generation"), metadata.get("deletionTimestamp"))
            known = self._declared.get((kind, key))
            if known is None or known[0] != version:
                try:
                    resource = read_dependent(kind, {name: body[name] for name in body if name != "status"})
                except (ManifestError, ValidationError):
                    continue
                known = self._declared[kind, key] = (version, resource)
            if known[1].cluster_key == cluster:
                found.append(known[1])
        return found

    async def _finish(self, kind: Kind, outcomes: Mapping[ResourceKey, Outcome]) -> dict[ResourceKey, float | None]:
        """Write what a round found out, many at a time, and decide who is looked at again."""
        gate = asyncio.Semaphore(WRITES_AT_ONCE)
        again: dict[ResourceKey, float | None] = {}

        async def write(key: ResourceKey, outcome: Outcome) -> None:
            async with gate:
                try:
                    delay = await self._conclude(kind, key, outcome)
                except KubernetesError as error:
                    logger.warning("%s %s: %s", kind.kind, key, error)
                    again[key] = None
                    return
            if delay is None or delay > 0:
                again[key] = delay

        await asyncio.gather(*(write(key, outcome) for key, outcome in outcomes.items()))
        return again

    async def _conclude(self, kind: Kind, key: ResourceKey, outcome: Outcome) -> float | None:
        """Events, status or release for one resource. 0: done; None: failed, try again later."""
        body = self._store.get(kind, key)
        if body is None:
            return 0.0
        before = self._status_of(kind, body)
        severity, reason = "Normal", "Created" if outcome.created else "Updated"
        if outcome.lost:
            severity, reason = "Warning", "RecordsLost"
        for words in outcome.done:
            self._writer.event(body, severity, reason, words)
        said = before.condition("Ready") if before else None
        for failure in outcome.failures:
            if said is None or failure.message not in said.message:  # once, however often it is tried again
                self._writer.event(body, "Warning", failure.reason, failure.message)
        if outcome.release:
            if FINALIZER in body["metadata"].get("finalizers", ()):
                self._writer.event(body, "Normal", "Deleted", outcome.parting_words)
                await self._writer.hold(kind, body, False)
            return 0.0
        told = bool(outcome.done or outcome.failures)
        await self._writer.status(
            kind, body, before, outcome.status, self._kinds[kind].figures, utc_now(), announce=not told
        )
        if outcome.failures:
            return None
        condition = outcome.status.condition("Ready")
        stalled = outcome.status.condition("Stalled")
        if stalled is not None and stalled.status == "True":
            return 0.0  # only a change of the resource or a resync makes a difference
        if condition is None or condition.status != "True":
            return self._kinds[kind].unready_seconds(self._settings, condition)
        return 0.0

    def _status_of(self, kind: Kind, body: Mapping[str, Any]) -> Status | None:
        status = body.get("status")
        if not status:
            return None
        try:
            return self._kinds[kind].status.model_validate(status)
        except ValidationError:
            return None  # not written by this operator: overwrite it


def utc_now() -> datetime:
    return datetime.now(UTC)


def read_dependent(kind: Kind, body: Mapping[str, Any]) -> Dependent:
    """The model of a resource that belongs to a Cluster, as the API server holds it."""
    resource = parse(known_fields(body), f"{kind.kind} {ResourceKey.of(body)}")
    assert isinstance(resource, Dependent)
    return resource

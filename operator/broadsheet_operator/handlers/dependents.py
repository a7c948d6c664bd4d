"""Topics and ConsumerGroups: from dirty keys of one cluster to rounds, statuses, events and finalizers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from broadsheet_operator.api.cluster import Cluster
from broadsheet_operator.api.consumer_group import ConsumerGroup, ConsumerGroupStatus
from broadsheet_operator.api.manifests import ManifestError, parse
from broadsheet_operator.api.meta import DeletionPolicy, Status
from broadsheet_operator.api.topic import Topic, TopicStatus
from broadsheet_operator.handlers.session import Session
from broadsheet_operator.handlers.store import Key, Store
from broadsheet_operator.handlers.writing import FINALIZER, Writer
from broadsheet_operator.kafka.rounds import Histories, Outcome, reconcile_groups, reconcile_topics
from broadsheet_operator.kubernetes import Kind, KubernetesError
from broadsheet_operator.reconcilers import consumer_group
from broadsheet_operator.reconcilers.access import Dependent, cluster_of, refusal
from broadsheet_operator.reconcilers.conditions import (
    NO_FIGURES,
    Figures,
    Reason,
    Statement,
    stuck,
    waiting,
    with_statements,
)
from broadsheet_operator.reconcilers.observed import GroupView
from broadsheet_operator.reconcilers.rivals import group_rivals, topic_rivals
from broadsheet_operator.settings import DEFAULTS, OperatorSettings

logger = logging.getLogger(__name__)

WRITES_AT_ONCE = 20
"""Status writes in flight: the API server answers about 270 a second so, and more are no faster."""
FIGURES = {
    Kind.TOPIC: Figures(dict.fromkeys(("size", "reassignment"), True)),
    Kind.CONSUMER_GROUP: consumer_group.FIGURES,
}


class Dependents:
    """What is done for resources that belong to a Cluster."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        session_of: Callable[[Key, Cluster], Awaitable[Session | None]],
        settings: OperatorSettings = DEFAULTS,
    ) -> None:
        """`session_of`: what talks to a Cluster, None while it is not ready."""
        self._store = store
        self._writer = writer
        self._session_of = session_of
        self._settings = settings
        self._histories = Histories()
        self._parsed: dict[tuple[Kind, Key], tuple[Mapping[str, Any], Dependent]] = {}
        """What was read, with the very object that it was read from: a resync parses nothing anew."""
        self._declared: dict[tuple[Kind, Key], tuple[Any, Dependent]] = {}
        """Topics by what was read of them when they were parsed: a thousand are not parsed anew for each batch."""
        self.group_views: dict[Key, GroupView] = {}
        """The last look at each group: exact figures for /metrics."""

    # -- routing ------------------------------------------------------------------------------------------------------

    async def route(self, kind: Kind, key: Key) -> float | None:
        """Queue a resource with its cluster's session, or say why it has none. Seconds until it is looked at again."""
        body = self._store.get(kind, key)
        if body is None:
            self.forget(kind, key)
            return 0.0
        resource = await self._read(kind, body)
        if resource is None:
            return 0.0
        target = Key(*cluster_of(resource))
        cluster = self._cluster(target)
        declared = self._store.get(Kind.CLUSTER, target)
        if declared is None or declared["metadata"].get("deletionTimestamp"):
            await self._without_cluster(kind, body, resource, target, declared is not None)
            return 0.0
        if await self._namespace_is_going(kind, body, resource):
            return 0.0
        if cluster is None:  # it is there, and so may be what a deletion must remove: wait until it can be read
            message = f"the Cluster {target} is not valid, its status says why; nothing is done in it until it is"
            await self._say(kind, body, resource, waiting(Reason.CLUSTER_NOT_READY, message))
            return 0.0
        refused = refusal(resource, cluster)
        if refused:
            await self._say(kind, body, resource, stuck("NamespaceNotAllowed", refused))
            if resource.metadata.deletion_timestamp:
                await self._release(kind, body, f"{resource.spec.cluster} was never changed by this resource")
            return 0.0
        session = await self._session_of(target, cluster)
        if session is None:
            message = f"the Cluster {target} is not ready yet"
            await self._say(kind, body, resource, waiting(Reason.CLUSTER_NOT_READY, message))
            return 0.0
        queue = session.topics if kind is Kind.TOPIC else session.groups
        queue.add(key)
        return 0.0

    def forget(self, kind: Kind, key: Key) -> None:
        self._writer.forget(kind, key)
        self._parsed.pop((kind, key), None)
        self._declared.pop((kind, key), None)
        if kind is Kind.CONSUMER_GROUP:
            self._histories.samples.pop(key, None)
            self.group_views.pop(key, None)

    async def _read(self, kind: Kind, body: Mapping[str, Any]) -> Dependent | None:
        """The resource as a model. What the schema lets through and the model does not is said in its status."""
        place = (kind, Key.of(body))
        known = self._parsed.get(place)
        if known is not None and known[0] is body:
            return known[1]
        try:
            resource = read_dependent(kind, body)
            self._parsed[place] = (body, resource)
            return resource
        except (ManifestError, ValidationError) as error:
            generation = body["metadata"].get("generation", 1)
            empty: Status = TopicStatus() if kind is Kind.TOPIC else ConsumerGroupStatus()
            statements = stuck("InvalidResource", str(error)[:4000])
            now = utc_now()
            before = _status_of(kind, body)
            after = with_statements(before, empty, statements, generation, now)
            await self._writer.status(kind, body, before, after, NO_FIGURES, now)
            if body["metadata"].get("deletionTimestamp"):
                await self._writer.hold(kind, body, False)
            return None

    def _cluster(self, key: Key) -> Cluster | None:
        body = self._store.get(Kind.CLUSTER, key)
        if body is None:
            return None
        try:
            return Cluster.model_validate(known_fields(body))
        except ValidationError:
            return None

    async def _without_cluster(
        self, kind: Kind, body: Mapping[str, Any], resource: Dependent, target: Key, going: bool
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
        namespace = self._store.get(Kind.NAMESPACE, Key("", resource.metadata.namespace))
        if namespace is None or not namespace["metadata"].get("deletionTimestamp"):
            return False
        name = resource.topic_name if isinstance(resource, Topic) else resource.group_id
        note = f"{resource.kind} {Key.of(body)}: {name} stays in Kafka, because the whole namespace is being deleted"
        self._writer.event({**namespace, "apiVersion": "v1", "kind": "Namespace"}, "Warning", "Orphaned", note)
        await self._writer.hold(kind, body, False)
        return True

    async def _say(self, kind: Kind, body: Mapping[str, Any], resource: Dependent, statements: list[Statement]) -> None:
        now = utc_now()
        generation = resource.metadata.generation
        after: Status
        if isinstance(resource, Topic):
            after = with_statements(resource.status, TopicStatus(), statements, generation, now)
        else:
            after = with_statements(resource.status, ConsumerGroupStatus(), statements, generation, now)
        await self._writer.status(kind, body, resource.status, after, NO_FIGURES, now)

    async def _release(self, kind: Kind, body: Mapping[str, Any], words: str) -> None:
        if FINALIZER in body["metadata"].get("finalizers", ()):
            self._writer.event(body, "Warning", "Orphaned", words)
            await self._writer.hold(kind, body, False)

    # -- rounds -------------------------------------------------------------------------------------------------------

    async def topics(self, session: Session, batch: list[Key]) -> Mapping[Key, float | None]:
        """A round for Topics of one cluster."""
        topics: dict[Key, Topic] = {}
        failed: set[Key] = set()
        for key, resource in await self._batch(Kind.TOPIC, session, batch, failed):
            assert isinstance(resource, Topic)
            topics[key] = resource
        declared = self._declared_in(Kind.TOPIC, session.cluster)
        rivals = topic_rivals([topic for topic in declared if isinstance(topic, Topic)])
        times = [time.monotonic()]
        cluster = self._cluster(session.cluster)
        spec = cluster.spec if cluster else None
        outcomes = await session.topic_lane.call(reconcile_topics, list(topics.values()), rivals, utc_now, spec)
        times.append(time.monotonic())
        again = await self._finish(Kind.TOPIC, {key: outcomes[key] for key in topics})
        kafka, kubernetes = times[1] - times[0], time.monotonic() - times[1]
        logger.debug(
            "%s: %d topics: %.3f s in Kafka, %.3f s in writing", session.cluster, len(topics), kafka, kubernetes
        )
        return again | dict.fromkeys(failed)

    async def groups(self, session: Session, batch: list[Key]) -> Mapping[Key, float | None]:
        """A round for ConsumerGroups of one cluster; each is looked at again after a while."""
        groups: dict[Key, ConsumerGroup] = {}
        failed: set[Key] = set()
        for key, resource in await self._batch(Kind.CONSUMER_GROUP, session, batch, failed):
            assert isinstance(resource, ConsumerGroup)
            groups[key] = resource
        declared = self._declared_in(Kind.CONSUMER_GROUP, session.cluster)
        rivals = group_rivals([group for group in declared if isinstance(group, ConsumerGroup)])
        outcomes = await session.group_lane.call(
            reconcile_groups, list(groups.values()), rivals, self._histories, utc_now
        )
        for key in groups:
            view = outcomes[key].view
            if view is not None:
                self.group_views[key] = view
        again = dict(await self._finish(Kind.CONSUMER_GROUP, {key: outcomes[key] for key in groups}))
        for key in groups:
            if key not in again and self._store.get(Kind.CONSUMER_GROUP, key) is not None:
                again[key] = self._settings.group_seconds
        return again | dict.fromkeys(failed)

    async def _batch(
        self, kind: Kind, session: Session, batch: list[Key], failed: set[Key]
    ) -> list[tuple[Key, Dependent]]:
        """The resources behind dirty keys, as they are now; those of another cluster drop out. `failed`: takes the keys
        that could not be prepared and are to be tried again."""
        cluster = self._cluster(session.cluster)
        if cluster is None or cluster.metadata.deletion_timestamp:
            return []
        found: list[tuple[Key, Dependent]] = []
        for key in batch:
            try:
                resource = await self._prepared(kind, session.cluster, cluster, key)
            except KubernetesError as error:  # one resource that cannot be written to stops no other
                logger.warning("%s %s: %s", kind.kind, key, error)
                failed.add(key)
                continue
            if resource is not None:
                found.append((key, resource))
        return found

    async def _prepared(self, kind: Kind, at: Key, cluster: Cluster, key: Key) -> Dependent | None:
        """The resource behind a key, with its finalizer; None when nothing is to be done for it in this Cluster."""
        body = self._store.get(kind, key)
        resource = await self._read(kind, body) if body is not None else None
        if body is None or resource is None or Key(*cluster_of(resource)) != at or refusal(resource, cluster):
            return None
        if cluster.spec.paused:
            await self._say(kind, body, resource, waiting(Reason.PAUSED, f"the Cluster {at} is paused"))
            return None
        # Before anything is made that a deletion would have to undo.
        if not resource.metadata.deletion_timestamp:
            await self._writer.hold(kind, body, resource.spec.deletion_policy is DeletionPolicy.DELETE)
        return resource

    def _declared_in(self, kind: Kind, cluster: Key) -> list[Dependent]:
        """All resources of a kind that declare something in a cluster, those that are being deleted too: of two for
        one thing the older one that stays wins, and the other may not take the thing with it."""
        found: list[Dependent] = []
        for key, body in self._store.all(kind):
            metadata = body["metadata"]
            version = (metadata["uid"], metadata.get("generation"), metadata.get("deletionTimestamp"))
            known = self._declared.get((kind, key))
            if known is None or known[0] != version:
                try:
                    resource = read_dependent(kind, {name: body[name] for name in body if name != "status"})
                except (ManifestError, ValidationError):
                    continue
                known = self._declared[kind, key] = (version, resource)
            if Key(*cluster_of(known[1])) == cluster:
                found.append(known[1])
        return found

    async def _finish(self, kind: Kind, outcomes: Mapping[Key, Outcome]) -> dict[Key, float | None]:
        """Write what a round found out, many at a time, and decide who is looked at again."""
        gate = asyncio.Semaphore(WRITES_AT_ONCE)
        again: dict[Key, float | None] = {}

        async def write(key: Key, outcome: Outcome) -> None:
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

    async def _conclude(self, kind: Kind, key: Key, outcome: Outcome) -> float | None:
        """Events, status or release for one resource. 0: done; None: failed, try again later."""
        body = self._store.get(kind, key)
        if body is None:
            return 0.0
        before = _status_of(kind, body)
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
        await self._writer.status(kind, body, before, outcome.status, FIGURES[kind], utc_now(), announce=not told)
        if outcome.failures:
            return None
        condition = outcome.status.condition("Ready")
        stalled = outcome.status.condition("Stalled")
        if stalled is not None and stalled.status == "True":
            return 0.0  # only a change of the resource or a resync makes a difference
        if condition is None or condition.status != "True":
            absent = condition is not None and condition.reason == Reason.GROUP_NOT_FOUND
            if kind is Kind.CONSUMER_GROUP:
                return self._settings.absent_group_seconds if absent else self._settings.group_seconds
            held = condition is not None and condition.reason == Reason.WAITING_FOR_WINDOW
            return self._settings.held_seconds if held else self._settings.unfinished_seconds
        return 0.0


def utc_now() -> datetime:
    return datetime.now(UTC)


def read_dependent(kind: Kind, body: Mapping[str, Any]) -> Dependent:
    """The model of a Topic or ConsumerGroup as the API server holds it."""
    resource = parse(known_fields(body), f"{kind.kind} {Key.of(body)}")
    assert isinstance(resource, Topic if kind is Kind.TOPIC else ConsumerGroup)
    return resource


def known_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    return {key: body[key] for key in ("apiVersion", "kind", "metadata", "spec", "status") if key in body}


def _status_of(kind: Kind, body: Mapping[str, Any]) -> TopicStatus | ConsumerGroupStatus | None:
    status = body.get("status")
    if not status:
        return None
    model: type[TopicStatus] | type[ConsumerGroupStatus] = TopicStatus if kind is Kind.TOPIC else ConsumerGroupStatus
    try:
        return model.model_validate(status)
    except ValidationError:
        return None  # written by a stranger: overwrite it

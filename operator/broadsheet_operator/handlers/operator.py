"""The operator: watches fill the store, keys go through queues, sessions talk to Kafka, writers say what was found."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from broadsheet_operator.api.cluster import Cluster, ConsumerGroupMetrics
from broadsheet_operator.api.engine import is_apache_kafka
from broadsheet_operator.api.keys import ResourceKey
from broadsheet_operator.handlers.cluster_body import bootstrap_servers
from broadsheet_operator.handlers.clusters import Clusters
from broadsheet_operator.handlers.counts import Counts
from broadsheet_operator.handlers.dependents import Dependents, utc_now
from broadsheet_operator.handlers.lag_watch import Times
from broadsheet_operator.handlers.neighbours import Neighbours
from broadsheet_operator.handlers.ownership import Ownership, owner_of
from broadsheet_operator.handlers.queues import BatchQueue
from broadsheet_operator.handlers.session import Session
from broadsheet_operator.handlers.store import KubernetesStore
from broadsheet_operator.handlers.writing import Writer
from broadsheet_operator.kafka.dependents import DEPENDENTS, DependentKind, cluster_of, name_in_kafka
from broadsheet_operator.kafka.lane import GatewayFactory
from broadsheet_operator.kubernetes import Kind, Kubernetes, kind_of
from broadsheet_operator.reconcilers.observed import GroupView, LagQuery
from broadsheet_operator.reconcilers.provisioning import CLUSTER_LABEL, Settings
from broadsheet_operator.reconcilers.reasons import Reason
from broadsheet_operator.settings import DEFAULTS, OperatorSettings

logger = logging.getLogger(__name__)

CHILDREN = (
    Kind.STATEFUL_SET,
    Kind.DEPLOYMENT,
    Kind.POD,
    Kind.VOLUME_CLAIM,
    Kind.SERVICE,
    Kind.CONFIG_MAP,
    Kind.SERVICE_ACCOUNT,
    Kind.DISRUPTION_BUDGET,
    Kind.NETWORK_POLICY,
)
"""Watched by their label, so that the operator keeps no other objects in memory."""

NO_ANSWER = frozenset(
    {
        Reason.TIMEOUT,
        Reason.UNREACHABLE,
        Reason.COORDINATOR_LOADING,
        Reason.COORDINATOR_NOT_AVAILABLE,
        Reason.THROTTLED,
        Reason.UNAUTHORIZED,
        Reason.KAFKA_ERROR,
    }
)
"""Why a group that is declared could not be observed."""


class Operator:
    """Everything that acts. Exists only in the process that holds the lease."""

    def __init__(
        self,
        api: Kubernetes,
        defaults: Settings,
        gateway_factory: GatewayFactory,
        settings: OperatorSettings = DEFAULTS,
        kinds: Sequence[DependentKind] = DEPENDENTS,
        lease: str = "",
        namespaces: Sequence[str] = (),
    ) -> None:
        """`lease`: namespace/name of the Lease that this operator holds; empty: no other operator is thought of.
        `namespaces`: those that it watches, none for all."""
        self.settings = settings
        self._api = api
        self.kinds = {kind_of(row.model): row for row in kinds}
        """The kinds that belong to a Cluster."""
        self.store = KubernetesStore()
        self.writer = Writer(api, self.store, settings.overdue_seconds)
        self.sessions: dict[ResourceKey, Session] = {}
        self.counts = Counts()
        ownership = self.ownership = Ownership(api, lease, settings.lease_seconds)
        self.dependents = Dependents(
            self.store,
            self.writer,
            self._session_of,
            self.kinds,
            settings,
            ownership.is_ours,
            look_up=self._look_up,
            was_tried=lambda key: self.clusters.was_tried(key),
            counts=self.counts,
        )
        self.clusters = Clusters(
            api,
            self.store,
            self.writer,
            defaults,
            self._session_for,
            self._close_session,
            self._route_dependents_of,
            ownership,
            settings,
            self.counts,
        )
        self._factory = gateway_factory
        self._clusters_queue: BatchQueue[ResourceKey] = BatchQueue(
            "clusters", self.clusters.reconcile, linger_seconds=0.05, together=False, settings=settings
        )
        self._routes: BatchQueue[tuple[Kind, ResourceKey]] = BatchQueue("routes", self._route, settings=settings)
        loop = asyncio.get_running_loop()
        self.neighbours = Neighbours(api, self.writer, lease, namespaces, settings.lease_seconds)
        self._tasks = [loop.create_task(self._resync(), name="resync")]
        if lease:
            self._tasks.append(loop.create_task(self.neighbours.watch(), name="neighbours"))
        self._observed: dict[tuple[Kind, ResourceKey], tuple[Any, ...] | None] = {}
        """The fingerprint of each object as the watches last reported it."""
        self.resyncs = 0
        self.last_resync = utc_now()
        """When everything was last reconciled again, or this began."""

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._routes.close()
        await self._clusters_queue.close()
        # At the same time: each waits for the calls under way, and some clusters may not answer.
        await asyncio.gather(*(self._close_session(key) for key in list(self.sessions)))
        await self.writer.close()

    # -- watch events -------------------------------------------------------------------------------------------------

    def observe(self, kind: Kind, event: str | None, body: Mapping[str, Any]) -> None:
        """Take in one watch event; None is an object of the first list."""
        key = ResourceKey.of(body)
        # Compared with what was observed before, not with what is stored: that may be the answer to one of our writes,
        # which carries another client's change that no watch has reported yet.
        fingerprint = None if event == "DELETED" else _fingerprint_of_intent(body)
        changed = self._observed.get((kind, key)) != fingerprint
        if event == "DELETED":
            self._observed.pop((kind, key), None)
            self.store.remove(kind, key)
        else:
            self._observed[kind, key] = fingerprint
            if not self.store.put(kind, body) and not changed:
                return  # the echo of one of our writes, or a watch that began again
        if kind in self.kinds:
            if changed:
                self._routes.add((kind, key))
            if event == "DELETED":
                self.dependents.say_what_stays(kind, body)
                self._requeue_conflicts(kind, body)
        elif kind is Kind.CLUSTER:
            self._clusters_queue.add(key)
            if changed:
                self._route_dependents_of(key)
        elif kind is Kind.NAMESPACE:
            if body["metadata"].get("deletionTimestamp"):
                self._route_namespace(key.name)
        else:
            owner = body["metadata"].get("labels", {}).get(CLUSTER_LABEL)
            if owner:
                self._clusters_queue.add(ResourceKey(key.namespace, owner))

    def _requeue_conflicts(self, kind: Kind, gone: Mapping[str, Any]) -> None:
        """Requeue resources that were blocked by the deleted one."""
        for key, body in self.store.list(kind):
            if name_in_kafka(self.kinds[kind], body) == name_in_kafka(self.kinds[kind], gone):
                self._routes.add((kind, key))

    def _route_dependents_of(self, cluster: ResourceKey) -> None:
        for kind in self.kinds:
            for key, body in self.store.list(kind):
                reference = str(body.get("spec", {}).get("cluster", ""))
                namespace, _, name = reference.rpartition("/")
                if ResourceKey(namespace or key.namespace, name) == cluster:
                    self._routes.add((kind, key))

    def _route_namespace(self, namespace: str) -> None:
        for kind in self.kinds:
            for key, _ in self.store.list(kind):
                if key.namespace == namespace:
                    self._routes.add((kind, key))

    # -- queues -------------------------------------------------------------------------------------------------------

    async def _route(self, batch: list[tuple[Kind, ResourceKey]]) -> Mapping[tuple[Kind, ResourceKey], float | None]:
        again: dict[tuple[Kind, ResourceKey], float | None] = {}
        for kind, key in batch:
            try:
                await self.dependents.route(kind, key)
            except Exception as error:
                logger.warning("%s %s: %s", kind.kind, key, error)
                again[kind, key] = None
        return again

    async def _resync(self) -> None:
        """Read everything again from time to time, whatever was or was not seen in between; not all at once."""
        while True:
            await asyncio.sleep(self.settings.resync_seconds * random.uniform(0.9, 1.1))
            self.resyncs += 1
            self.last_resync = utc_now()
            for key, _ in self.store.list(Kind.CLUSTER):
                self._clusters_queue.add(key)
            for kind in self.kinds:
                for key, _ in self.store.list(kind):
                    self._routes.add((kind, key))

    async def _look_up(self, kind: Kind, key: ResourceKey) -> Mapping[str, Any] | None:
        """An object that no watch has reported. At the start a Topic may be listed before its Cluster or namespace:
        what becomes of its records must not depend on that."""
        found = await self._api.get(kind, key.namespace or None, key.name)
        if found is None:
            return None
        body = {"apiVersion": kind.api_version, "kind": kind.kind, **found}
        self.store.put(kind, body)
        if kind is Kind.CLUSTER:
            self._clusters_queue.add(key)
        return body

    # -- sessions -----------------------------------------------------------------------------------------------------

    async def _session_of(self, key: ResourceKey, cluster: Cluster) -> Session | None:
        """What talks to a cluster; opened for one that was ready when its status was last written."""
        condition = cluster.status.condition("Ready") if cluster.status else None
        if key not in self.sessions and condition is not None and condition.status == "True":
            return await self._session_for(key, bootstrap_servers(cluster))
        return self.sessions.get(key)

    async def _session_for(self, cluster: ResourceKey, servers: tuple[str, ...]) -> Session:
        # Looked up again after each closing: meanwhile another task may have made the one that is wanted.
        while (session := self.sessions.get(cluster)) is not None and session.servers != servers:
            await self._close_session(cluster)
        if session is None:
            kinds, work = tuple(self.kinds.values()), self.dependents.round
            lag_query = partial(self._lag_query, cluster)
            session = Session(cluster, servers, self._factory, kinds, work, self.settings, lag_query)
            self.sessions[cluster] = session
            self._route_dependents_of(cluster)
        return session

    def declared_groups(self) -> Iterator[tuple[ResourceKey, GroupView]]:
        """Groups for /metrics that a resource declares, with their Clusters.

        Of a cluster that does not answer nothing is known: no lag is better than the one of then.
        """
        for key, view in self.dependents.recent_views(Kind.CONSUMER_GROUP).items():
            body = self.store.get(Kind.CONSUMER_GROUP, key)
            cluster = cluster_of(body, key) if body is not None else None
            if cluster is None or not self.clusters.is_reachable(cluster):
                continue
            if self.exported_groups(cluster) != ConsumerGroupMetrics.NONE:
                yield cluster, view

    def unknown_groups(self) -> Counter[ResourceKey]:
        """How many groups that resources declare were not observed for a minute, by Cluster.

        Not those that wait for a person or for their Cluster: their conditions say so.
        """
        found, seen = Counter[ResourceKey](), self.dependents.recent_views(Kind.CONSUMER_GROUP)
        for key, body in self.store.list(Kind.CONSUMER_GROUP):
            cluster = cluster_of(body, key)
            paused = (self.store.get(Kind.CLUSTER, cluster) or {}).get("spec", {}).get("paused")
            conditions = body.get("status", {}).get("conditions", ())
            ready = next((x for x in conditions if x["type"] == "Ready"), {"status": "Unknown", "reason": ""})
            if key not in seen and not paused and (ready["status"] == "True" or ready["reason"] in NO_ANSWER):
                found[cluster] += 1
        return found

    def exported_groups(self, cluster: ResourceKey) -> str:
        """Which groups of a Cluster are exported: spec.metrics.consumerGroups."""
        return str(self._group_metrics(cluster).get("consumerGroups", ConsumerGroupMetrics.ALL))

    def _group_metrics(self, cluster: ResourceKey) -> Mapping[str, Any]:
        body = self.store.get(Kind.CLUSTER, cluster) or {}
        found: Mapping[str, Any] = body.get("spec", {}).get("metrics") or {}
        return found

    def _lag_query(self, cluster: ResourceKey, times: Times) -> LagQuery | None:
        """What is asked of a cluster for /metrics, beside the groups that resources declare."""
        body = self.store.get(Kind.CLUSTER, cluster)
        if body is None or self.exported_groups(cluster) != ConsumerGroupMetrics.ALL:
            return None
        return LagQuery(
            most_partitions=self.settings.lag_partitions,
            most_fetches=self.settings.lag_fetches,
            known=frozenset(view.group_id for at, view in self.declared_groups() if at == cluster),
            excluded=tuple(self._group_metrics(cluster).get("excludeGroups") or ()),
            all_topics=_no_broker_exports_topics(body.get("spec", {})),
            times=times,
        )

    async def _close_session(self, cluster: ResourceKey) -> None:
        session = self.sessions.pop(cluster, None)
        if session is not None:
            await session.close()


def _no_broker_exports_topics(spec: Mapping[str, Any]) -> bool:
    """Whether `kafka_topic_*` come from here: nobody scrapes brokers of others, and Apache Kafka has no such MBeans."""
    return spec.get("external") is not None or is_apache_kafka(spec)


def _fingerprint_of_intent(body: Mapping[str, Any]) -> tuple[Any, ...]:
    """A fingerprint of what others change in a resource: our own status writes do not change it."""
    metadata = body["metadata"]
    owner = owner_of(body)  # what waited until a Cluster is this operator's goes on when the watch reports it
    return metadata.get("generation"), metadata.get("deletionTimestamp"), metadata.get("uid"), owner

"""A Kubernetes in memory, as far as the operator can tell, and an operator on it and on a Kafka in memory."""

from __future__ import annotations

import asyncio
import copy
import functools
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from broadsheet_operator.handlers.operator import Operator
from broadsheet_operator.kafka.dependents import DEPENDENTS, DependentKind
from broadsheet_operator.kubernetes import Kind, KubernetesError
from broadsheet_operator.reconcilers.provisioning import Settings
from broadsheet_operator.settings import OperatorSettings
from tests.support.fake_kafka import FakeKafka
from tests.support.waiting import until

Body = dict[str, Any]
NO_RESYNC = OperatorSettings(resync_seconds=3600.0)
API = "broadsheet.io/v1alpha1"


def merged(old: Any, new: Any) -> Any:
    """RFC 7386."""
    if not isinstance(new, dict):
        return copy.deepcopy(new)
    result = dict(old) if isinstance(old, dict) else {}
    for key, value in new.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


class FakeKubernetes:
    """Objects with uids, generations, finalizers and a watch; StatefulSets whose pods are Ready at once."""

    def __init__(self) -> None:
        self.objects: dict[tuple[Kind, str, str], Body] = {}
        self.watch: Callable[[Kind, str, Body], None] = lambda kind, event, body: None
        self.events: list[tuple[str, str, str]] = []
        """(name, reason, note)"""
        self.writes: list[tuple[str, Kind, str]] = []
        """(verb, kind, name)"""
        self.refuse: Callable[[str, Kind, str], KubernetesError | None] = lambda verb, kind, name: None
        self.pods_ready = True
        self.controller_sees = True
        """False: the controller of StatefulSets has not looked at them lately."""
        self._numbers = itertools.count(1)

    # -- what the operator calls ---------------------------------------------------------------------------------------

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Body | None:
        self._gate("get", kind, name)
        return copy.deepcopy(self.objects.get((kind, namespace or "", name)))

    async def list(self, kind: Kind, namespace: str | None = None, labels: str = "", fields: str = "") -> list[Body]:
        self._gate("get", kind, "")
        wanted = dict([labels.split("=")]) if labels else {}
        return [
            copy.deepcopy(body)
            for (k, n, _), body in self.objects.items()
            if k is kind and namespace in (None, n) and wanted.items() <= body["metadata"].get("labels", {}).items()
        ]

    async def create(self, body: Mapping[str, Any]) -> Body:
        kind, key = self._key(body)
        self._gate("create", kind, key[2])
        if key in self.objects:
            raise KubernetesError(409, "AlreadyExists", "there is one")
        return self.put(dict(body))

    async def apply(self, body: Mapping[str, Any]) -> Body:
        kind, key = self._key(body)
        self._gate("apply", kind, key[2])
        return self.put(merged(self.objects.get(key, {}), dict(body)))

    async def apply_status(self, body: Mapping[str, Any]) -> Body:
        kind, key = self._key(body)
        self._gate("status", kind, key[2])
        if key not in self.objects:
            raise KubernetesError(404, "NotFound", "gone")
        return self.put({**self.objects[key], "status": copy.deepcopy(body["status"])})

    async def patch(self, kind: Kind, namespace: str | None, name: str, patch: Mapping[str, Any]) -> Body:
        self._gate("patch", kind, name)
        key = (kind, namespace or "", name)
        if key not in self.objects:
            raise KubernetesError(404, "NotFound", "gone")
        version = patch.get("metadata", {}).get("resourceVersion")
        if version is not None and version != self.objects[key]["metadata"]["resourceVersion"]:
            raise KubernetesError(409, "Conflict", "changed meanwhile")
        return self.put(merged(self.objects[key], dict(patch)))

    async def delete(self, kind: Kind, namespace: str | None, name: str, uid: str = "") -> bool:
        self._gate("delete", kind, name)
        return self.remove(kind, namespace or "", name)

    async def event(self, regarding: Mapping[str, Any], severity: str, reason: str, action: str, note: str) -> None:
        self.events.append((regarding["metadata"]["name"], reason, note))

    # -- the rest of the world -----------------------------------------------------------------------------------------

    def put(self, body: Body) -> Body:
        """Write an object and tell the watch; one that waits for its last finalizer goes."""
        kind, key = self._key(body)
        old = self.objects.get(key)
        metadata = dict(body["metadata"])
        metadata.setdefault("uid", f"00000000-0000-4000-8000-{next(self._numbers):012d}")
        metadata.setdefault("creationTimestamp", f"2026-01-01T00:00:{next(self._numbers) % 60:02d}Z")
        generation = old["metadata"]["generation"] if old else 0
        metadata["generation"] = generation + (old is None or old.get("spec") != body.get("spec"))
        metadata["resourceVersion"] = str(next(self._numbers))
        body = {**body, "metadata": metadata}
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
            self.objects.pop(key, None)
            self.watch(kind, "DELETED", copy.deepcopy(body))
            return body
        self.objects[key] = body
        self.watch(kind, "MODIFIED" if old else "ADDED", copy.deepcopy(body))
        if kind is Kind.STATEFUL_SET:
            self._run_pods(body)
        return copy.deepcopy(self.objects[key])

    def remove(self, kind: Kind, namespace: str, name: str) -> bool:
        body = self.objects.get((kind, namespace, name))
        if body is None:
            return False
        if body["metadata"].get("finalizers"):
            stamp = {"metadata": {"deletionTimestamp": "2026-01-02T00:00:00Z"}}
            self.put(merged(body, stamp))
            return True
        del self.objects[kind, namespace, name]
        self.watch(kind, "DELETED", copy.deepcopy(body))
        if kind is Kind.POD:
            for (k, n, _), owner in list(self.objects.items()):
                if k is Kind.STATEFUL_SET and n == namespace:
                    self._run_pods(owner)
        return True

    def _run_pods(self, stateful_set: Body) -> None:
        namespace, name = stateful_set["metadata"]["namespace"], stateful_set["metadata"]["name"]
        template = stateful_set["spec"]["template"]
        for kind, place, pod in list(self.objects):
            owner, _, number = pod.rpartition("-")
            mine = kind is Kind.POD and place == namespace and owner == name
            if mine and int(number) >= stateful_set["spec"]["replicas"]:
                self.watch(kind, "DELETED", self.objects.pop((kind, place, pod)))
        for index in range(stateful_set["spec"]["replicas"]):
            if (Kind.POD, namespace, f"{name}-{index}") in self.objects:
                continue
            ready = {"type": "Ready", "status": "True" if self.pods_ready else "False"}
            metadata = {"name": f"{name}-{index}", "namespace": namespace, **copy.deepcopy(template["metadata"])}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
            self.put({**pod, "status": {"conditions": [ready]}})
        self._observe(stateful_set)

    def _observe(self, stateful_set: Body) -> None:
        """The controller says what it has seen and made."""
        metadata, spec = stateful_set["metadata"], stateful_set["spec"]
        status = {"observedGeneration": metadata["generation"], "replicas": spec["replicas"]}
        key = (Kind.STATEFUL_SET, metadata["namespace"], metadata["name"])
        if key in self.objects and self.controller_sees and self.objects[key].get("status") != status:
            self.put({**self.objects[key], "status": status})

    def one(self, kind: Kind, name: str, namespace: str = "paper") -> Body:
        return self.objects[kind, namespace, name]

    def reason(self, kind: Kind, name: str, namespace: str = "paper") -> str:
        """The reason of the condition Ready; empty while there is none."""
        body = self.objects.get((kind, namespace, name), {})
        conditions = body.get("status", {}).get("conditions", ())
        return next((str(c["reason"]) for c in conditions if c["type"] == "Ready"), "")

    def _gate(self, verb: str, kind: Kind, name: str) -> None:
        error = self.refuse(verb, kind, name)
        if error is not None:
            raise error
        if verb != "get":
            self.writes.append((verb, kind, name))

    @staticmethod
    def _key(body: Mapping[str, Any]) -> tuple[Kind, tuple[Kind, str, str]]:
        kind = Kind.of(dict(body))
        return kind, (kind, body["metadata"].get("namespace", ""), body["metadata"]["name"])


class Stage:
    """An operator on both fakes; used as `async with Stage() as stage`."""

    def __init__(self, timing: OperatorSettings = NO_RESYNC, kinds: Sequence[DependentKind] = DEPENDENTS) -> None:
        self.settings = Settings(image="broker:1")
        self.kubernetes = FakeKubernetes()
        self.kafka = FakeKafka()
        self.kafka.pods = lambda: self._broker_pods("news")
        self.timing = timing
        self.kinds = kinds

    async def __aenter__(self) -> Stage:
        self.operator = Operator(self.kubernetes, self.settings, self._connect, self.timing, self.kinds)
        self.kubernetes.watch = self.operator.observe
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.operator.close()

    def _connect(self, servers: Sequence[str]) -> FakeKafka:
        """A broker has the cluster id that its configuration says, if it does."""
        for (kind, _, _), body in self.kubernetes.objects.items():
            if kind is Kind.CONFIG_MAP:
                lines = dict(line.split("=", 1) for line in body["data"]["server.properties"].splitlines())
                self.kafka.cluster_id = lines.get("cluster.id", self.kafka.cluster_id)
        return self.kafka

    def _broker_pods(self, cluster: str) -> list[int]:
        names = [name for kind, _, name in self.kubernetes.objects if kind is Kind.POD]
        return sorted(int(n.rpartition("-")[2]) for n in names if n.rpartition("-")[0] == f"{cluster}-brokers")

    def apply(self, kind: str, name: str, spec: Mapping[str, Any], namespace: str = "paper") -> None:
        """What kubectl apply does, with the whole spec."""
        key = (Kind.of({"apiVersion": API, "kind": kind}), namespace, name)
        old = self.kubernetes.objects.get(key, {})
        metadata = old.get("metadata", {"name": name, "namespace": namespace})
        self.kubernetes.put({**old, "apiVersion": API, "kind": kind, "metadata": metadata, "spec": dict(spec)})

    def namespace(self, name: str, *, going: bool = False) -> None:
        metadata: Body = {"name": name, "finalizers": ["kubernetes"]}
        if going:
            metadata["deletionTimestamp"] = "2026-01-02T00:00:00Z"
        self.kubernetes.put({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})

    def reasons_of(self, name: str) -> list[str]:
        """Reasons of the events about an object."""
        return [reason for about, reason, _ in self.kubernetes.events if about == name]

    until = staticmethod(until)

    async def reason(self, kind: Kind, name: str, reason: str, namespace: str = "paper") -> Body:
        """The object, once its condition Ready has this reason for the generation that is there."""

        def check() -> bool:
            body = self.kubernetes.objects.get((kind, namespace, name))
            if body is None or self.kubernetes.reason(kind, name, namespace) != reason:
                return False
            return bool(body["status"].get("observedGeneration") == body["metadata"]["generation"])

        await self.until(check, f"{kind.kind} {name} {reason}, not {self.kubernetes.reason(kind, name, namespace)}")
        return self.kubernetes.one(kind, name, namespace)


BROKERS = {"brokers": {"replicas": 1, "storage": {"size": "1Gi"}}}


def staged(test: Callable[[Stage], Awaitable[None]]) -> Callable[[], None]:
    """Run a coroutine with an operator on both fakes, and a Cluster `news` that is Ready."""

    async def with_cluster(stage: Stage) -> None:
        stage.apply("Cluster", "news", BROKERS)
        await stage.reason(Kind.CLUSTER, "news", "Ready")
        await test(stage)

    functools.update_wrapper(with_cluster, test)
    return on_stage(with_cluster)


def on_stage(test: Callable[[Stage], Awaitable[None]]) -> Callable[[], None]:
    """Run a coroutine with an operator on both fakes."""

    async def scene() -> None:
        async with asyncio.timeout(30):
            async with Stage() as stage:
                await test(stage)

    def run() -> None:
        asyncio.run(scene())

    functools.update_wrapper(run, test)
    del run.__wrapped__  # type: ignore[attr-defined] - pytest would take its argument for a fixture
    return run


def status(stage: Stage) -> dict[str, Any]:
    found: dict[str, Any] = stage.kubernetes.one(Kind.CLUSTER, "news")["status"]
    return found

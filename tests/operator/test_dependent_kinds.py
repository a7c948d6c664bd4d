"""A kind that belongs to a Cluster is one row of a table: both shells reconcile one that only these tests know."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import yaml

from broadsheet_operator.api.keys import ResourceKey
from broadsheet_operator.api.manifests import KINDS
from broadsheet_operator.api.meta import API_VERSION, ClusterReference, DeletionPolicy, Dependent, SpecModel, Status
from broadsheet_operator.handlers.store import KubernetesResources
from broadsheet_operator.kafka.dependents import DEPENDENTS, DependentKind
from broadsheet_operator.kafka.gateway import KafkaGateway
from broadsheet_operator.kafka.rounds import Outcome, Task
from broadsheet_operator.kubernetes import Kind, kind_of
from broadsheet_operator.local import cluster as local_cluster
from broadsheet_operator.local.runtime import Runtime
from broadsheet_operator.local.store import FileStore
from broadsheet_operator.local.tables import tables
from broadsheet_operator.reconcilers.conditions import NO_FIGURES, ready, stuck, with_statements
from broadsheet_operator.reconcilers.reasons import Reason
from tests.operator.support import FakeKafka, Stage
from tests.support.waiting import wait_until


class NoteSpec(SpecModel):
    cluster: ClusterReference
    title: str | None = None
    deletion_policy: DeletionPolicy = DeletionPolicy.RETAIN


class NoteStatus(Status):
    title: str | None = None


class Note(Dependent):
    """Something small: how many topics its cluster has."""

    PLURAL: ClassVar[str] = "notes"
    NAME_FIELD: ClassVar[str] = "title"

    api_version: Literal["broadsheet.io/v1alpha1"] = API_VERSION
    kind: Literal["Note"] = "Note"
    spec: NoteSpec
    status: NoteStatus | None = None


def reconcile_notes(gateway: KafkaGateway, task: Task) -> Mapping[ResourceKey, Outcome]:
    topics = gateway.list_topics()
    assert isinstance(topics, list)
    outcomes = {}
    for note in task.resources:
        rival = task.rivals.get(note.key)
        told = stuck(Reason.RESOURCE_CONFLICT, rival) if rival else ready(f"{len(topics)} topics")
        empty = NoteStatus(title=note.kafka_name)
        status = with_statements(note.status, empty, told, note.metadata.generation, task.clock())
        outcomes[note.key] = Outcome(status, view=len(topics))
    return outcomes


NOTES = DependentKind(
    model=Note,
    status=NoteStatus,
    named="title",
    stays="the note {}",
    exists=lambda status: status.observed_generation is not None,
    round=reconcile_notes,
    figures=NO_FIGURES,
    linger_seconds=lambda settings: 0.0,
    ready_seconds=lambda settings, status: 0.0,
    unready_seconds=lambda settings, ready: 1.0,
    local_seconds=0.1,
)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `api.manifests` would know it."""
    monkeypatch.setitem(KINDS, "Note", Note)


def test_the_operator_reconciles_a_third_kind() -> None:
    async def run() -> None:
        async with asyncio.timeout(30), Stage(kinds=(*DEPENDENTS, NOTES)) as stage:
            stage.apply("Cluster", "news", {"brokers": {"replicas": 1}})
            await stage.reason(Kind.CLUSTER, "news", "Ready")
            stage.kafka.topics = {"a": (1, {}), "b": (1, {})}
            kind = kind_of(Note)
            stage.apply("Note", "first", {"cluster": "news", "title": "same"})
            body = await stage.reason(kind, "first", "Ready")
            assert body["status"]["title"] == "same"
            assert body["status"]["conditions"][0]["message"] == "2 topics"
            stage.apply("Note", "second", {"cluster": "news", "title": "same"})
            await stage.reason(kind, "second", "ResourceConflict")
            stage.apply("Note", "lost", {"cluster": "nowhere"})
            await stage.reason(kind, "lost", "ClusterNotFound")
            assert stage.operator.dependents.recent_views(kind)[ResourceKey("paper", "first")] == 2
            reader = KubernetesResources(stage.operator.store)
            assert [note.key.name for note in reader.list("Note")] == ["first", "lost", "second"]
            stage.kubernetes.remove(kind, "paper", "first")
            await stage.reason(kind, "second", "Ready")

    asyncio.run(run())


def manifest(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def test_broadsheet_up_reconciles_a_third_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kafka = FakeKafka()
    kafka.topics = {"a": (1, {})}
    monkeypatch.setattr(local_cluster, "KafkaPythonGateway", lambda servers, timeout_ms: kafka)
    external = {"bootstrapServers": ["localhost:1"]}
    documents = [
        manifest("Cluster", "far", external=external),
        manifest("Note", "first", cluster="far"),
        manifest("Note", "lost", cluster="nowhere"),
    ]
    file = tmp_path / "notes.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    store = FileStore(tmp_path / "state")
    runtime = Runtime([str(file)], store, lambda what, words: None, kinds=(*DEPENDENTS, NOTES))
    runtime.start()

    def reason(name: str) -> str:
        runtime.step()
        note = store.get("Note", ResourceKey("", name))
        condition = note.status.condition("Ready") if note and note.status else None
        return condition.reason if condition else ""

    wait_until(lambda: reason("first") == "Ready", "a round for the first note")
    wait_until(lambda: reason("lost") == "ClusterNotFound", "words about the other")
    runtime.stop()
    assert [note.key.name for note in store.list("Note")] == ["first", "lost"]
    first, *_ = store.list("Note")
    assert first.status.title == "first"
    assert "nowhere" in tables(store.list("Note"))

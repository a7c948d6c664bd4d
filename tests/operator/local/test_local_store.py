"""The state directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broadsheet_operator.api.manifests import parse
from broadsheet_operator.local.store import FileStore


def topic(name: str = "orders", **spec: Any) -> Any:
    manifest = {"apiVersion": "broadsheet.io/v1alpha1", "kind": "Topic", "metadata": {"name": name}}
    return parse({**manifest, "spec": {"cluster": "q", **spec}})


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    made = FileStore(tmp_path / "state")
    made.prepare()
    return made


def test_created_then_unchanged_then_configured(store: FileStore) -> None:
    assert [store.apply(topic()), store.apply(topic()), store.apply(topic(partitions=3))] == [
        "created",
        "unchanged",
        "configured",
    ]
    entry = store.entry("Topic", "orders")
    assert entry is not None
    assert (entry.resource.metadata.generation, entry.resource.spec.partitions) == (2, 3)  # type: ignore[union-attr]
    assert entry.resource.metadata.uid
    assert entry.resource.metadata.creation_timestamp.endswith("Z")


def test_the_fingerprint_changes_with_declarations_and_not_with_statuses(store: FileStore) -> None:
    first = store.fingerprint()
    store.apply(topic())
    second = store.fingerprint()
    store.write_status("Topic", "orders", {"partitions": 3})
    assert first != second == store.fingerprint()
    entry = store.entry("Topic", "orders")
    assert entry is not None
    assert entry.resource.status.partitions == 3  # type: ignore[union-attr]


def test_deletion_is_asked_for_and_then_done(store: FileStore) -> None:
    store.apply(topic())
    assert not store.mark_deleted("Topic", "nope")
    assert store.mark_deleted("Topic", "orders")
    entry = store.entry("Topic", "orders")
    assert entry is not None
    assert entry.resource.metadata.deletion_timestamp
    store.remove("Topic", "orders", entry.resource.metadata.uid)
    assert store.entries() == {}


def test_what_was_declared_anew_meanwhile_is_not_removed(store: FileStore) -> None:
    store.apply(topic())
    old = store.entry("Topic", "orders")
    assert old is not None
    store.mark_deleted("Topic", "orders")
    assert store.apply(topic()) == "created"
    store.remove("Topic", "orders", old.resource.metadata.uid)
    assert store.entry("Topic", "orders") is not None


def test_one_runner_at_a_time(store: FileStore) -> None:
    assert store.runner() is None
    with store.running():
        runner = store.runner()
        assert runner is not None
        assert runner["pid"]
        with pytest.raises(BlockingIOError), FileStore(store.directory).running():
            pass
    assert store.runner() is None


def test_what_became_of_a_resource_is_kept_only_for_a_deletion_that_is_awaited(store: FileStore) -> None:
    for awaited in (False, True):
        store.apply(topic())
        entry = store.entry("Topic", "orders")
        assert entry is not None
        uid = entry.resource.metadata.uid
        store.mark_deleted("Topic", "orders", awaited=awaited)
        store.remove("Topic", "orders", uid, "the topic stays")
        assert store.parting("Topic", "orders", "another") == ""
        assert store.parting("Topic", "orders", uid) == ("the topic stays" if awaited else "")
        assert store.parting("Topic", "orders", uid) == ""

"""What `broadsheet up` makes of a manifest file while somebody is writing it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from broadsheet_operator.local import manifest_files as module
from broadsheet_operator.local.runtime import Runtime
from broadsheet_operator.local.store import FileStore

TOPIC = """
apiVersion: broadsheet.io/v1alpha1
kind: Topic
metadata: {{name: {name}}}
spec: {{cluster: far, deletionPolicy: Delete}}
"""
BOTH = TOPIC.format(name="orders") + "---" + TOPIC.format(name="payments")


class Bench:
    def __init__(self, directory: Path, text: str) -> None:
        self.file = directory / "topics.yaml"
        self.file.write_text(text)
        self.said: list[str] = []
        self.store = FileStore(directory / "state")
        self.now = 0.0
        self.runtime = Runtime([str(self.file)], self.store, lambda what, words: self.said.append(f"{what}: {words}"))
        self.runtime.start()

    def look(self, seconds: float = 0.1) -> set[str]:
        self.now += seconds
        self.runtime.step()
        return {name for _, name in self.store.entries()}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench(tmp_path, BOTH)
    monkeypatch.setattr(module.time, "monotonic", lambda: bench.now)
    assert bench.look() == {"orders", "payments"}
    return bench


def test_an_emptied_file_deletes_nothing(bench: Bench) -> None:
    bench.file.write_text("")
    for _ in range(5):
        assert bench.look(10) == {"orders", "payments"}
    assert sum("no longer declares anything" in words for words in bench.said) == 1
    bench.file.write_text(BOTH)
    assert bench.look() == {"orders", "payments"}


def test_a_half_written_file_deletes_nothing(bench: Bench) -> None:
    bench.file.write_text(TOPIC.format(name="orders"))
    assert bench.look() == {"orders", "payments"}
    bench.file.write_text(BOTH)
    for _ in range(5):
        assert bench.look(10) == {"orders", "payments"}
    assert not any("no longer" in words for words in bench.said)


def test_what_stays_out_of_a_file_is_deleted_and_what_is_new_is_there_at_once(bench: Bench) -> None:
    bench.file.write_text(TOPIC.format(name="orders") + "---" + TOPIC.format(name="returns"))
    assert bench.look() == {"orders", "payments", "returns"}
    bench.look(module.SETTLE_SECONDS)
    bench.look(10)
    assert bench.look(10) == {"orders", "returns"}
    assert sum("no longer" in words for words in bench.said) == 1


def test_an_empty_file_at_the_start_deletes_nothing(bench: Bench) -> None:
    bench.file.write_text("# all gone\n")
    again = Runtime([str(bench.file)], bench.store, lambda what, words: None)
    again.start()
    assert {name for _, name in bench.store.entries()} == {"orders", "payments"}
    stop = threading.Event()
    stop.set()
    again.run(stop)
    assert not any(entry.resource.metadata.deletion_timestamp for entry in bench.store.entries().values())

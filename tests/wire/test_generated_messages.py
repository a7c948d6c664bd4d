"""The generated modules are what the tool makes of the descriptions, and these hold facts only."""

from __future__ import annotations

from pathlib import Path

from tools.messages import extract, generate


def test_generated_files_are_current() -> None:
    files = generate.generated_files()
    stale = [path.name for path, content in files.items() if not path.exists() or path.read_text() != content]
    assert not stale, "run: python tools/messages/generate.py"
    there = {path for path in generate.MESSAGES.glob("*.py") if path.name != "__init__.py"}
    assert there <= set(files)


def test_descriptions_hold_no_prose() -> None:
    for path in generate.DESCRIPTIONS.glob("*/*.json"):
        assert "about" not in path.read_text(), path.name


def test_descriptions_are_written_as_the_extractor_writes_them() -> None:
    for description, path in zip(generate.load_descriptions(), sorted(_descriptions()), strict=True):
        assert extract.to_text(extract.trim(description)) + "\n" == path.read_text()


def test_comments_are_taken_out_of_descriptions_but_not_out_of_strings() -> None:
    assert extract.without_comments('{"a": "x // y", // gone\n"b": 1}') == '{"a": "x // y", \n"b": 1}'


def test_names_become_snake_case() -> None:
    names = ["TopicId", "ISRNodes", "IsrNodes", "timeoutMs", "LogStartOffset", "KRaftVersion", "Topic"]
    assert [generate.snake(name) for name in names] == [
        "topic_id",
        "isr_nodes",
        "isr_nodes",
        "timeout_ms",
        "log_start_offset",
        "k_raft_version",
        "topic",
    ]


def _descriptions() -> list[Path]:
    return list(generate.DESCRIPTIONS.glob("*/*.json"))

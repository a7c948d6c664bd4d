"""The traces in tests/raft/traces say what happens, line by line."""

from __future__ import annotations

import pathlib

import pytest

from tests.raft.trace_world import Step, parse, replay, traces


@pytest.mark.parametrize("path", traces(), ids=lambda path: path.stem)
def test_machines_do_what_the_trace_says(path: pathlib.Path) -> None:
    text = path.read_text()
    assert replay(text) == text, "if this is right: .venv/bin/python -m tests.raft.trace_world --rewrite"


def test_a_step_is_its_comment_its_command_and_what_it_prints() -> None:
    steps = parse("# Why.\nrun 5\n----\nnothing\n\nlogs\n----\na\nb\n")
    assert steps == [Step(["# Why."], "run 5", ["nothing"]), Step([], "logs", ["a", "b"])]


def test_another_behaviour_gives_another_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Voters that refuse every vote elect no second leader."""
    (path,) = [path for path in traces() if path.stem == "log-divergence"]
    text = path.read_text()
    monkeypatch.setattr("broadsheet_broker.raft.unattached.Unattached.may_grant", lambda *_: False)
    assert replay(text) != text

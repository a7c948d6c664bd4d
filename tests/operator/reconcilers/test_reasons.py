"""The table of reasons: everything that is said stands in it, and everything in it is said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import broadsheet_operator
from broadsheet_operator.api.crd import FIRST_CONDITION
from broadsheet_operator.api.meta import Condition, Status
from broadsheet_operator.reconcilers.conditions import is_bad_news
from broadsheet_operator.reconcilers.reasons import CONDITIONS, Health, Reason, health_of

PACKAGE = Path(broadsheet_operator.__file__).parent
SOURCES = {path: path.read_text() for path in PACKAGE.rglob("*.py") if path.name != "reasons.py"}


@pytest.mark.parametrize("reason", sorted(Reason))
def test_every_reason_is_used_and_explained(reason: Reason) -> None:
    used = any(f"Reason.{reason.name}" in text for text in SOURCES.values())
    assert used or reason == FIRST_CONDITION["reason"], f"nothing says {reason}"
    assert reason.meaning.endswith(".")
    assert reason.remedy or reason.health is not Health.BAD, "what is bad has something that can be done"
    assert str(reason) == reason.value


def test_a_reason_is_never_written_as_a_text_of_its_own() -> None:
    """mypy finds most of them; this finds those behind an Any, as KafkaError was."""
    words = "|".join(re.escape(reason) for reason in Reason)
    said = re.compile(
        rf"""(?:Failure|stuck|waiting|working)\(\s*["']|reason\s*(?:==|!=|=|in)\s*\(?["'](?:{words})["']"""
    )
    found = [f"{path.name}: {match[0]}" for path, text in SOURCES.items() for match in said.finditer(text)]
    assert not found


def test_every_type_of_condition_is_explained() -> None:
    said = {match for text in SOURCES.values() for match in re.findall(r'Statement\(\s*"(\w+)"', text)}
    assert said == set(CONDITIONS)


def ready(reason: str, status: str = "False", *more: Condition) -> Status:
    time = {"last_transition_time": "2026-01-01T00:00:00Z"}
    return Status(conditions=[Condition(type="Ready", status=status, reason=reason, **time), *more])  # type: ignore[arg-type]


@pytest.mark.parametrize("reason", sorted(Reason))
def test_what_is_bad_news_follows_from_the_table(reason: Reason) -> None:
    busy = Condition(type="Reconciling", status="True", reason="Updating", last_transition_time="2026-01-01T00:00:00Z")
    assert is_bad_news(ready(reason)) is (reason.health is Health.BAD)
    assert not is_bad_news(ready(reason, "True"))
    assert not is_bad_news(ready(reason, "False", busy))


def test_a_reason_that_nobody_here_knows_is_worth_a_look() -> None:
    assert health_of("FromALaterVersion") is Health.BAD

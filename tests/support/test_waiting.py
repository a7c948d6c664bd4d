"""Waiting for a condition."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.waiting import until, wait_until


def test_what_the_condition_found_is_given_back() -> None:
    looks = iter([None, 0, "found"])
    assert wait_until(lambda: next(looks), "something", every_s=0) == "found"


def test_a_deadline_names_what_did_not_happen_and_what_was_seen_last() -> None:
    with pytest.raises(TimeoutError, match=r"not within 0 s: three brokers; the last look found \[\]"):
        wait_until(list, "three brokers", 0, 0)
    with pytest.raises(TimeoutError, match=r"not within 0 s: the condition of test_waiting.py, line \d+; .* False"):
        asyncio.run(until(lambda: False, deadline_s=0, every_s=0))

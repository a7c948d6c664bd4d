"""A broker that did not run for longer than its session asks before it answers from memory."""

from __future__ import annotations

from broadsheet_broker.node.absence import PATIENCE, Absence


def running(absence: Absence, begin: float, end: float) -> None:
    now = begin
    while now < end:
        assert not absence.may_be_replaced(now)
        now += 0.5


def test_a_process_that_runs_is_not_away_however_long_the_controller_is_silent() -> None:
    absence = Absence(9.0, 0.0)
    running(absence, 0.0, 60.0)
    assert not absence.may_be_replaced(60.0)


def test_who_was_stopped_for_longer_than_its_session_may_be_replaced_until_it_is_heard_again() -> None:
    absence = Absence(9.0, 0.0)
    running(absence, 0.0, 2.0)
    absence.heard(2.0)
    assert absence.may_be_replaced(12.0), "even before any timer has run"
    absence.heard(11.9)  # asked before the stop was over: the answer may be from before
    assert absence.may_be_replaced(12.1)
    absence.heard(12.2)
    assert not absence.may_be_replaced(12.3)


def test_a_short_stop_cannot_have_cost_a_broker_its_part() -> None:
    absence = Absence(9.0, 0.0)
    running(absence, 0.0, 2.0)
    absence.heard(2.0)
    assert not absence.may_be_replaced(9.0)


def test_without_a_controller_a_broker_goes_on_after_a_time() -> None:
    absence = Absence(9.0, 0.0)
    now = 20.0
    while now < 20.0 + PATIENCE:
        assert absence.may_be_replaced(now)
        now += 0.5
    assert not absence.may_be_replaced(20.0 + PATIENCE)

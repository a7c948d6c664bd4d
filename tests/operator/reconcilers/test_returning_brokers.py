"""Which brokers are on their way back after they were stopped on purpose."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from broadsheet_operator.reconcilers.cluster import BrokerState
from broadsheet_operator.reconcilers.pods import RETURN_SECONDS, Returning

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def looks(*states: tuple[str, str], after: float = 1.0) -> list[bool]:
    """What each look says at a broker that has this state and pod, some seconds after the look before."""
    returning = Returning()
    return [
        returning.look([BrokerState(0, state, pod=pod)], NOW + timedelta(seconds=number * after))
        for number, (state, pod) in enumerate(states)
    ]


POD = "news-brokers-0"


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        # Deleted by the operator, or evicted: stopping, no pod, a new pod that starts, ready.
        (
            [("Running", POD), ("Stopping", POD), ("Starting", ""), ("Starting", POD), ("Running", POD)],
            [False, True, True, True, False],
        ),
        # A broker that crashes keeps its pod.
        ([("Running", POD), ("Restarting", POD), ("Starting", POD), ("Running", POD)], [False] * 4),
        ([("Running", POD), ("Failed", POD)], [False, False]),
        # Its node is gone: the pod is being deleted, and cannot end.
        ([("Running", POD), ("Lost", POD), ("Lost", POD)], [False, False, False]),
        ([("Stopping", POD), ("Lost", POD)], [True, False]),
        # The new one does not start.
        ([("Stopping", POD), ("Starting", ""), ("Failed", POD)], [True, True, False]),
    ],
)
def test_a_broker_returns_only_after_it_was_stopped(states: list[tuple[str, str]], expected: list[bool]) -> None:
    assert looks(*states) == expected


def test_a_broker_that_does_not_come_back_is_missing() -> None:
    """Alerts wait for a broker that is on its way, and not for ever."""
    assert looks(("Stopping", POD), ("Starting", POD), after=RETURN_SECONDS - 1) == [True, True]
    assert looks(("Stopping", POD), ("Starting", POD), after=RETURN_SECONDS) == [True, False]


def test_a_broker_that_left_is_not_waited_for() -> None:
    returning = Returning()
    assert returning.look([BrokerState(0, "Running"), BrokerState(1, "Stopping", pod=POD)], NOW)
    assert not returning.look([BrokerState(0, "Running")], NOW)

"""What is made of answers about groups that are not whole."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from broadsheet_operator.kafka import lag
from broadsheet_operator.kafka.wire import Wire
from broadsheet_operator.reconcilers.observed import BrokerView, ClusterView, Failure, LagQuery
from broadsheet_operator.reconcilers.reasons import Reason

COORDINATOR_LOAD_IN_PROGRESS = 14


def test_groups_of_a_coordinator_that_loads_do_not_seem_to_be_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that has just started answers ListGroups with an error and the groups that it has read so far."""
    view = ClusterView("id", 1, (BrokerView(1), BrokerView(2)))
    monkeypatch.setattr(lag, "observe_cluster", lambda wire: view)
    group = SimpleNamespace(group_id="readers", group_state="Stable", group_type="classic")
    answers = [
        SimpleNamespace(error_code=0, groups=[group]),
        SimpleNamespace(error_code=COORDINATOR_LOAD_IN_PROGRESS, groups=[]),
    ]
    wire: Any = SimpleNamespace(ask=lambda calls: answers)
    found = lag.observe_lag(cast(Wire, wire), LagQuery(most_partitions=10, most_fetches=10))
    assert isinstance(found, Failure)
    assert found.reason is Reason.COORDINATOR_LOADING
    assert "list groups" in found.message

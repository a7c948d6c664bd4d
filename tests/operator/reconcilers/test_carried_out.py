"""Of a paused Cluster it is known what was carried out, and it is Ready only for that."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from broadsheet_operator.api.cluster import Cluster
from broadsheet_operator.reconcilers.carried_out import not_done, text
from broadsheet_operator.reconcilers.cluster import BrokerState, Remarks, cluster_status
from broadsheet_operator.reconcilers.conditions import stuck
from broadsheet_operator.reconcilers.observed import BrokerView, ClusterHealth, ClusterView
from broadsheet_operator.reconcilers.reasons import Reason
from broadsheet_operator.reconcilers.seen import Seen

NOW = datetime(2026, 1, 2, tzinfo=UTC)
BROKERS = {"replicas": 1, "storage": {"size": "1Gi"}}


def cluster(**spec: Any) -> Cluster:
    return Cluster.model_validate({"metadata": {"name": "news"}, "spec": {"brokers": BROKERS, **spec}})


def left(before: Cluster, after: Cluster) -> str:
    return not_done(after.spec, text(before.spec), exists=True)


def test_a_pause_and_a_default_that_is_written_out_are_no_change() -> None:
    assert left(cluster(), cluster(paused=True)) == ""
    assert left(cluster(), cluster(paused=True, brokers={"storage": {"size": "1Gi"}})) == ""


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"image": "broker:2"}, "spec.image"),
        ({"brokers": {**BROKERS, "replicas": 3}}, "spec.brokers.replicas"),
        ({"config": {"num.io.threads": "20"}}, "spec.config.num.io.threads"),
        ({"canary": {}}, "spec.canary"),
        ({"image": "broker:2", "canary": {}}, "spec.canary, spec.image"),
        ({"config": {f"a{n}": "1" for n in range(7)}}, "a4 and 2 more"),
    ],
)
def test_what_changed_with_the_pause_is_named(changed: dict[str, Any], named: str) -> None:
    words = left(cluster(), cluster(paused=True, **changed))
    assert words.startswith("changed, and not carried out while spec.paused is true: ") and words.endswith(named)
    assert left(cluster(**changed), cluster(paused=True)) != "", "what is taken away is a change, too"


@pytest.mark.parametrize("remembered", ["", "[]", "{"])
def test_what_is_not_known_to_be_carried_out_is_not(remembered: str) -> None:
    assert "was not carried out before the pause" in not_done(cluster().spec, remembered, exists=True)
    assert not_done(cluster().spec, "", exists=False) == "nothing is created while spec.paused is true"


def told(state: str = "Running", **remarks: Any) -> list[tuple[str, str, str]]:
    view = ClusterView("id", 0, (BrokerView(0),))
    seen = Seen(view, ClusterHealth(0, 0, 0, {0: 0}, {0: 0})) if state == "Running" else Seen()
    status = cluster_status(cluster(paused=True), [BrokerState(0, state)], seen, NOW, Remarks(**remarks))
    return [(c.type, c.status, c.reason) for c in status.conditions]


PAUSED = ("Paused", "True", "Paused")


def test_a_paused_cluster_is_ready_for_what_was_carried_out_while_it_takes_requests() -> None:
    assert told() == [("Ready", "True", "Ready"), PAUSED]
    assert told(not_done="more") == [("Ready", "False", "Paused"), PAUSED]
    assert told("Starting", not_done="more") == [("Ready", "False", "Paused"), PAUSED]
    assert told("Starting") == [("Ready", "False", "Creating"), PAUSED], "by Kubernetes alone"


def test_what_is_broken_keeps_its_own_reason() -> None:
    """A pause must not hide a crash: after ten minutes it is Stalled as it would be without."""
    assert told("Restarting") == told("Restarting", not_done="more") == [("Ready", "False", "BrokerDown"), PAUSED]
    lost = stuck(Reason.QUORUM_LOST, "no voter is left")
    assert told(instead=lost) == [("Ready", "False", "QuorumLost"), ("Stalled", "True", "QuorumLost"), PAUSED]

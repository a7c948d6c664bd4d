"""An engine is exchanged by stopping: what is refused, waited for and done, from plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from broadsheet_operator.api.cluster import Cluster, Listener
from broadsheet_operator.reconcilers import exchange_state
from broadsheet_operator.reconcilers.cluster import BrokerState
from broadsheet_operator.reconcilers.exchange_state import (
    BROKERS,
    ENGINE,
    PHASE,
    SINCE,
    Phase,
    situation_of,
    to_apply,
)
from broadsheet_operator.reconcilers.exchange_steps import Facts, Step, is_interrupted, next_step, paused
from broadsheet_operator.reconcilers.inputs import ANNOTATION
from broadsheet_operator.reconcilers.observed import (
    BrokerView,
    ClusterHealth,
    ClusterView,
    Failure,
    LackingPartition,
    TopicPartition,
)
from broadsheet_operator.reconcilers.provisioning import Existing, held_back
from tests.operator.support import merged

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OURS: dict[str, Any] = {"type": "broadsheet", "exchange": "Stop"}
APACHE: dict[str, Any] = {"type": "apache-kafka", "version": "4.3.0", "exchange": "Stop"}
RUNNING = tuple(BrokerState(id, "Running") for id in range(3))
STOPPED = tuple(BrokerState(id, "Stopped") for id in range(3))
VIEW = ClusterView("id", 0, tuple(BrokerView(id) for id in range(3)))
WHOLE = ClusterHealth(1, 0, 0, {}, {})
BEHIND = replace(WHOLE, lacking=(LackingPartition(TopicPartition("orders", 2), 0, (0, 1, 2), (0, 2), 2),))


def cluster(engine: Mapping[str, Any] | None, **brokers: Any) -> Cluster:
    spec = {"brokers": {"replicas": 3, "storage": {"size": "1Gi"}, **brokers}} | ({"engine": engine} if engine else {})
    return Cluster.model_validate({"metadata": {"name": "news"}, "spec": spec})


def stateful_set(replicas: int = 3, **annotations: str) -> dict[str, Any]:
    names = {"engine": ENGINE, "phase": PHASE, "brokers": BROKERS, "since": SINCE}
    metadata = {"name": "news-brokers", "annotations": {names[key]: value for key, value in annotations.items()}}
    kept = {"whenDeleted": "Retain", "whenScaled": "Delete"}
    spec = {"replicas": replicas, "persistentVolumeClaimRetentionPolicy": kept}
    return {"metadata": metadata, "spec": spec, "status": {"observedGeneration": 1, "replicas": replicas}}


def with_template(existing: Mapping[str, Any], engine: str) -> dict[str, Any]:
    """A StatefulSet, at its version 7, whose template starts this engine."""
    known = {"properties": {}} | ({"engine": engine} if engine != "Broadsheet" else {})
    template = {"metadata": {"annotations": {ANNOTATION: json.dumps(known)}}, "spec": {"containers": [{}]}}
    return merged(existing, {"metadata": {"resourceVersion": "7"}, "spec": {"template": template}})


def step(declared: Cluster, existing: Mapping[str, Any], **facts: Any) -> Step:
    """The next step of a cluster that is whole, but for these facts."""
    brokers = declared.spec.brokers
    assert brokers is not None
    usual: dict[str, Any] = {
        "declared": declared.engine(),
        "has_volumes": brokers.storage is not None,
        "formed": True,
        "states": RUNNING,
        "pods": {0, 1, 2},
        "replicas": existing["spec"]["replicas"],
        "keeps_claims": existing["spec"]["persistentVolumeClaimRetentionPolicy"]["whenScaled"] == "Retain",
        "view": VIEW,
        "health": WHOLE,
        "unknown": "",
        "window": (True, ""),
        "now": NOW,
    }
    return next_step(situation_of(declared, existing), Facts(**{**usual, **facts}))


def test_an_engine_that_runs_is_not_exchanged() -> None:
    """Nor is another version of it: brokers restart one by one for that."""
    for declared, runs in (
        (None, {}),
        (OURS, {}),
        (APACHE, {"engine": "apache-kafka 4.3.0"}),
        ({**APACHE, "version": "4.4.0"}, {"engine": "apache-kafka 4.3.0"}),
    ):
        found = step(cluster(declared), stateful_set(**runs))
        assert (found.words, found.refusal, found.patch) == ("", "", None)
        assert not found.situation.phase


def test_a_cluster_that_is_not_there_yet_has_nothing_to_exchange() -> None:
    assert not situation_of(cluster(APACHE), None).phase


def test_all_brokers_stop_at_once_and_their_claims_are_kept() -> None:
    found = step(cluster(APACHE), stateful_set())
    assert found.begins and found.patch is not None and found.event is not None
    assert found.event == ("EngineStopping", "Apache Kafka 4.3.0 takes over from Broadsheet: all 3 brokers stop")
    annotations = found.patch["metadata"]["annotations"]
    assert annotations == {ENGINE: "broadsheet", PHASE: "Stopping", BROKERS: "3", SINCE: "2026-01-02T03:04:05+00:00"}
    spec = found.patch["spec"]
    assert spec["replicas"] == 0 and spec["persistentVolumeClaimRetentionPolicy"]["whenScaled"] == "Retain"


@pytest.mark.parametrize(
    ("facts", "refusal"),
    [
        ({"has_volumes": False}, "engine.type cannot change: these brokers have no volumes"),
        (
            {"unknown": "there are 2 ACLs"},
            "Broadsheet cannot take over from Apache Kafka 4.3.0: there are 2 ACLs; or set engine.type back",
        ),
    ],
)
def test_what_cannot_be_taken_over_is_refused_before_a_broker_stops(facts: dict[str, Any], refusal: str) -> None:
    found = step(cluster(OURS), stateful_set(engine="apache-kafka 4.3.0"), **facts)
    assert found.refusal.startswith(refusal)
    assert found.patch is None and not found.words


def test_it_is_refused_where_it_is_not_allowed() -> None:
    found = step(cluster({**APACHE, "exchange": None}), stateful_set())
    assert "engine.exchange: Stop" in found.refusal and found.patch is None


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"window": (False, "waits for the maintenance window that opens 2026")}, "waits for the maintenance window"),
        ({"busy": "1 partition moves"}, "waits until this is done: 1 partition moves"),
        ({"states": (*RUNNING[:2], BrokerState(2, "Starting"))}, "waits until broker 2 runs"),
        ({"states": STOPPED}, "waits until brokers 0, 1, 2 run"),
        ({"formed": False}, "waits until the metadata quorum has formed"),
        ({"health": Failure("Timeout", "no answer")}, "waits until the cluster says which partitions are in sync"),
        ({"health": replace(WHOLE, offline=1)}, "waits until 1 partition has a leader"),
        ({"health": BEHIND}, "waits until broker 1 is in the ISR of orders-2"),
        ({"unknown": None}, "waits until the cluster says what it has stored"),
    ],
)
def test_it_waits_for_what_clients_would_miss_and_says_so(facts: dict[str, Any], words: str) -> None:
    found = step(cluster(APACHE), stateful_set(), **facts)
    assert found.words == f"Apache Kafka 4.3.0 is to take over from Broadsheet: {words}" or words in found.words
    assert found.patch is None and not found.refusal
    assert found.held == ("window" in facts)


def test_brokers_that_crash_are_not_waited_for_but_the_others_are() -> None:
    """Who wants another engine because this one does not start must not have to mend it first."""
    failing = (*RUNNING[:1], BrokerState(1, "Failed"), RUNNING[2])
    assert step(cluster(APACHE), stateful_set(), states=failing, health=BEHIND).begins
    other = replace(BEHIND, lacking=(LackingPartition(TopicPartition("orders", 2), 0, (0, 1, 2), (0,), 2),))
    assert (
        "waits until broker 2 is in the ISR"
        in step(cluster(APACHE), stateful_set(), states=failing, health=other).words
    )
    down: dict[str, Any] = {"states": [BrokerState(id, "Restarting") for id in range(3)], "view": None, "health": None}
    assert step(cluster(APACHE), stateful_set(), **down, unknown=None, certain=True).begins
    back = stateful_set(engine="apache-kafka 4.3.0")
    assert "what it has stored" in step(cluster(OURS), back, **down, unknown=None).words


@pytest.mark.parametrize(
    ("runs", "wanted", "certain"),
    [
        ("broadsheet", APACHE, True),
        ("broadsheet", {**APACHE, "version": "4.4.0"}, True),
        ("apache-kafka 4.3.0", OURS, False),
        ("apache-kafka 9.9.9", OURS, False),
    ],
)
def test_apache_kafka_takes_over_whatever_broadsheet_has_stored(
    runs: str, wanted: dict[str, Any], certain: bool
) -> None:
    found = situation_of(cluster(wanted), stateful_set(engine=runs))
    assert exchange_state.takes_anything(found) == certain


def test_no_broker_of_the_other_engine_starts_while_one_is_left() -> None:
    stopping = stateful_set(0, phase="Stopping", engine="broadsheet", brokers="3")
    stopping["spec"]["persistentVolumeClaimRetentionPolicy"]["whenScaled"] = "Retain"
    asked = cluster(APACHE)
    found = step(asked, stopping, states=STOPPED, pods={1}, view=None, health=None, unknown=None)
    assert found.words == "Apache Kafka 4.3.0 takes over from Broadsheet: waits until broker 1 has stopped"
    assert found.patch is None
    gone = BrokerState(1, "Lost", message="broker 1: its pod cannot end, because node-2 does not answer")
    found = step(asked, stopping, states=(STOPPED[0], gone, STOPPED[2]), pods={1}, unknown=None)
    assert "node-2 does not answer" in found.words and found.patch is None
    found = step(asked, stopping, states=STOPPED, pods=set(), view=None, health=None, unknown=None)
    assert found.when_empty
    assert found.patch == {"metadata": {"annotations": {ENGINE: "apache-kafka 4.3.0", PHASE: "Starting"}}}
    found = step(asked, stopping, states=STOPPED, pods=set(), view=None, health=None, unknown="spec.image is another")
    assert found.patch is None
    assert found.refusal.endswith("Apache Kafka 4.3.0 is not started: spec.image is another")


@pytest.mark.parametrize(
    "status", [{}, {"observedGeneration": 0, "replicas": 0}, {"observedGeneration": 1, "replicas": 1}]
)
def test_a_controller_that_may_still_replace_a_pod_of_the_old_engine_is_waited_for(status: dict[str, int]) -> None:
    """Pods that somebody else deletes are gone before it has seen that there are to be none."""
    stopping = stateful_set(0, phase="Stopping", engine="broadsheet", brokers="3")
    stopping["spec"]["persistentVolumeClaimRetentionPolicy"]["whenScaled"] = "Retain"
    found = step(cluster(APACHE), {**stopping, "status": status}, states=STOPPED, pods=set(), view=None, unknown=None)
    assert "waits until the StatefulSet's controller has seen that no broker is to run" in found.words
    assert found.patch is None


def test_a_stateful_set_that_someone_scales_between_two_writes_starts_no_mixed_cluster() -> None:
    """Its template is still that of the old engine: pods of that are let go before the other template is written."""
    asked = cluster(APACHE)
    written = stateful_set(0, phase="Starting", engine="apache-kafka 4.3.0", brokers="3")
    children = [{"kind": kind, "metadata": {}} for kind in ("ConfigMap", "StatefulSet")]
    empty = with_template(written, "Broadsheet")
    (_, applied) = to_apply(children, situation_of(asked, empty), {"ConfigMap", "StatefulSet"})
    assert applied["metadata"]["resourceVersion"] == "7", "over the one that was seen to be empty, and no other"
    scaled = merged(empty, {"spec": {"replicas": 2}, "status": {"replicas": 2}})
    assert to_apply(children, situation_of(asked, scaled), {"ConfigMap", "StatefulSet"}) == []
    found = step(asked, scaled, pods={0, 1}, view=None, health=None, unknown=None)
    assert found.patch is not None and found.patch["spec"]["replicas"] == 0
    assert "waits until the StatefulSet's controller" in found.words
    going = merged(scaled, {"spec": {"replicas": 0}})
    found = step(asked, going, pods={0, 1}, states=STOPPED, view=None, health=None, unknown=None)
    assert found.patch is None and to_apply(children, situation_of(asked, going), {"ConfigMap", "StatefulSet"}) == []
    new = with_template(written, "Apache Kafka 4.3.0")
    assert "resourceVersion" not in to_apply(children, situation_of(asked, new), set())[1]["metadata"]


def test_brokers_that_do_not_vote_stop_first_while_there_is_a_quorum() -> None:
    """The only voter of two brokers would be gone before the other one has asked it for its controlled shutdown."""
    for brokers, voters in ((2, 1), (5, 3)):
        begun = step(cluster(APACHE, replicas=brokers), stateful_set(brokers))
        assert begun.begins and begun.patch is not None and begun.patch["spec"]["replicas"] == voters
        existing = merged(stateful_set(brokers), begun.patch)
        found = step(cluster(APACHE), existing, states=STOPPED, pods=set(range(brokers)))
        names = ", ".join(map(str, range(voters, brokers)))
        assert found.patch is None and names in found.words and "stopped" in found.words
        found = step(cluster(APACHE), existing, states=STOPPED, pods=set(range(voters)))
        assert found.patch is not None and found.patch["spec"]["replicas"] == 0
        existing = merged(existing, found.patch)
        late = step(cluster(APACHE), existing, states=STOPPED, pods=set(range(brokers)))
        assert late.patch is None, "what has been told to stop is not started again"


@pytest.mark.parametrize("kept", ["Retain", "Delete"])
@pytest.mark.parametrize("replicas", [0, 2])
def test_replicas_that_someone_else_sets_are_taken_back(replicas: int, kept: str) -> None:
    stopping = stateful_set(replicas, phase="Stopping", engine="broadsheet", brokers="3")
    stopping["spec"]["persistentVolumeClaimRetentionPolicy"]["whenScaled"] = kept
    found = step(cluster(APACHE), stopping, pods=set(), states=STOPPED)
    if (replicas, kept) == (0, "Retain"):
        assert found.when_empty
    else:
        assert found.patch is not None and found.patch["spec"]["replicas"] == 0


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"states": STOPPED, "view": None, "health": None}, "waits until brokers 0, 1, 2 run"),
        ({"view": Failure("Timeout", "no answer")}, "waits until the cluster answers"),
        ({"view": ClusterView("id", 0, (*VIEW.brokers[:2], BrokerView(2, fenced=True)))}, "has unfenced broker 2"),
        ({"health": BEHIND}, "broker 1 is in the ISR of orders-2"),
    ],
)
def test_it_is_done_when_every_broker_is_back_in_sync(facts: dict[str, Any], words: str) -> None:
    starting = stateful_set(
        phase="Starting", engine="apache-kafka 4.3.0", brokers="3", since="2026-01-02T03:03:35+00:00"
    )
    found = step(cluster(APACHE), starting, unknown=None, **facts)
    assert words in found.words and found.patch is None
    found = step(cluster(APACHE), starting, unknown=None)
    assert found.patch == {"metadata": {"annotations": {PHASE: None, BROKERS: None, SINCE: None}}}
    assert found.event is not None and "30 s after the brokers were stopped" in found.event[1]
    assert not found.words


def test_an_engine_that_is_set_back_while_brokers_stop_starts_again() -> None:
    stopping = stateful_set(0, phase="Stopping", engine="broadsheet", brokers="3")
    found = step(cluster(OURS), stopping, states=STOPPED, pods={0}, view=None, health=None, unknown=None)
    assert found.patch == {"metadata": {"annotations": {ENGINE: "broadsheet", PHASE: "Starting"}}}
    assert not found.when_empty, "brokers of the same engine may still stop"


def test_an_engine_that_is_set_back_while_the_other_starts_stops_it_first() -> None:
    """Nothing has to be in sync for that: the other engine may never start."""
    starting = stateful_set(phase="Starting", engine="apache-kafka 4.3.0", brokers="3")
    down = tuple(BrokerState(id, "Failed") for id in range(3))
    shut = (False, "waits for the maintenance window that opens 2026")
    found = step(cluster(OURS), starting, states=down, view=None, health=None, unknown=None, window=shut)
    assert found.begins and found.patch is not None
    assert found.patch["metadata"]["annotations"][ENGINE] == "apache-kafka 4.3.0"
    serving = step(cluster(OURS), starting, window=shut)
    assert serving.held and not serving.begins
    assert step(cluster(OURS), starting, unknown="there are 2 ACLs").refusal
    assert "what it has stored" in step(cluster(OURS), starting, unknown=None).words, "one that serves can be asked"


def test_a_pause_leaves_everything_as_it_is_and_says_that_brokers_are_stopped() -> None:
    for phase, words in (("Stopping", "the brokers are stopped"), ("Starting", "have not all come back")):
        found = paused(situation_of(cluster(APACHE), stateful_set(0, phase=phase, brokers="3")))
        assert words in found.words and "spec.paused" in found.words and found.patch is None
    assert not paused(situation_of(cluster(APACHE), stateful_set())).words


def test_what_is_rendered_for_the_other_engine_is_applied_when_it_starts() -> None:
    children = [{"kind": kind, "metadata": {}} for kind in ("ConfigMap", "Service", "StatefulSet")]
    both = {"ConfigMap", "StatefulSet"}

    def applied(existing: Mapping[str, Any], there: set[str] = both) -> list[str]:
        return [child["kind"] for child in to_apply(children, situation_of(cluster(APACHE), existing), there)]

    assert applied(stateful_set()) == ["Service"]
    assert applied(stateful_set(0, phase="Stopping", engine="broadsheet")) == ["Service"]
    assert applied(stateful_set(), {"StatefulSet"}) == ["ConfigMap", "Service"], "one that was deleted is made again"
    assert applied(stateful_set(0, phase="Starting", engine="apache-kafka 4.3.0")) == [c["kind"] for c in children]
    assert applied(stateful_set(engine="apache-kafka 4.3.0")) == [c["kind"] for c in children]
    starting = situation_of(cluster(APACHE), stateful_set(0, phase="Starting", engine="apache-kafka 4.3.0"))
    kept = to_apply(children, starting, both, keeps="broadsheet")
    assert [c["kind"] for c in kept] == ["Service"], "a template of the old engine starts on no volume of the new one"
    assert len(to_apply(children, starting, both, keeps="apache-kafka")) == 3
    new = to_apply(children, situation_of(cluster(APACHE), None), set())
    assert new[2]["metadata"]["annotations"] == {ENGINE: "apache-kafka 4.3.0"}, "from its first second on"


def test_what_stays_is_rendered_for_the_engine_that_it_has() -> None:
    declared = cluster(APACHE)
    for existing, type in (
        (stateful_set(), "broadsheet"),
        (stateful_set(0, phase="Stopping", engine="broadsheet"), "broadsheet"),
        (stateful_set(phase="Starting", engine="apache-kafka 4.3.0"), "apache-kafka"),
    ):
        assert exchange_state.held(declared, situation_of(declared, existing)).engine().type == type
    kept = exchange_state.held(cluster(OURS), situation_of(cluster(OURS), stateful_set(engine="apache-kafka 9.9.9")))
    assert kept.engine().type == "broadsheet"


def test_listeners_change_with_the_engine_and_not_before() -> None:
    """Services led to a port on which no broker listened, from the wish for another engine until it ran."""
    declared = cluster(APACHE)
    spec = declared.spec.model_copy(update={"listeners": [Listener(name="internal", port=9095)]})
    declared = declared.model_copy(update={"spec": spec})
    ports = [{"name": "plain", "containerPort": 9092}, {"name": "tcp-quorum", "containerPort": 9093}]
    ports += [{"name": "tcp-prometheus", "containerPort": 9404}]
    for existing, expected in (
        (stateful_set(), [("plain", 9092)]),
        (stateful_set(0, phase="Stopping", engine="broadsheet"), [("plain", 9092)]),
        (stateful_set(0, phase="Starting", engine="apache-kafka 4.3.0"), [("internal", 9095)]),
    ):
        body = merged(existing, {"spec": {"template": {"metadata": {}, "spec": {"containers": [{"ports": ports}]}}}})
        found, _ = held_back(declared, Existing(body))
        assert [(door.name, door.port) for door in found.listeners()] == expected


@pytest.mark.parametrize(
    ("annotations", "refused"),
    [
        ({"broadsheet.io/quorum": "formed"}, True),
        ({"broadsheet.io/quorum": "formed", ENGINE: "broadsheet"}, True),
        ({"broadsheet.io/quorum": "formed", ENGINE: "apache-kafka 4.4.0"}, False),
        ({"broadsheet.io/cluster-id": "of a cluster that never formed"}, False),
    ],
)
def test_volumes_that_an_older_operator_has_left_are_those_of_broadsheet(
    annotations: dict[str, str], refused: bool
) -> None:
    claim = {"metadata": {"name": "data-news-brokers-0", "annotations": annotations}}
    words = exchange_state.volumes_of_another(cluster(APACHE), None, [claim])
    assert bool(words) == refused and (not refused or "was run with Broadsheet" in words)


def test_a_whole_exchange_there_and_back_goes_on_from_what_is_written() -> None:
    """Every step is taken twice, as by an operator that ends after its write and before it remembers anything."""
    existing = stateful_set()
    pods = {0, 1, 2}
    for engine, label in ((APACHE, "apache-kafka 4.3.0"), (OURS, "broadsheet")):
        phases = []
        for _ in range(12):
            declared = cluster(engine)
            up = existing["spec"]["replicas"] == 3 and pods == {0, 1, 2}
            seen = {"states": RUNNING if up else STOPPED, "pods": pods}
            found = step(declared, existing, **seen) if up else step(declared, existing, **seen, view=None, health=None)
            assert found == (step(declared, existing, **seen) if up else found)
            phases.append(found.situation.phase)
            if found.patch is not None:
                assert not (found.when_empty and pods)
                existing = merged(existing, found.patch)
            elif found.situation.phase is Phase.STARTING:
                existing["spec"]["replicas"] = exchange_state.brokers_of(existing)
            pods = set(range(existing["spec"]["replicas"])) if existing["spec"]["replicas"] else set(sorted(pods)[1:])
            existing["status"] = {"observedGeneration": 1, "replicas": len(pods)}
        assert existing["metadata"]["annotations"] == {ENGINE: label}
        assert [p for n, p in enumerate(phases) if not n or phases[n - 1] != p] == [
            Phase.ASKED,
            Phase.STOPPING,
            Phase.STARTING,
            Phase.NONE,
        ]


def test_brokers_that_stay_away_are_what_was_asked_for_only_for_a_while() -> None:
    since = NOW - timedelta(seconds=30)
    starting = stateful_set(phase="Starting", engine="apache-kafka 4.3.0", since=since.isoformat())
    found = step(cluster(APACHE), starting, states=STOPPED)
    assert is_interrupted(found, NOW)
    assert not is_interrupted(found, NOW + timedelta(hours=1))
    assert not is_interrupted(step(cluster(APACHE), stateful_set(), health=BEHIND), NOW), "it only waits"
    assert is_interrupted(step(cluster(APACHE), stateful_set()), NOW)


def test_volumes_of_another_engine_are_not_taken_over_unasked() -> None:
    """A Cluster was deleted, its volumes stayed, and it is made again: no broker runs that could be asked."""
    claim = {"metadata": {"name": "data-news-brokers-0", "annotations": {ENGINE: "apache-kafka 4.3.0"}}}
    old = {"metadata": {"name": "data-news-brokers-1"}}
    words = exchange_state.volumes_of_another(cluster(OURS), None, [old, claim])
    assert words.startswith(
        "the volume data-news-brokers-0 was run with Apache Kafka 4.3.0, and the engine is Broadsheet"
    )
    assert "set engine.type to apache-kafka" in words
    for declared, existing, claims in (
        (APACHE, None, [old, claim]),
        ({**APACHE, "version": "4.4.0"}, None, [claim]),
        (OURS, None, [old]),
        (OURS, stateful_set(), [claim]),
    ):
        assert exchange_state.volumes_of_another(cluster(declared), existing, claims) == ""

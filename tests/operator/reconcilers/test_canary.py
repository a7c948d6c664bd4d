"""The objects of a canary, and the condition that it leads to."""

from __future__ import annotations

from typing import Any

import pytest

from broadsheet_operator.api.meta import Condition
from broadsheet_operator.reconcilers import canary, provisioning
from broadsheet_operator.reconcilers.canary import Circumstances, statement
from broadsheet_operator.reconcilers.canary_health import CanaryHealth
from broadsheet_operator.reconcilers.observed import BrokerView, Failure
from broadsheet_operator.reconcilers.provisioning import Existing, Settings
from broadsheet_operator.reconcilers.reasons import Reason
from tests.operator.reconcilers.test_provisioning import cluster

WELL = CanaryHealth(True, "RecordsPass", "records pass through 3 brokers; 99 % of them within 1s")


def deployment(**spec: Any) -> dict[str, Any]:
    declared = cluster({"brokers": {"replicas": 3}, "canary": spec})
    policy, found = canary.children(declared, "operator:1", ["news-bootstrap.paper.svc:9092"])
    assert policy["kind"] == "NetworkPolicy"
    assert policy["spec"]["podSelector"]["matchLabels"] == found["spec"]["selector"]["matchLabels"]
    return found


def arguments(found: dict[str, Any]) -> dict[str, str]:
    (container,) = found["spec"]["template"]["spec"]["containers"]
    return dict(argument.removeprefix("--").split("=", 1) for argument in container["args"])


def test_the_deployment_has_no_rights_that_it_does_not_need() -> None:
    found = deployment()
    pod = found["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert (
        pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    )
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert container["ports"] == [{"name": "tcp-prometheus", "containerPort": 9404, "protocol": "TCP"}]
    (owner,) = found["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["controller"]) == ("Cluster", True)


def test_nothing_that_selects_brokers_selects_the_canary() -> None:
    """Clients of the bootstrap Service would be sent to it, and evictions of brokers would count it."""
    labels = deployment()["spec"]["template"]["metadata"]["labels"]
    assert labels["broadsheet.io/cluster"] == "news"
    for child in provisioning.children(cluster(), Existing(), Settings(image="broker:1")):
        spec = child.get("spec", {})
        selector = spec.get("selector") or spec.get("podSelector") or {}
        wanted = selector.get("matchLabels", selector)
        assert not wanted or not wanted.items() <= labels.items(), child["kind"]


def test_what_is_declared_reaches_the_program() -> None:
    plain = arguments(deployment())
    assert plain == {
        "bootstrap-servers": "news-bootstrap.paper.svc:9092",
        "topic": "__broadsheet_canary",
        "topic-management": "none",
        "interval": "1s",
        "max-latency": "1000ms",
        "http": "[::]:9404",
        "log-format": "json",
    }
    declared = arguments(deployment(interval="1m30s", maxLatency="1s500ms", topicName="__theirs"))
    assert (declared["interval"], declared["max-latency"], declared["topic"]) == ("90000ms", "1500ms", "__theirs")
    found = deployment(resources={"requests": {"cpu": "1"}})
    assert found["spec"]["template"]["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "1"}}


def test_arguments_are_those_of_the_program() -> None:
    from broadsheet_operator.canary.main import parser

    (container,) = deployment(interval="250ms")["spec"]["template"]["spec"]["containers"]
    options = parser().parse_args(container["args"])
    assert (options.interval, options.max_latency, options.topic_management) == (250, 1000, "none")


def waiting(reason: str, message: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "news-canary-1"},
        "status": {"containerStatuses": [{"state": {"waiting": {"reason": reason, "message": message}}}]},
    }


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("interval", "99ms", "write a time from 100ms to 1h"),
        ("interval", "3601s", "write a time from 100ms to 1h"),
        ("interval", "soon", "write a time from 100ms to 1h"),
        ("max-latency", "0ms", "write a time from 1ms to 5s"),
        ("max-latency", "5001ms", "write a time from 1ms to 5s"),
        ("topic", "orders", "begins with two underscores"),
        ("topic", "__consumer_offsets", "are Kafka's own topics"),
    ],
)
def test_the_program_refuses_what_a_cluster_may_not_ask_for(
    option: str, value: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from broadsheet_operator.canary.main import parser

    with pytest.raises(SystemExit):
        parser().parse_args(["--bootstrap-servers", "localhost:9092", f"--{option}", value])
    said = " ".join(capsys.readouterr().err.split())
    assert f"argument --{option}: {value!r}: " in said
    assert words in said


def said(health: CanaryHealth | None, before: Condition | None = None, **around: Any) -> tuple[str, str, str]:
    told = statement(health, Circumstances(**around), before)
    assert told.type == "CanaryHealthy"
    return told.status, str(told.reason), told.message


def condition(status: str, reason: str, message: str) -> Condition:
    return Condition(
        type="CanaryHealthy", status=status, reason=reason, message=message, last_transition_time="2026-01-01T00:00:00Z"
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("health", "around", "expected"),
    [
        (None, {"image_is_missing": True}, ("Unknown", "CanaryNotRunning", "started without --canary-image")),
        (None, {}, ("Unknown", "CanaryStarting", "the canary starts")),
        (WELL, {"silent_seconds": 1.0}, ("True", "RecordsPass", "records pass through 3 brokers")),
        (WELL, {"silent_seconds": 1.0, "refusal": "not ours"}, ("Unknown", "TopicExists", "not ours")),
        (
            CanaryHealth(False, "RecordsSlow", "records through broker 1 take 3.2 s at p99, the limit is 1s"),
            {"silent_seconds": 9.0},
            ("False", "RecordsSlow", "records through broker 1 take 3.2 s at p99, the limit is 1s"),
        ),
        (
            CanaryHealth(None, "CanaryStarting", "the topic does not exist"),
            {"silent_seconds": 1.0, "failure": Failure(Reason.POLICY_VIOLATION, "create it: not allowed", False)},
            ("Unknown", "PolicyViolation", "the topic does not exist; create it: not allowed"),
        ),
        (
            WELL,
            {"silent_seconds": 60.0, "problem": "http://10.0.0.1:9404/status: timed out"},
            ("Unknown", "CanaryNotRunning", "the canary does not answer: http://10.0.0.1:9404/status: timed out"),
        ),
        (
            None,
            {"pod": waiting("ImagePullBackOff", "no such image")},
            ("Unknown", "CanaryNotRunning", "the canary does not run: ImagePullBackOff: no such image"),
        ),
        (
            None,
            {
                "deployment": {
                    "status": {
                        "conditions": [
                            {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: pods"},
                        ]
                    }
                }
            },
            ("Unknown", "CanaryNotRunning", "the canary does not run: exceeded quota: pods"),
        ),
    ],
)
def test_the_condition(health: CanaryHealth | None, around: dict[str, Any], expected: tuple[str, str, str]) -> None:
    status, reason, message = said(health, **around)
    assert (status, reason) == expected[:2]
    assert expected[2] in message


def test_an_operator_that_has_just_started_leaves_what_was_said() -> None:
    assert said(None, condition("True", "RecordsPass", "well")) == ("True", "RecordsPass", "well")
    assert said(None, condition("Unknown", "CanaryNotRunning", "no image"))[1] == "CanaryStarting"


def test_what_was_said_does_not_stand_for_ever() -> None:
    """The canary is gone, or closed off from an operator that was started again."""
    before = condition("True", "RecordsPass", "well")
    told = said(None, before, waited_seconds=46.0, problem="timed out")
    assert told == ("Unknown", "CanaryNotRunning", "the canary does not answer: timed out")
    told = said(None, condition(*told), waited_seconds=60.0)
    assert told == ("Unknown", "CanaryNotRunning", "the canary does not answer: it has no pod with an address")


def test_a_canary_that_has_just_started_leaves_what_the_one_before_it_said() -> None:
    starting = CanaryHealth(None, "CanaryStarting", "no record has passed through broker 0 yet")
    before = condition("True", "RecordsPass", "well")
    assert said(starting, before, silent_seconds=0.0) == ("True", "RecordsPass", "well")
    assert said(starting, None, silent_seconds=0.0)[0] == "Unknown"


def test_health_travels_as_it_is() -> None:
    for health in (WELL, CanaryHealth(None, "CanaryStarting", ""), CanaryHealth(False, "RecordsLost", "x")):
        assert CanaryHealth.from_json(health.to_json()) == health
    for wrong in (
        "",
        "[]",
        "{}",
        '{"healthy": 1, "reason": "RecordsPass"}',
        '{"healthy": true, "reason": "x", "message": ""}',
    ):
        with pytest.raises(ValueError):
            CanaryHealth.from_json(wrong)


def test_brokers_that_leave_are_not_asked_to_lead() -> None:
    views = [BrokerView(n) for n in range(4)]
    assert [b.id for b in canary.staying(views, 3, frozenset({1}))] == [0, 2]
    assert [b.id for b in canary.staying(views, None)] == [0, 1, 2, 3]


def test_an_address_of_ipv6_is_in_brackets() -> None:
    pod: dict[str, Any] = {"metadata": {}, "status": {"podIP": "fd00::1"}}
    assert canary.status_url(pod) == "http://[fd00::1]:9404/status"
    assert canary.status_url({"metadata": {"deletionTimestamp": "x"}, "status": {"podIP": "10.0.0.1"}}) == ""

"""A team that only commits: a real Argo CD applies, heals, refuses and prunes, and shows the truth."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from e2e.gitops.argocd import ArgoCd, healthy
from e2e.gitops.figures import Figures
from e2e.gitops.manifests import BOOTSTRAP, CLUSTER, ENVIRONMENT, OVERLAY, overlay
from e2e.gitops.page import Page
from e2e.gitops.repository import Repository
from e2e.operator.world import World, condition
from tests.support.waiting import wait_until

WAYS = ("webhook", "refresh", "polling")
PARTITIONS = 3 + len(WAYS)
"""Of the topic orders, after a commit by each of the ways."""


def partitions(team: World) -> int:
    return int(team.client("describe", "orders", bootstrap=BOOTSTRAP)["partitions"])


def found(team: World, kind: str, name: str) -> dict[str, Any]:
    body = team.get(kind, name, ENVIRONMENT)
    assert body is not None, f"there is no {kind} {name}"
    return body


def test_waves_wait_for_each_other(platform: Repository, argo: ArgoCd, team: World) -> None:
    def ready(kind: str, name: str) -> datetime:
        return datetime.fromisoformat(condition(found(team, kind, name))["lastTransitionTime"])

    def created(kind: str, name: str) -> datetime:
        return datetime.fromisoformat(found(team, kind, name)["metadata"]["creationTimestamp"])

    assert ready("cluster", CLUSTER) <= created("topic", "orders"), "topics wait until their Cluster is Healthy"
    assert ready("topic", "orders") <= created("consumergroup", "billing"), "groups wait for topics"
    shown = argo.nodes(ENVIRONMENT)
    kinds = {node.partition("/")[0] for node in shown}
    assert {"Cluster", "Topic", "ConsumerGroup", "StatefulSet", "Pod", "Service"} <= kinds, "what the operator made"
    ill = {
        key: node["health"]
        for key, node in shown.items()
        if node.get("health", {}).get("status", "Healthy") != "Healthy"
    }
    assert not ill


def test_a_commit_adds_partitions(platform: Repository, argo: ArgoCd, team: World, figures: Figures) -> None:
    for count, way in enumerate(WAYS, 4):
        revision = platform.commit(f"orders has {count} partitions", overlay(platform, orders={"partitions": count}))
        began = time.monotonic()
        if way == "webhook":
            argo.push(platform.url, revision, OVERLAY)
        elif way == "refresh":
            argo.refresh(ENVIRONMENT)
        argo.wait_healthy(ENVIRONMENT, revision)
        took = time.monotonic() - began
        assert partitions(team) == count, "Healthy means that Kafka has it"
        figures.add(f"Argo CD: commit to Healthy, partitions added, by {way}", took, "s")


def test_a_hand_edit_is_put_back(platform: Repository, argo: ArgoCd, team: World, figures: Figures) -> None:
    argo.wait_healthy(ENVIRONMENT)
    edits: list[tuple[str, str, dict[str, Any]]] = [
        ("topic", "orders", {"retention": {"time": "1h"}}),
        ("topic", "orders", {"retention": {"time": "2h"}}),
        ("cluster", CLUSTER, {"brokers": {"storage": {"deletionPolicy": "Delete"}}}),
        ("consumergroup", "billing", {"lag": {"maxRecords": 5}}),
    ]
    for kind, name, spec in edits:
        before = found(team, kind, name)
        began = time.monotonic()
        team.patch(kind, name, spec, ENVIRONMENT)
        wanted = before["spec"]
        team.wait(kind, name, lambda b, wanted=wanted: b["spec"] == wanted, ENVIRONMENT, 90, "as in Git again")  # type: ignore[misc]
        figures.add(f"Argo CD: hand edit of a {before['kind']} put back", time.monotonic() - began, "s")
    argo.wait_healthy(ENVIRONMENT)

    def kept() -> str:
        """How long Kafka keeps the records of orders."""
        settings = team.client("describe", "orders", bootstrap=BOOTSTRAP)["configs"]["topic"]["orders"]
        return str(settings["retention.ms"]["value"])

    wait_until(lambda: kept() == "604800000", "seven days in Kafka again", 30, 1.0)


def test_fewer_partitions_are_refused_with_the_reason(platform: Repository, argo: ArgoCd, team: World) -> None:
    revision = platform.commit("orders has fewer partitions", overlay(platform, orders={"partitions": 2}))
    argo.push(platform.url, revision, OVERLAY)

    def failed(body: dict[str, Any]) -> bool:
        state = body["status"].get("operationState", {})
        tried = state.get("syncResult", {}).get("revision") == revision
        return tried and state.get("phase") in ("Failed", "Running") and "never shrink" in str(state)

    body = argo.wait(ENVIRONMENT, failed, what="the sync to be refused")
    results = body["status"]["operationState"]["syncResult"]["resources"]
    told = {result["name"]: result.get("message", "") for result in results if result.get("status") == "SyncFailed"}
    assert set(told) == {"orders"}, "nothing else of the commit is held up"
    assert "partitions can grow but never shrink" in told["orders"]
    assert body["status"]["sync"]["status"] == "OutOfSync"
    back = platform.revert()
    argo.push(platform.url, back, OVERLAY)
    argo.wait_healthy(ENVIRONMENT, back, 180)
    assert partitions(team) == PARTITIONS


def test_what_kafka_cannot_do_is_degraded_with_the_reason(
    platform: Repository, argo: ArgoCd, team: World, figures: Figures
) -> None:
    wanted = {"partitions": PARTITIONS, "replicationFactor": 3}
    revision = platform.commit("orders has three replicas", overlay(platform, orders=wanted))
    began = time.monotonic()
    argo.push(platform.url, revision, OVERLAY)
    argo.wait(ENVIRONMENT, lambda body: body["status"]["health"]["status"] == "Degraded", what="Degraded")
    figures.add("Argo CD: commit of an impossible change to Degraded", time.monotonic() - began, "s")
    message = argo.wait_node(ENVIRONMENT, "Topic/orders", "Degraded")
    assert condition(found(team, "topic", "orders"))["message"] in message
    assert "broker" in message
    back = platform.revert()
    began = time.monotonic()
    argo.push(platform.url, back, OVERLAY)
    argo.wait_healthy(ENVIRONMENT, back, 180)
    figures.add("Argo CD: revert of it to Healthy", time.monotonic() - began, "s")


def test_pruning_a_topic_keeps_its_records_and_says_so(
    platform: Repository, argo: ArgoCd, team: World, figures: Figures
) -> None:
    team.client("produce", "payments", "30", bootstrap=BOOTSTRAP)
    orders = {"partitions": PARTITIONS}
    revision = platform.commit("The team payments goes", overlay(platform, orders=orders, without="payments"))
    began = time.monotonic()
    argo.push(platform.url, revision, OVERLAY)
    team.wait_gone("topic", "payments", ENVIRONMENT)
    figures.add("Argo CD: removed from Git to pruned", time.monotonic() - began, "s")
    event = team.wait_event("payments", "Retained", ENVIRONMENT)
    assert "records stay in Kafka (deletionPolicy Retain)" in event["note"]
    argo.wait_healthy(ENVIRONMENT, revision)
    assert len(team.client("consume", "payments", "audit", "30", bootstrap=BOOTSTRAP)) == 30
    back = platform.revert()
    argo.push(platform.url, back, OVERLAY)
    argo.wait_healthy(ENVIRONMENT, back)
    assert len(team.client("consume", "payments", "audit-again", "30", bootstrap=BOOTSTRAP)) == 30


def test_an_action_is_not_taken_back_by_self_heal(platform: Repository, argo: ArgoCd, page: Page, team: World) -> None:
    node = f"Cluster/{CLUSTER}"
    menu = argo.actions(ENVIRONMENT, node)
    assert {"pause", "resume", "restart", "rebalance"} <= set(menu)
    assert menu["pause"] and not menu["resume"]
    argo.act(ENVIRONMENT, node, "pause")
    argo.wait_node(ENVIRONMENT, node, "Suspended")
    argo.refresh(ENVIRONMENT, hard=True)
    body = argo.wait(ENVIRONMENT, lambda body: body["status"]["health"]["status"] == "Suspended", what="Suspended")
    assert body["status"]["sync"]["status"] == "Synced", "what Git does not set is no difference"
    argo.act(ENVIRONMENT, node, "resume")
    argo.wait(ENVIRONMENT, healthy, what="Healthy again")
    pod = found(team, "pod", f"{CLUSTER}-brokers-0")["metadata"]["uid"]
    page.run("argocd app actions run kafka-dev restart")
    wait_until(
        lambda: (now := team.get("pod", f"{CLUSTER}-brokers-0", ENVIRONMENT)) and now["metadata"]["uid"] != pod,
        "the broker to be restarted",
        60,
        0.5,
    )
    argo.wait(ENVIRONMENT, healthy, what="Healthy after the restart")


def test_a_promotion_is_one_line_of_a_pull_request(platform: Repository, argo: ArgoCd, page: Page, team: World) -> None:
    """dev stands for prod here: it runs a tag, and what is on main reaches it when the line is changed."""
    at = "docs/examples/gitops"
    file = "environments/dev/environment.yaml"
    platform.git("tag", "v1.0.0")
    platform.git("push", "-q", "origin", "v1.0.0")
    released = platform.head
    argo.push(platform.url, platform.replace(file, "revision: main", "revision: v1.0.0", "dev runs releases"), file)
    argo.wait_healthy(ENVIRONMENT, released)
    orders = {"partitions": PARTITIONS + 1}
    argo.push(platform.url, platform.commit("orders grows", overlay(platform, orders=orders)), OVERLAY)
    argo.wait_healthy("kafka", platform.head)
    page.run("git tag v1.1.0", at=at)
    page.run("git switch --create promote-v1.1.0", at=at)
    page.run("sed -i", ("prod", "dev"), at=at)
    page.run('git commit -am "Promote', at=at)
    assert partitions(team) == PARTITIONS, "what is on main, or in a pull request, is not in a release yet"
    platform.git("switch", "main")
    platform.git("merge", "-q", "promote-v1.1.0")
    platform.git("push", "-q", "origin", "main")
    argo.push(platform.url, platform.head, file)
    argo.wait_healthy(ENVIRONMENT, platform.git("rev-parse", "v1.1.0"), 120)
    page.run("argocd app wait kafka-dev --health")
    page.run("kubectl wait topic orders")
    assert partitions(team) == PARTITIONS + 1
    argo.push(platform.url, platform.replace(file, "revision: v1.1.0", "revision: main", "dev follows main"), file)
    argo.wait_healthy(ENVIRONMENT, platform.head, 120)


def test_nothing_differs_at_rest(platform: Repository, argo: ArgoCd, team: World) -> None:
    """kubectl's diff, on the server too, and Argo CD's own with ServerSideDiff are empty."""
    argo.wait_healthy(ENVIRONMENT)
    for thing in (f"cluster/{CLUSTER}", "topic/orders", "topic/payments", "consumergroup/billing"):
        # What was applied, with the mark by which Argo CD tracks it.
        applied = argo.kube.kubectl("apply", "view-last-applied", thing, "-n", ENVIRONMENT).stdout
        for options in ([], ["--server-side", "--force-conflicts"]):
            done = argo.kube.kubectl("diff", *options, "-f", "-", stdin=applied, check=False)
            assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
    before = argo.app(ENVIRONMENT)
    assert before is not None
    argo.annotate(ENVIRONMENT, "argocd.argoproj.io/compare-options=ServerSideDiff=true")
    try:
        argo.refresh(ENVIRONMENT, hard=True)
        compared = before["status"]["reconciledAt"]
        body = argo.wait(ENVIRONMENT, lambda b: b["status"]["reconciledAt"] > compared, what="another comparison")
        assert body["status"]["sync"]["status"] == "Synced", argo.explain(ENVIRONMENT, body)
    finally:
        argo.annotate(ENVIRONMENT, "argocd.argoproj.io/compare-options-")

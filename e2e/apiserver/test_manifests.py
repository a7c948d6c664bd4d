"""One table of good and bad manifests: the API server takes and refuses what the models take and refuse."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from broadsheet_operator.api.owned import KUBERNETES_PROPERTIES, PROPERTIES
from e2e.apiserver.server import REPOSITORY, Api, Refused
from tests.support.waiting import wait_until

TABLE: dict[str, list[dict[str, Any]]] = yaml.safe_load(
    (REPOSITORY / "tests/operator/api/manifest-table.yaml").read_text()
)
STRICT = "?dryRun=All&fieldValidation=Strict"


def manifest(api: Api, row: dict[str, Any], spec: Any) -> dict[str, Any]:
    metadata = {"name": row.get("name", "table"), "namespace": api.namespace}
    return {"apiVersion": "broadsheet.io/v1alpha1", "kind": row["kind"], "metadata": metadata, "spec": spec}


def offer(api: Api, row: dict[str, Any]) -> None:
    """Create the manifest, or change the one before to it, without keeping it."""
    if "old" not in row:
        api.call("POST", api.path(row["kind"]) + STRICT, manifest(api, row, row["spec"]))
        return
    before = api.create(manifest(api, row, row["old"]))
    try:
        path = api.path(row["kind"], before["metadata"]["name"])
        api.call("PUT", path + STRICT, {**before, "spec": row["spec"]})
    finally:
        api.delete(row["kind"], before["metadata"]["name"])


def name(row: dict[str, Any]) -> str:
    return f"{row['kind']}-{row['spec']}"[:80]


@pytest.fixture(scope="module")
def table(server: Any) -> Api:
    return Api(server)


@pytest.mark.parametrize("row", TABLE["good"], ids=name)
def test_a_good_manifest_is_taken(table: Api, row: dict[str, Any]) -> None:
    offer(table, row)


@pytest.mark.parametrize("row", TABLE["bad"], ids=name)
def test_a_bad_manifest_is_refused(table: Api, row: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        offer(table, row)
    assert refused.value.status in (400, 422), refused.value


def test_an_object_from_before_a_rule_about_names_can_still_be_changed_and_deleted(table: Api) -> None:
    """Finalizers are removed by an update: a rule that a name can never meet must not forbid it."""
    crd = table.one("CustomResourceDefinition", "clusters.broadsheet.io")
    rules = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].pop("x-kubernetes-validations")
    path = table.path("CustomResourceDefinition", "clusters.broadsheet.io")
    table.call("PUT", path, crd)
    row = {"kind": "Cluster", "name": "my.kafka"}
    try:
        # The API server takes a changed definition up a moment later.
        wait_until(lambda: is_taken(table, row), "the definition without the rule to be served", every_s=0.1)
        table.create(manifest(table, row, {"brokers": {}}))
    finally:
        crd = table.one("CustomResourceDefinition", "clusters.broadsheet.io")
        crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-validations"] = rules
        table.call("PUT", path, crd)
    other = {**row, "name": "your.kafka"}
    wait_until(lambda: not is_taken(table, other), "the definition with the rule to be served", every_s=0.1)
    table.patch("Cluster", "my.kafka", {"metadata": {"finalizers": ["broadsheet.io/cleanup"]}})
    table.patch("Cluster", "my.kafka", {"spec": {"paused": True}, "metadata": {"finalizers": None}})
    table.delete("Cluster", "my.kafka")


def is_taken(api: Api, row: dict[str, Any]) -> bool:
    """Whether the API server would create a Cluster of this name now."""
    try:
        offer(api, {**row, "spec": {"brokers": {}}})
    except Refused:
        return False
    return True


@pytest.mark.parametrize("key", sorted([*PROPERTIES, *KUBERNETES_PROPERTIES]))
def test_a_property_that_broadsheet_sets_is_refused_by_its_name(table: Api, key: str) -> None:
    with pytest.raises(Refused, match=f"config {key} is set by Broadsheet: "):
        offer(table, {"kind": "Cluster", "spec": {"brokers": {}, "config": {key: "mine"}}})


@pytest.mark.parametrize(
    ("kind", "spec", "words"),
    [
        (
            "Cluster",
            {"brokers": {"resources": {"limits": {"memory": "512MB"}}}},
            "write a number with an optional unit",
        ),
        ("Cluster", {"external": {"bootstrapServers": ["kafka"]}}, "write host:port, as in broker.example.org:9092"),
        ("Topic", {"cluster": "News"}, "write the name of a Cluster, or namespace/name"),
        ("Topic", {"cluster": "q", "topicName": "a b"}, "write a topic's name: letters, digits, dots"),
    ],
)
def test_a_mistyped_value_gets_an_example_and_no_regular_expression(
    table: Api, kind: str, spec: dict[str, Any], words: str
) -> None:
    with pytest.raises(Refused) as refused:
        offer(table, {"kind": kind, "spec": spec})
    assert words in refused.value.message and "should match" not in refused.value.message


@pytest.mark.parametrize("port", [9093, 9404])
def test_a_port_that_brokers_use_themselves_on_kubernetes_is_refused(table: Api, port: int) -> None:
    """The API server alone: with `broadsheet up` the port is free."""
    with pytest.raises(Refused, match="choose another port"):
        offer(table, {"kind": "Cluster", "spec": {"brokers": {}, "listeners": [{"name": "plain", "port": port}]}})

"""One table of good and bad manifests: the API server takes and refuses what the models take and refuse."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from e2e.operator.providers import REPOSITORY
from e2e.operator.world import API, World

MANIFESTS = REPOSITORY / "tests/operator/api/manifest-table.yaml"
TABLE: dict[str, list[dict[str, Any]]] = yaml.safe_load(MANIFESTS.read_text())
NAMESPACE = "default"


def manifest(row: dict[str, Any], spec: Any, name: str = "table") -> str:
    metadata = {"name": name, "namespace": NAMESPACE}
    return json.dumps({"apiVersion": API, "kind": row["kind"], "metadata": metadata, "spec": spec})


def test_every_good_manifest_is_taken(world: World) -> None:
    for row in TABLE["good"]:
        options = ["create", "--dry-run=server", "--validate=strict", "-f", "-"]
        done = world.kube.kubectl(*options, stdin=manifest(row, row["spec"]), check=False)
        assert done.returncode == 0, f"{row}: {done.stderr}"


def test_every_bad_manifest_is_refused(world: World) -> None:
    taken = []
    for number, row in enumerate(TABLE["bad"]):
        options = ["--validate=strict", "--dry-run=server", "-f", "-"]
        if "old" in row:
            # A rule about a change needs an object that is there; paused, so that nothing is done about it.
            name = f"table-{number}"
            world.kube.kubectl("create", "-f", "-", stdin=manifest(row, row["old"], name))
            done = world.kube.kubectl("replace", *options, stdin=manifest(row, row["spec"], name), check=False)
            world.kube.kubectl("delete", row["kind"].lower(), name, "-n", NAMESPACE, "--wait=false")
        else:
            done = world.kube.kubectl("create", *options, stdin=manifest(row, row["spec"]), check=False)
        if done.returncode == 0:
            taken.append(row)
        else:
            assert done.stderr.strip(), row
    assert not taken, f"the API server takes what the models refuse: {taken}"


@pytest.mark.parametrize(
    ("kind", "spec", "words"),
    [
        (
            "Topic",
            {"cluster": "news", "retention": {"time": "7 days"}},
            "write a number with a unit: ms, s, m, h, d or w",
        ),
        ("Topic", {"cluster": "news", "retention": {"sizePerPartition": "10GB"}}, "write bytes with an optional unit"),
        ("Cluster", {"brokers": {"storage": {"size": "10 GB"}}}, "write bytes with an optional unit"),
        ("Cluster", {"brokers": {}, "reassignment": {"throttle": "50"}}, "write bytes a second with a unit"),
    ],
)
def test_a_mistyped_quantity_is_refused_in_words(world: World, kind: str, spec: dict[str, Any], words: str) -> None:
    options = ["create", "--dry-run=server", "-f", "-"]
    done = world.kube.kubectl(*options, stdin=manifest({"kind": kind}, spec), check=False)
    assert done.returncode != 0
    assert words in done.stderr
    assert "should match" not in done.stderr


@pytest.mark.parametrize("kind", ["Cluster", "Topic", "ConsumerGroup"])
def test_kubectl_explains_them(world: World, kind: str) -> None:
    text = world.kube.kubectl("explain", f"{kind.lower()}.spec").stdout
    assert "<empty>" not in text
    assert f"KIND:       {kind}" in text

"""What kubectl shows of the definitions: refusals and explanations that can be read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from e2e.operator.world import API, World

NAMESPACE = "default"


def manifest(row: dict[str, Any], spec: Any, name: str = "table") -> str:
    metadata = {"name": name, "namespace": NAMESPACE}
    return json.dumps({"apiVersion": API, "kind": row["kind"], "metadata": metadata, "spec": spec})


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
        ("Cluster", {"brokers": {}, "reassignment": {"throttle": "50"}}, "write bytes per second with a unit"),
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

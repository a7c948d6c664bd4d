"""A Kubernetes that was there before the tests: used only if nothing in it can be hurt."""

from __future__ import annotations

from typing import Any

import pytest

from e2e.operator.existing import DEFAULT_CLASS, ZONE, complaints, require
from e2e.operator.providers import KubernetesError
from e2e.operator.world import World


def node(zone: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"labels": {ZONE: zone}}, "spec": spec}


CLASS = {"metadata": {"annotations": {DEFAULT_CLASS: "true"}}, "allowVolumeExpansion": True}
NODES = [node(zone) for zone in "abc"]
FULL = {"taints": [{"key": "full", "effect": "NoSchedule"}]}


@pytest.mark.parametrize(
    ("nodes", "classes", "definitions", "namespaces", "words"),
    [
        (NODES, [CLASS], ["certificates.cert-manager.io"], ["default"], ""),
        (NODES, [CLASS], ["topics.broadsheet.io"], [], "Broadsheet is installed (topics.broadsheet.io)"),
        (NODES, [CLASS], ["applications.argoproj.io"], [], "Argo CD or Flux is installed (applications.argoproj.io)"),
        (NODES, [CLASS], [], ["default", "paper"], "it has the namespaces paper, which"),
        (
            [*NODES[:2], node("c", **FULL)],
            [CLASS],
            [],
            [],
            "three zones are needed, and its nodes that take pods have 2",
        ),
        ([*NODES[:2], node("c", unschedulable=True)], [CLASS], [], [], "three zones are needed"),
        (NODES, [{**CLASS, "allowVolumeExpansion": False}], [], [], "it has no default StorageClass"),
        (NODES, [{"metadata": {}, "allowVolumeExpansion": True}], [], [], "it has no default StorageClass"),
    ],
)
def test_what_is_in_the_way_is_said(
    nodes: list[dict[str, Any]],
    classes: list[dict[str, Any]],
    definitions: list[str],
    namespaces: list[str],
    words: str,
) -> None:
    said = complaints(nodes, classes, definitions, namespaces)
    assert len(said) == bool(words)
    assert "; ".join(said).startswith(words)


def test_one_that_has_broadsheet_is_refused(world: World) -> None:
    with pytest.raises(KubernetesError, match=r"Broadsheet is installed .* namespaces broadsheet and paper"):
        require(world.kube)

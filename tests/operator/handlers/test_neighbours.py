"""Two releases of the operator: which namespaces both watch, and when one counts as gone. A Kubernetes in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broadsheet_operator.handlers.lease import LABELS, WATCHES
from broadsheet_operator.handlers.neighbours import GONE_AFTER, Neighbours, overlap
from broadsheet_operator.handlers.store import KubernetesStore
from broadsheet_operator.handlers.writing import Writer
from broadsheet_operator.kubernetes import Kind, KubernetesError
from tests.operator.support import FakeKubernetes


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        ([], [], "all namespaces"),
        (["a"], [], "the namespace a"),
        ([], ["a", "b"], "the namespaces a, b"),
        (["a", "b"], ["b", "c"], "the namespace b"),
        (["a"], ["b"], ""),
    ],
)
def test_what_both_watch(ours: list[str], theirs: list[str], words: str) -> None:
    assert overlap(ours, theirs) == words


def lease(name: str, holder: str = "pod-1", watches: str = "*") -> dict[str, Any]:
    metadata = {"name": name, "namespace": "ops", "labels": dict(LABELS), "annotations": {WATCHES: watches}}
    body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}
    return {**body, "spec": {"holderIdentity": holder}}


def test_another_one_is_said_once_and_forgotten_when_it_renews_no_more() -> None:
    async def scene() -> None:
        kubernetes = FakeKubernetes()
        writer = Writer(kubernetes, KubernetesStore())
        neighbours = Neighbours(kubernetes, writer, "ops/mine", (), 1.0)
        kubernetes.put(lease("mine"))
        kubernetes.put(lease("theirs", watches="news"))
        kubernetes.put(lease("left-behind"))
        await neighbours.look()
        assert neighbours.others == {}, "a Lease that only stands there may be left from long ago"
        for _ in range(3):
            kubernetes.put(lease("theirs", watches="news"))
            await neighbours.look()
        assert neighbours.others == {"ops/theirs": "the namespace news"}
        for _ in range(GONE_AFTER):
            await neighbours.look()
        assert neighbours.others == {}
        await writer.close()
        assert [reason for name, reason, _ in kubernetes.events if name == "mine"] == ["AnotherOperator"]

    asyncio.run(scene())


def test_without_the_right_to_list_leases_nothing_else_suffers() -> None:
    async def scene() -> None:
        kubernetes = FakeKubernetes()
        forbidden = KubernetesError(403, "Forbidden", "leases is forbidden")
        kubernetes.refuse = lambda verb, kind, name: forbidden if kind is Kind.LEASE else None
        neighbours = Neighbours(kubernetes, Writer(kubernetes, KubernetesStore()), "ops/mine", (), 1.0)
        await asyncio.wait_for(neighbours.watch(), 5)

    asyncio.run(scene())

"""When a lost volume takes the metadata quorum with it: a table of plain values."""

from __future__ import annotations

from typing import Any

import pytest

from broadsheet_operator.api.cluster import Cluster
from broadsheet_operator.reconcilers.lost_volumes import lost_quorum
from broadsheet_operator.reconcilers.provisioning import FORMED, QUORUM, Existing


def cluster(replicas: int, voters: list[int] | None, **storage: str) -> Cluster:
    brokers = {"replicas": replicas, "storage": storage or {"size": "1Gi"}}
    status = {} if voters is None else {"status": {"voters": voters}}
    return Cluster.model_validate({"metadata": {"name": "news"}, "spec": {"brokers": brokers}, **status})


def claims(*marked: int, blank: tuple[int, ...] = ()) -> Existing:
    def claim(number: int, **annotations: str) -> dict[str, Any]:
        return {"metadata": {"name": f"data-news-brokers-{number}", "annotations": annotations}}

    return Existing(claims=tuple([claim(n, **{QUORUM: FORMED}) for n in marked] + [claim(n) for n in blank]))


@pytest.mark.parametrize(
    ("given", "existing", "words"),
    [
        (cluster(2, [0]), claims(0, 1), ""),
        (cluster(2, [0]), claims(0, blank=(1,)), ""),
        (cluster(2, [0]), claims(1, blank=(0,)), "broker 0 came back with an empty volume, and the only vote"),
        (cluster(2, [0]), claims(1), "broker 0 came back with an empty volume, and the only vote"),
        (cluster(3, [0, 1, 2]), claims(0, 1, blank=(2,)), ""),
        (cluster(3, [0, 1, 2]), claims(0, blank=(1, 2)), "brokers 1, 2 came back with empty volumes, and 2 of 3 votes"),
        (cluster(1, [0]), claims(blank=(0,)), ""),
        (cluster(2, [0], deletionPolicy="Delete"), claims(), ""),
        (cluster(2, None), claims(1, blank=(0,)), ""),
    ],
    ids=["all there", "no voter", "the voter", "no claim yet", "one of three", "two of three", "alone begins again",
         "nothing lasts, so it begins again", "who votes was never seen"],
)  # fmt: skip
def test_a_quorum_is_lost_with_the_majority_of_its_volumes(given: Cluster, existing: Existing, words: str) -> None:
    said = lost_quorum(given, existing)
    assert said.startswith(words)
    assert bool(said) == bool(words)

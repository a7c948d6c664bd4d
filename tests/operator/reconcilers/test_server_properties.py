"""The configuration of brokers, on Kubernetes and on one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadsheet_broker.config import parse_properties
from broadsheet_operator.api.cluster import Brokers, Cluster
from broadsheet_operator.api.owned import KUBERNETES_PROPERTIES, PROPERTIES
from broadsheet_operator.local import broker as local
from broadsheet_operator.reconcilers import provisioning
from broadsheet_operator.reconcilers.engines import engine_of
from broadsheet_operator.reconcilers.place import Place
from broadsheet_operator.reconcilers.provisioning import Existing
from broadsheet_operator.reconcilers.server_properties import rendered, server_properties


def cluster(replicas: int = 3, **spec: Any) -> Cluster:
    return Cluster.model_validate(
        {"metadata": {"name": "c", "namespace": "n"}, "spec": {"brokers": {"replicas": replicas}, **spec}}
    )


def on_kubernetes(declared: Cluster) -> Place:
    assert isinstance(declared.spec.brokers, Brokers)
    return provisioning.place(declared, declared.spec.brokers, "abc", Existing())


def on_this_machine(declared: Cluster, node_id: int = 1) -> Place:
    return local.place(declared, node_id, cluster_id="abc", data=Path("/data"), controller_ports=[1, 2, 3])


LISTENERS = [{"name": "plain", "port": 9092}, {"name": "other", "port": 9192}]


def test_a_broker_of_this_machine_knows_its_place() -> None:
    config = {"num.partitions": 6, "auto.create.topics.enable": "false", "log.retention.ms": None}
    declared = cluster(listeners=LISTENERS, config=config)
    properties = server_properties(declared, on_this_machine(declared), engine_of(declared))
    assert properties["node.id"] == "1"
    assert properties["controller.quorum.voters"] == "0@localhost:1,1@localhost:2,2@localhost:3"
    assert properties["listeners"] == "PLAIN://localhost:9093,OTHER://localhost:9193,CONTROLLER://localhost:2"
    assert properties["advertised.listeners"] == "PLAIN://localhost:9093,OTHER://localhost:9193"
    assert properties["num.partitions"] == "6"
    assert properties["broadsheet.min.insync.replicas.of.cluster"] == "true"
    assert "log.retention.ms" not in properties
    later = server_properties(declared, on_this_machine(declared, 3), engine_of(declared))
    assert (later["process.roles"], "CONTROLLER" in later["listeners"]) == ("broker", False)


@pytest.mark.parametrize(("brokers", "factor", "in_sync"), [(1, "1", "1"), (2, "2", "1"), (3, "3", "2"), (5, "3", "2")])
def test_both_shells_have_the_same_defaults_for_the_size_of_a_cluster(brokers: int, factor: str, in_sync: str) -> None:
    declared = cluster(brokers)
    one = server_properties(declared, on_kubernetes(declared), engine_of(declared))
    where = local.place(declared, 0, cluster_id="abc", data=Path("/data"), controller_ports=[1])
    other = server_properties(declared, where, engine_of(declared))
    keys = {key for key in one if key.endswith((".replication.factor", ".min.isr", "min.insync.replicas"))}
    assert {key: one[key] for key in keys} == {key: other[key] for key in keys}
    assert one["default.replication.factor"] == one["transaction.state.log.replication.factor"] == factor
    assert one["min.insync.replicas"] == one["transaction.state.log.min.isr"] == in_sync


@pytest.mark.parametrize("key", sorted(PROPERTIES))
def test_a_property_that_broadsheet_sets_is_refused_by_its_name(key: str) -> None:
    """`log.dirs` was passed over without a word; `process.roles` won and broke the cluster at its next start."""
    with pytest.raises(ValueError, match=f"config {key} is set by Broadsheet: "):
        cluster(config={key: "mine"})


@pytest.mark.parametrize("where", [on_kubernetes, on_this_machine])
def test_an_owned_property_of_a_stored_cluster_does_not_win(where: Any) -> None:
    declared = cluster()
    place = where(declared)
    wanted = server_properties(declared, place, engine_of(declared))
    mine = dict.fromkeys([*PROPERTIES, *KUBERNETES_PROPERTIES], "mine")
    spec = declared.spec.model_copy(update={"config": mine})
    found = server_properties(declared.model_copy(update={"spec": spec}), place, engine_of(declared))
    free_here = {} if where is on_kubernetes else dict.fromkeys(KUBERNETES_PROPERTIES, "mine")
    assert found == wanted | free_here


@pytest.mark.parametrize("where", [on_kubernetes, on_this_machine])
def test_what_is_set_here_can_be_declared_or_is_refused(where: Any) -> None:
    """Each property that a shell sets either gives way to the Cluster or is in the table of those that do not."""
    declared = cluster()
    place = where(declared)
    for key in server_properties(declared, place, engine_of(declared)):
        if key in PROPERTIES or (key in KUBERNETES_PROPERTIES and where is on_kubernetes):
            continue
        changed = cluster(config={key: "7"})
        assert server_properties(changed, place, engine_of(changed))[key] == "7"


TEXT = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=("Cs",)))


@given(st.dictionaries(TEXT.filter(bool), TEXT))
def test_a_value_cannot_break_out_of_its_line(properties: dict[str, str]) -> None:
    """On Kubernetes a line break in a value was one in server.properties, and began a property of its own."""
    assert parse_properties(rendered(properties)) == properties

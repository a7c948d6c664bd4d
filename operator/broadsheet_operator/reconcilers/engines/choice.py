"""Which engine a Cluster has."""

from __future__ import annotations

from broadsheet_operator.api import Cluster
from broadsheet_operator.api.engine import EngineType
from broadsheet_operator.reconcilers.engines.apache_kafka import ApacheKafka
from broadsheet_operator.reconcilers.engines.broadsheet import Broadsheet
from broadsheet_operator.reconcilers.engines.engine import Engine


def engine_of(cluster: Cluster) -> Engine:
    """The engine that the Cluster declares; Broadsheet where it declares none."""
    declared = cluster.engine()
    if declared.type is EngineType.APACHE_KAFKA:
        assert declared.version is not None  # the model has checked it
        return ApacheKafka(declared.version)
    return Broadsheet()

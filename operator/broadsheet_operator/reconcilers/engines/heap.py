"""The heap of Apache Kafka's JVM, from what a Cluster declares. Pure."""

from __future__ import annotations

from typing import Final

from broadsheet_operator.api.cluster import Cluster
from broadsheet_operator.api.quantities import parse_quantity, parse_size

DEFAULT_HEAP: Final = 1024**3
"""Bytes where there is no memory limit: what kafka-server-start.sh takes."""
MOST: Final = 5 * 1024**3
"""Bytes; beyond them the page cache serves Kafka better than the heap."""


def heap_bytes(cluster: Cluster) -> int:
    """engine.jvm.heap, or half of the memory limit up to 5 GiB, or 1 GiB."""
    jvm = cluster.engine().jvm
    if jvm is not None and jvm.heap is not None:
        return parse_size(jvm.heap)
    resources = cluster.spec.brokers.resources if cluster.spec.brokers else None
    limit = (resources.limits or {}).get("memory") if resources else None
    return DEFAULT_HEAP if limit is None else min(MOST, int(parse_quantity(str(limit))) // 2)

"""Metrics of a coordinator's partitions, under the names of Kafka's CoordinatorRuntimeMetrics where it has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from broadsheet_broker.coordinators.runtime.partition import CoordinatedPartition, PartitionState
from broadsheet_broker.seams.metrics import Family

_SHOWN = (PartitionState.LOADING, PartitionState.ACTIVE, PartitionState.FAILED)


def collector(kind: str, partitions: Iterable[CoordinatedPartition[Any]]) -> Callable[[], Iterator[Family]]:
    """A collector for one coordinator; `kind` is `group` in `group-coordinator-metrics`."""

    def collect() -> Iterator[Family]:
        states = Counter(partition.state for partition in partitions)
        samples = [((("state", state.value),), float(states[state])) for state in _SHOWN]
        name = f"kafka_server_{kind}_coordinator_metrics_num_partitions"
        yield Family(name, "gauge", f"Partitions of the {kind} coordinator's topic led here, by state.", samples)
        waiting = float(sum(partition.waiting_writes for partition in partitions))
        help = f"Writes of the {kind} coordinator that are not committed yet."
        yield Family(f"broadsheet_{kind}_coordinator_waiting_writes", "gauge", help, [((), waiting)])

    return collect

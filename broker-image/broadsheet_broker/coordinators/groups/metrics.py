"""Metrics of groups, under the names of Kafka's GroupMetadataManager."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from broadsheet_broker.coordinators.groups.classic import GroupState
from broadsheet_broker.seams.metrics import Family

_PREFIX = "kafka_coordinator_group_groupmetadatamanager"
_STATES = {
    GroupState.PREPARING_REBALANCE: "numgroupspreparingrebalance",
    GroupState.COMPLETING_REBALANCE: "numgroupscompletingrebalance",
    GroupState.STABLE: "numgroupsstable",
    GroupState.EMPTY: "numgroupsempty",
}


def collector(snapshot: Callable[[], Iterable[Mapping[str, Any]]]) -> Callable[[], Iterator[Family]]:
    """A collector over the groups that this broker coordinates (see `GroupCoordinator.snapshot`)."""

    def collect() -> Iterator[Family]:
        states: dict[str, int] = dict.fromkeys(_STATES, 0)
        groups = 0
        members = 0
        offsets = 0
        for row in snapshot():
            groups += 1
            members += row["members"]
            offsets += row["offsets"]
            if row["state"] in states:
                states[row["state"]] += 1
        yield _gauge(f"{_PREFIX}_numgroups", "Groups coordinated here.", groups)
        yield _gauge(f"{_PREFIX}_numoffsets", "Committed offsets of groups coordinated here.", offsets)
        for state, name in _STATES.items():
            yield _gauge(f"{_PREFIX}_{name}", f"Groups in the state {state}.", states[state])
        yield _gauge("broadsheet_group_members", "Members of all groups coordinated here.", members)

    return collect


def _gauge(name: str, help: str, value: int) -> Family:
    return Family(name, "gauge", help, [((), value)])

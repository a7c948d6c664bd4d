"""What a replica of the metadata log exports, by the names that Kafka's raft-metrics have behind JMX exporter rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from broadsheet_broker.raft.roles import Role
from broadsheet_broker.seams.metrics import Family
from broadsheet_broker.seams.rates import Window

if TYPE_CHECKING:
    from broadsheet_broker.raft.node import RaftNode
    from broadsheet_broker.seams import Environment

_PREFIX: Final = "kafka_server_raftmetrics"

GAUGES: Final[tuple[tuple[str, str, Callable[[RaftNode], float]], ...]] = (
    (
        f"{_PREFIX}_current_leader",
        "Node id of the leader of the metadata quorum; -1 while none is known.",
        lambda node: -1 if node.leader_id is None else node.leader_id,
    ),
    (
        f"{_PREFIX}_current_vote",
        "Node id that this replica has voted for in the present epoch; -1 for none.",
        lambda node: -1 if node.voted_id is None else node.voted_id,
    ),
    (f"{_PREFIX}_current_epoch", "Epoch of the metadata quorum.", lambda node: node.epoch),
    (
        f"{_PREFIX}_high_watermark",
        "Offset below which the metadata log is committed; -1 while unknown.",
        lambda node: node.high_watermark,
    ),
    (
        f"{_PREFIX}_log_end_offset",
        "Offset that the next record of the metadata log gets.",
        lambda node: node.storage.end_offset,
    ),
    (f"{_PREFIX}_log_end_epoch", "Epoch of the last metadata record.", lambda node: node.storage.last_epoch),
    (f"{_PREFIX}_number_of_voters", "Voters of the metadata quorum.", lambda node: len(node.voters)),
    (
        "broadsheet_metadata_last_fsync_seconds",
        "How long the last fsync of the metadata log took.",
        lambda node: node.flushing.last_fsync_ms / 1000,
    ),
    (
        "broadsheet_metadata_is_behind",
        "1 while this node cannot write down what the metadata quorum decides.",
        lambda node: int(node.is_behind),
    ),
)
"""Name, help, value."""

RATES: Final = (
    (f"{_PREFIX}_append_records_rate", "Metadata records that this leader appended, per second."),
    (f"{_PREFIX}_fetch_records_rate", "Metadata records fetched from the leader, per second."),
    (f"{_PREFIX}_commit_latency_avg", "Milliseconds from append to commit, on this leader; 0 when none was committed."),
)
"""Name, help: over the last minute."""

STATE: Final = (f"{_PREFIX}_current_state", "1 for the state that this replica of the metadata log is in.")


def register(environment: Environment, node: RaftNode) -> None:
    """Add the metrics of a replica to the registry of its process."""
    metrics = environment.metrics
    for name, help, measure in GAUGES:
        metrics.gauge(name, help, _value(node, measure))
    latency = node.delivery.commit_latency_ms
    window = Window(
        environment.monotonic,
        lambda: (node.appended_records, node.fetched_records, latency.sum, latency.count),
    )

    def families() -> Iterator[Family]:
        seconds, (appended, fetched, milliseconds, commits) = window.growth()
        values = (
            appended / seconds if seconds else 0.0,
            fetched / seconds if seconds else 0.0,
            milliseconds / commits if commits else 0.0,
        )
        for (name, help), value in zip(RATES, values, strict=True):
            yield Family(name, "gauge", help, [((), value)])
        name, help = STATE
        yield Family(name, "gauge", help, [((("current_state", state_of(node)),), 1)])

    metrics.collector(families)


def _value(node: RaftNode, measure: Callable[[RaftNode], float]) -> Callable[[], float]:
    return lambda: measure(node)


def state_of(node: RaftNode) -> str:
    """Kafka's name for what this replica is: one without a vote observes."""
    if node.role in (Role.FOLLOWER, Role.UNATTACHED) and not node.voters.is_voter(node.local_key):
        return "observer"
    return node.role.name.lower()

"""What the configuration says of the metadata quorum, and the first records of a new cluster."""

from __future__ import annotations

from typing import Any, Final

from broadsheet_broker.config import BrokerConfig
from broadsheet_broker.controller import eligible_replicas
from broadsheet_broker.controller.features import DEFAULT_FEATURES
from broadsheet_broker.metadata.records import decode_record
from broadsheet_broker.raft.machine import QuorumSettings
from broadsheet_broker.raft.node import RaftSettings
from broadsheet_broker.raft.snapshot import read_snapshot
from broadsheet_broker.raft.voters import ReplicaKey, Voter, VoterSet
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.messages.begin_transaction_record import BeginTransactionRecord
from broadsheet_broker.wire.messages.end_transaction_record import EndTransactionRecord
from broadsheet_broker.wire.messages.feature_level_record import FeatureLevelRecord

BOOTSTRAP_CHECKPOINT: Final = "bootstrap.checkpoint"
"""The file of the features that a new cluster starts with; written by formatting."""


def voter_set(config: BrokerConfig) -> VoterSet:
    """The voters of controller.quorum.voters. Without it the log names them; of a quorum that is not found by bootstrap
    servers either, this node is the only one."""
    name = next(iter(config.controller_listener_names), "CONTROLLER")
    configured = {
        voter.id: Voter(ReplicaKey(voter.id), {name: (voter.host, voter.port)}) for voter in config.quorum_voters
    }
    if not configured and config.bootstrap_servers:
        return VoterSet({}, dynamic=True)
    if not configured and config.is_controller:
        endpoints = {item.name: (item.host or "localhost", item.port) for item in config.controller_listeners}
        configured = {config.node_id: Voter(ReplicaKey(config.node_id), endpoints)}
    return VoterSet(configured)


def raft_settings(config: BrokerConfig) -> RaftSettings:
    return RaftSettings(
        segment_bytes=config.get_int("metadata.log.segment.bytes"),
        segment_ms=config.get_int("metadata.log.segment.ms"),
        snapshot_bytes=config.get_int("metadata.log.max.record.bytes.between.snapshots"),
        snapshot_interval_ms=config.get_int("metadata.log.max.snapshot.interval.ms"),
        retention_bytes=config.get_int("metadata.max.retention.bytes"),
        retention_ms=config.get_int("metadata.max.retention.ms"),
        quorum=QuorumSettings(
            election_timeout_ms=config.get_int("controller.quorum.election.timeout.ms"),
            fetch_timeout_ms=config.get_int("controller.quorum.fetch.timeout.ms"),
            backoff_max_ms=config.get_int("controller.quorum.election.backoff.max.ms"),
            retry_backoff_ms=config.get_int("controller.quorum.retry.backoff.ms"),
            request_timeout_ms=config.get_int("controller.quorum.request.timeout.ms"),
            fetch_max_bytes=config.get_int("controller.quorum.fetch.max.bytes"),
            snapshot_max_bytes=config.get_int("controller.quorum.fetch.snapshot.max.bytes"),
        ),
    )


def first_records(environment: Environment, directory: str, min_insync_replicas: int) -> list[Any]:
    """What the first leader appends to an empty metadata log: the features that formatting chose, in one metadata
    transaction, as Kafka does."""
    path = f"{directory}/{BOOTSTRAP_CHECKPOINT}"
    if environment.files.exists(path):
        chosen = [decode_record(value) for value in read_snapshot(environment.files, path).values]
    else:
        chosen = [FeatureLevelRecord(name=name, feature_level=level) for name, level in DEFAULT_FEATURES.items()]
    if any(r.name == eligible_replicas.FEATURE and r.feature_level for r in chosen if type(r) is FeatureLevelRecord):
        chosen.append(eligible_replicas.min_isr_of_cluster(min_insync_replicas))
    return [BeginTransactionRecord(name="Bootstrap records"), *chosen, EndTransactionRecord()]

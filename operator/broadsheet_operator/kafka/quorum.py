"""The metadata quorum: who votes, how far everybody is; voters added, voters removed (KIP-595, KIP-853)."""

from __future__ import annotations

from typing import Any

from kafka.protocol.admin import DescribeQuorumRequest

from broadsheet_operator.kafka.failures import failure_of_code
from broadsheet_operator.kafka.quorum_messages import (
    AddRaftVoterRequest,
    RemoveRaftVoterRequest,
    UnregisterBrokerRequest,
)
from broadsheet_operator.kafka.wire import Call, Wire
from broadsheet_operator.reconcilers.observed import Failure, QuorumView, ReplicaView
from broadsheet_operator.reconcilers.quorum import AddVoter, RemoveVoter, VoterChange
from broadsheet_operator.reconcilers.reasons import Reason

METADATA_TOPIC = "__cluster_metadata"
ADD_TIMEOUT_MS = 5000
"""A new voter has to catch up within this time, or the leader refuses it."""
BROKER_ID_NOT_REGISTERED = 102


def observe_quorum(wire: Wire) -> QuorumView | Failure:
    """The quorum as its leader has it."""
    topic = DescribeQuorumRequest.TopicData
    partitions = [topic.PartitionData(partition_index=0)]
    request = DescribeQuorumRequest(topics=[topic(topic_name=METADATA_TOPIC, partitions=partitions)])
    answer = wire.ask_one(Call(request, "look at the metadata quorum"))
    if isinstance(answer, Failure):
        return answer
    rows = [row for found in answer.topics for row in found.partitions]
    failure = failure_of_code(answer.error_code, None, "look at the metadata quorum")
    if failure is None and rows:
        failure = failure_of_code(rows[0].error_code, None, "look at the metadata quorum")
    if failure is not None or not rows:
        return failure or Failure(Reason.KAFKA_ERROR, "the cluster says nothing of its metadata quorum")
    row = rows[0]
    now = max((v.last_fetch_timestamp for v in row.current_voters), default=0)
    return QuorumView(
        leader=row.leader_id,
        high_watermark=row.high_watermark,
        voters=tuple(_replica(voter, now) for voter in row.current_voters),
        observers=tuple(_replica(observer, now) for observer in row.observers),
    )


def _replica(state: Any, now_ms: int) -> ReplicaView:
    fetched = state.last_fetch_timestamp
    return ReplicaView(
        id=state.replica_id,
        directory=str(state.replica_directory_id),
        end_offset=state.log_end_offset,
        silent_seconds=None if fetched < 0 else max(0.0, (now_ms - fetched) / 1000),
    )


def change_voters(wire: Wire, change: VoterChange) -> Failure | None:
    """Add or remove one voter; None when the change is committed."""
    answer = wire.ask_one(Call(_request(change), change.words()))
    if isinstance(answer, Failure):
        return answer
    return failure_of_code(answer.error_code, answer.error_message, change.words())


def _request(change: VoterChange) -> Any:
    if isinstance(change, RemoveVoter):
        return RemoveRaftVoterRequest(cluster_id=None, voter_id=change.id, voter_directory_id=change.directory)
    assert isinstance(change, AddVoter)
    listener = AddRaftVoterRequest.Listener(name=change.listener, host=change.host, port=change.port)
    return AddRaftVoterRequest(
        cluster_id=None,
        timeout_ms=ADD_TIMEOUT_MS,
        voter_id=change.id,
        voter_directory_id=change.directory,
        listeners=[listener],
        ack_when_committed=True,
    )


def unregister_broker(wire: Wire, broker_id: int) -> Failure | None:
    """Have the cluster forget a broker that is gone for good; None also where it knew none of that id."""
    what = f"unregister broker {broker_id}"
    answer = wire.ask_one(Call(UnregisterBrokerRequest(broker_id=broker_id), what))
    if isinstance(answer, Failure):
        return answer
    if answer.error_code == BROKER_ID_NOT_REGISTERED:
        return None
    return failure_of_code(answer.error_code, answer.error_message, what)

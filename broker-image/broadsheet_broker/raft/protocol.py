"""What replicas ask and answer, as Kafka's messages: Vote, BeginQuorumEpoch, EndQuorumEpoch, Fetch, FetchSnapshot.

All but UpdateRaftVoter are made for several topics and partitions; Raft has one. An answer that speaks of another
partition, or of none, counts as a refusal by a node that knows nothing (`epoch` -1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from broadsheet_broker.config.internal_topics import CLUSTER_METADATA_TOPIC
from broadsheet_broker.raft.messages import (
    HIGHEST_OFFSET,
    UNKNOWN_KEY,
    Address,
    Answer,
    BeginEpoch,
    EndEpoch,
    EpochAnswer,
    Fetch,
    FetchAnswer,
    FetchSnapshot,
    Question,
    SnapshotAnswer,
    SnapshotId,
    UpdateVoter,
    Vote,
    VoteAnswer,
)
from broadsheet_broker.raft.storage import TOPIC_ID
from broadsheet_broker.raft.voters import ReplicaKey, Voter
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages import begin_quorum_epoch_request as begin_request
from broadsheet_broker.wire.messages import begin_quorum_epoch_response as begin_response
from broadsheet_broker.wire.messages import end_quorum_epoch_request as end_request
from broadsheet_broker.wire.messages import end_quorum_epoch_response as end_response
from broadsheet_broker.wire.messages import fetch_request, fetch_response, vote_request, vote_response
from broadsheet_broker.wire.messages import fetch_snapshot_request as snapshot_request
from broadsheet_broker.wire.messages import fetch_snapshot_response as snapshot_response
from broadsheet_broker.wire.messages import update_raft_voter_request as update_request
from broadsheet_broker.wire.messages import update_raft_voter_response as update_response
from broadsheet_broker.wire.schema import Message

TOPIC: Final = CLUSTER_METADATA_TOPIC
_PARTITION: Final = 0
_NOBODY: Final = -1
_CODES: Final = {int(code): code for code in ErrorCode}

VERSIONS: Final[Mapping[type[Question], int]] = {
    Vote: 2,
    BeginEpoch: 1,
    EndEpoch: 1,
    Fetch: 18,
    FetchSnapshot: 1,
    UpdateVoter: 0,
}
"""In which version a question is asked: what Apache Kafka 4.1 and later serve."""


def error_of(code: int) -> ErrorCode:
    return _CODES.get(code, ErrorCode.UNKNOWN_SERVER_ERROR)


# Questions.


def request_of(question: Question, cluster_id: str) -> tuple[Message, int]:
    """The request that asks this, and its version."""
    version = VERSIONS[type(question)]
    if isinstance(question, Vote):
        return _vote_request(question, cluster_id), version
    if isinstance(question, BeginEpoch):
        begin = begin_request.PartitionData(
            voter_directory_id=question.voter.directory_id, leader_id=question.leader_id, leader_epoch=question.epoch
        )
        return begin_request.BeginQuorumEpochRequest(
            cluster_id=cluster_id,
            voter_id=question.voter.id,
            topics=[begin_request.TopicData(topic_name=TOPIC, partitions=[begin])],
            leader_endpoints=[
                begin_request.LeaderEndpoint(name=name, host=host, port=port)
                for name, (host, port) in question.endpoints.items()
            ],
        ), version
    if isinstance(question, EndEpoch):
        end = end_request.PartitionData(
            leader_id=question.leader_id,
            leader_epoch=question.epoch,
            preferred_successors=[key.id for key in question.successors],
            preferred_candidates=[
                end_request.ReplicaInfo(candidate_id=key.id, candidate_directory_id=key.directory_id)
                for key in question.successors
            ],
        )
        return end_request.EndQuorumEpochRequest(
            cluster_id=cluster_id,
            topics=[end_request.TopicData(topic_name=TOPIC, partitions=[end])],
            leader_endpoints=[
                end_request.LeaderEndpoint(name=name, host=host, port=port)
                for name, (host, port) in question.endpoints.items()
            ],
        ), version
    if isinstance(question, Fetch):
        return _fetch_request(question, cluster_id), version
    if isinstance(question, FetchSnapshot):
        return _snapshot_request(question, cluster_id), version
    voter = question.voter
    return update_request.UpdateRaftVoterRequest(
        cluster_id=cluster_id,
        current_leader_epoch=question.epoch,
        voter_id=voter.key.id,
        voter_directory_id=voter.key.directory_id,
        listeners=[
            update_request.Listener(name=name, host=host, port=port) for name, (host, port) in voter.endpoints.items()
        ],
        k_raft_version_feature=update_request.KRaftVersionFeature(min_supported_version=0, max_supported_version=1),
    ), version


def _vote_request(vote: Vote, cluster_id: str) -> Message:
    row = vote_request.PartitionData(
        replica_epoch=vote.epoch,
        replica_id=vote.candidate.id,
        replica_directory_id=vote.candidate.directory_id,
        voter_directory_id=vote.voter.directory_id,
        last_offset_epoch=vote.last_epoch,
        last_offset=vote.end_offset,
        pre_vote=vote.pre_vote,
    )
    topics = [vote_request.TopicData(topic_name=TOPIC, partitions=[row])]
    return vote_request.VoteRequest(cluster_id=cluster_id, voter_id=vote.voter.id, topics=topics)


def _fetch_request(fetch: Fetch, cluster_id: str) -> Message:
    row = fetch_request.FetchPartition(
        current_leader_epoch=fetch.epoch,
        fetch_offset=fetch.offset,
        last_fetched_epoch=fetch.last_epoch,
        partition_max_bytes=fetch.max_bytes,
        replica_directory_id=fetch.replica.directory_id,
        high_watermark=fetch.high_watermark,
    )
    return fetch_request.FetchRequest(
        cluster_id=cluster_id,
        replica_state=fetch_request.ReplicaState(replica_id=fetch.replica.id),
        max_wait_ms=fetch.max_wait_ms,
        max_bytes=fetch.max_bytes,
        topics=[fetch_request.FetchTopic(topic=TOPIC, topic_id=TOPIC_ID, partitions=[row])],
    )


def _snapshot_request(fetch: FetchSnapshot, cluster_id: str) -> Message:
    row = snapshot_request.PartitionSnapshot(
        current_leader_epoch=fetch.epoch,
        snapshot_id=snapshot_request.SnapshotId(end_offset=fetch.snapshot.offset, epoch=fetch.snapshot.epoch),
        position=fetch.position,
        replica_directory_id=fetch.replica.directory_id,
    )
    return snapshot_request.FetchSnapshotRequest(
        cluster_id=cluster_id,
        replica_id=fetch.replica.id,
        max_bytes=fetch.max_bytes,
        topics=[snapshot_request.TopicSnapshot(name=TOPIC, partitions=[row])],
    )


def only_partition(topics: Any) -> Any | None:
    """The row of the metadata log in a request or an answer that speaks of it and of nothing else."""
    if len(topics) != 1 or len(topics[0].partitions) != 1:
        return None
    topic, row = topics[0], topics[0].partitions[0]
    name = getattr(topic, "topic_name", None) or getattr(topic, "name", None) or getattr(topic, "topic", "")
    index = row.partition_index if hasattr(row, "partition_index") else getattr(row, "partition", _PARTITION)
    if not hasattr(row, "partition_index") and hasattr(row, "index"):
        index = row.index
    if index != _PARTITION or (name != TOPIC and getattr(topic, "topic_id", None) != TOPIC_ID):
        return None
    return row


def question_of(request: Any) -> Question | None:
    """What a request asks; None when it speaks of something else than the metadata log."""
    if isinstance(request, update_request.UpdateRaftVoterRequest):
        endpoints = {item.name: (item.host, item.port) for item in request.listeners}
        voter = Voter(ReplicaKey(request.voter_id, request.voter_directory_id), endpoints)
        return UpdateVoter(request.current_leader_epoch, voter)
    row = only_partition(request.topics)
    if row is None:
        return None
    if isinstance(request, vote_request.VoteRequest):
        return Vote(
            row.replica_epoch,
            ReplicaKey(row.replica_id, row.replica_directory_id),
            UNKNOWN_KEY if request.voter_id < 0 else ReplicaKey(request.voter_id, row.voter_directory_id),
            row.last_offset_epoch,
            row.last_offset,
            row.pre_vote,
        )
    if isinstance(request, begin_request.BeginQuorumEpochRequest):
        voter_key = UNKNOWN_KEY if request.voter_id < 0 else ReplicaKey(request.voter_id, row.voter_directory_id)
        return BeginEpoch(row.leader_epoch, row.leader_id, voter_key, _endpoints(request))
    if isinstance(request, end_request.EndQuorumEpochRequest):
        successors = [ReplicaKey(item.candidate_id, item.candidate_directory_id) for item in row.preferred_candidates]
        successors = successors or [ReplicaKey(id) for id in row.preferred_successors]
        return EndEpoch(row.leader_epoch, row.leader_id, tuple(successors), _endpoints(request))
    if isinstance(request, snapshot_request.FetchSnapshotRequest):
        return FetchSnapshot(
            row.current_leader_epoch,
            ReplicaKey(request.replica_id, row.replica_directory_id),
            SnapshotId(row.snapshot_id.end_offset, row.snapshot_id.epoch),
            row.position,
            request.max_bytes,
        )
    assert isinstance(request, fetch_request.FetchRequest)
    id = request.replica_state.replica_id if request.replica_state.replica_id >= 0 else request.replica_id
    return Fetch(
        row.current_leader_epoch,
        ReplicaKey(id, row.replica_directory_id),
        row.fetch_offset,
        row.last_fetched_epoch,
        row.high_watermark if row.high_watermark >= -1 else HIGHEST_OFFSET,
        request.max_wait_ms,
        max(request.max_bytes, 1),
    )


def _endpoints(request: Any) -> dict[str, Address]:
    return {item.name: (item.host, item.port) for item in request.leader_endpoints}


# Answers.


def response_of(answer: Answer, request: Any) -> Message:
    """The response that says this to that request."""
    leader = _NOBODY if answer.leader_id is None else answer.leader_id
    if isinstance(answer, VoteAnswer):
        vote = vote_response.PartitionData(
            error_code=answer.error, leader_id=leader, leader_epoch=answer.epoch, vote_granted=answer.granted
        )
        return vote_response.VoteResponse(
            topics=[vote_response.TopicData(topic_name=TOPIC, partitions=[vote])],
            node_endpoints=_node_endpoints(vote_response.NodeEndpoint, answer),
        )
    if isinstance(answer, FetchAnswer):
        return _fetch_response(answer, leader)
    if isinstance(answer, SnapshotAnswer):
        row = snapshot_response.PartitionSnapshot(
            error_code=answer.error,
            snapshot_id=snapshot_response.SnapshotId(end_offset=answer.snapshot.offset, epoch=answer.snapshot.epoch),
            current_leader=snapshot_response.LeaderIdAndEpoch(leader_id=leader, leader_epoch=answer.epoch),
            size=answer.size,
            position=answer.position,
            unaligned_records=answer.data,
        )
        return snapshot_response.FetchSnapshotResponse(
            topics=[snapshot_response.TopicSnapshot(name=TOPIC, partitions=[row])],
            node_endpoints=_node_endpoints(snapshot_response.NodeEndpoint, answer),
        )
    if isinstance(request, update_request.UpdateRaftVoterRequest):
        host, port = answer.address or ("", 0)
        current = update_response.CurrentLeader(leader_id=leader, leader_epoch=answer.epoch, host=host, port=port)
        return update_response.UpdateRaftVoterResponse(error_code=answer.error, current_leader=current)
    module: Any = begin_response if isinstance(request, begin_request.BeginQuorumEpochRequest) else end_response
    name = "BeginQuorumEpochResponse" if module is begin_response else "EndQuorumEpochResponse"
    row = module.PartitionData(error_code=answer.error, leader_id=leader, leader_epoch=answer.epoch)
    response: Message = getattr(module, name)(
        topics=[module.TopicData(topic_name=TOPIC, partitions=[row])],
        node_endpoints=_node_endpoints(module.NodeEndpoint, answer),
    )
    return response


def _node_endpoints(made_of: Any, answer: Answer) -> list[Any]:
    if answer.leader_id is None or answer.address is None:
        return []
    return [made_of(node_id=answer.leader_id, host=answer.address[0], port=answer.address[1])]


def _fetch_response(answer: FetchAnswer, leader: int) -> Message:
    row = fetch_response.PartitionData(
        error_code=answer.error,
        high_watermark=answer.high_watermark,
        log_start_offset=answer.log_start_offset,
        current_leader=fetch_response.LeaderIdAndEpoch(leader_id=leader, leader_epoch=answer.epoch),
        records=answer.records,
    )
    if answer.diverging is not None:
        epoch, end = answer.diverging
        row.diverging_epoch = fetch_response.EpochEndOffset(epoch=epoch, end_offset=end)
    if answer.snapshot is not None:
        row.snapshot_id = fetch_response.SnapshotId(end_offset=answer.snapshot.offset, epoch=answer.snapshot.epoch)
    return fetch_response.FetchResponse(
        responses=[fetch_response.FetchableTopicResponse(topic=TOPIC, topic_id=TOPIC_ID, partitions=[row])],
        node_endpoints=_node_endpoints(fetch_response.NodeEndpoint, answer),
    )


def answer_of(response: Any) -> Answer:
    """What a response says."""
    if isinstance(response, update_response.UpdateRaftVoterResponse):
        current = response.current_leader
        address = (current.host, current.port) if current.host else None
        error = error_of(response.error_code)
        return EpochAnswer(error, current.leader_epoch, _leader(current.leader_id), address)
    topics = response.responses if isinstance(response, fetch_response.FetchResponse) else response.topics
    row = None if response.error_code else only_partition(topics)
    if row is None:
        return _no_answer(response, error_of(response.error_code) or ErrorCode.UNKNOWN_SERVER_ERROR)
    error = error_of(row.error_code)
    if isinstance(response, vote_response.VoteResponse):
        leader = _leader(row.leader_id)
        return VoteAnswer(error, row.leader_epoch, leader, _address(response, leader), row.vote_granted)
    if isinstance(response, begin_response.BeginQuorumEpochResponse | end_response.EndQuorumEpochResponse):
        leader = _leader(row.leader_id)
        return EpochAnswer(error, row.leader_epoch, leader, _address(response, leader))
    leader = _leader(row.current_leader.leader_id)
    epoch, address = row.current_leader.leader_epoch, _address(response, leader)
    if isinstance(response, snapshot_response.FetchSnapshotResponse):
        id = SnapshotId(row.snapshot_id.end_offset, row.snapshot_id.epoch)
        data = row.unaligned_records or b""
        return SnapshotAnswer(error, epoch, leader, address, id, row.size, row.position, data)
    diverging, snapshot = row.diverging_epoch, row.snapshot_id
    return FetchAnswer(
        error,
        epoch,
        leader,
        address,
        row.high_watermark,
        row.log_start_offset,
        (diverging.epoch, diverging.end_offset) if diverging.epoch >= 0 else None,
        SnapshotId(snapshot.end_offset, snapshot.epoch) if snapshot.epoch >= 0 else None,
        row.records or b"",
    )


def _no_answer(response: Any, error: ErrorCode) -> Answer:
    if isinstance(response, vote_response.VoteResponse):
        return VoteAnswer(error, -1, None)
    if isinstance(response, fetch_response.FetchResponse):
        return FetchAnswer(error, -1, None)
    if isinstance(response, snapshot_response.FetchSnapshotResponse):
        return SnapshotAnswer(error, -1, None)
    return EpochAnswer(error, -1, None)


def _leader(id: int) -> int | None:
    return None if id < 0 else id


def _address(response: Any, leader: int | None) -> Address | None:
    return next((((item.host, item.port)) for item in response.node_endpoints if item.node_id == leader), None)

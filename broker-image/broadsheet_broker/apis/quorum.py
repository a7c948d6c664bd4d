"""The metadata quorum: what its replicas ask each other (Vote 52, BeginQuorumEpoch 53, EndQuorumEpoch 54,
FetchSnapshot 59, UpdateRaftVoter 82, and the Fetch of the metadata log), and what operators ask its leader
(DescribeQuorum 55, AddRaftVoter 80, RemoveRaftVoter 81).

Modules of messages are imported when they are needed: a quorum of one starts without them.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from broadsheet_broker.apis.registry import serves
from broadsheet_broker.config.internal_topics import CLUSTER_METADATA_TOPIC
from broadsheet_broker.raft.voters import NO_DIRECTORY, ReplicaKey, Voter
from broadsheet_broker.wire.api_messages import response_class
from broadsheet_broker.wire.errors import ErrorCode

if TYPE_CHECKING:
    from broadsheet_broker.apis.request import Request, Services
    from broadsheet_broker.raft.messages import Answer, ChangeAnswer
    from broadsheet_broker.raft.node import RaftNode
    from broadsheet_broker.raft.progress import Progress
    from broadsheet_broker.wire.messages import describe_quorum_response as quorum_response
    from broadsheet_broker.wire.messages.add_raft_voter_request import AddRaftVoterRequest
    from broadsheet_broker.wire.messages.begin_quorum_epoch_request import BeginQuorumEpochRequest
    from broadsheet_broker.wire.messages.describe_quorum_request import DescribeQuorumRequest
    from broadsheet_broker.wire.messages.end_quorum_epoch_request import EndQuorumEpochRequest
    from broadsheet_broker.wire.messages.fetch_request import FetchRequest
    from broadsheet_broker.wire.messages.fetch_snapshot_request import FetchSnapshotRequest
    from broadsheet_broker.wire.messages.remove_raft_voter_request import RemoveRaftVoterRequest
    from broadsheet_broker.wire.messages.update_raft_voter_request import UpdateRaftVoterRequest
    from broadsheet_broker.wire.messages.vote_request import VoteRequest

# Between replicas.


@serves(52, "Vote", (0, 2))
def vote(services: Services, request: Request[VoteRequest]) -> None:
    _ask(services, request)


@serves(53, "BeginQuorumEpoch", (0, 1))
def begin_quorum_epoch(services: Services, request: Request[BeginQuorumEpochRequest]) -> None:
    _ask(services, request)


@serves(54, "EndQuorumEpoch", (0, 1))
def end_quorum_epoch(services: Services, request: Request[EndQuorumEpochRequest]) -> None:
    _ask(services, request)


@serves(59, "FetchSnapshot", (0, 1))
def fetch_snapshot(services: Services, request: Request[FetchSnapshotRequest]) -> None:
    _ask(services, request)


@serves(82, "UpdateRaftVoter", (0, 0))
def update_raft_voter(services: Services, request: Request[UpdateRaftVoterRequest]) -> None:
    _ask(services, request)


def fetch_metadata(services: Services, request: Request[FetchRequest]) -> bool:
    """Answer a Fetch of the metadata log on a controller's listener; False on any other listener."""
    if request.connection.listener not in services.config.controller_listener_names:
        return False
    _ask(services, request)
    return True


def _ask(services: Services, request: Request[Any]) -> None:
    """Pass a request to this node's replica, which answers now or later."""
    from broadsheet_broker.raft import protocol  # many messages, which a quorum of one never needs

    raft = services.node.raft
    error = _wrong_cluster(raft, request)
    question = None if error else protocol.question_of(request.body)
    if question is None:
        request.answer(response_class(request.api_key)(error_code=error or ErrorCode.INVALID_REQUEST))
        return

    def reply(answer: Answer) -> None:
        if not request.connection.closed:
            request.answer(protocol.response_of(answer, request.body))

    raft.ask(question, reply)


def _wrong_cluster(raft: RaftNode, request: Request[Any]) -> ErrorCode:
    asked = request.body.cluster_id
    return ErrorCode.NONE if asked is None or asked == raft.cluster_id else ErrorCode.INCONSISTENT_CLUSTER_ID


# For operators.


async def _by_leader(services: Services, request: Request[Any], answer: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """Answer here if this node leads, or if it was asked as a controller; else have the leader answer."""
    raft = services.node.raft
    if raft.is_leader or request.connection.listener in services.config.controller_listener_names:
        request.answer(await answer())
        return

    def here() -> Coroutine[Any, Any, Any] | None:
        return answer() if raft.is_leader else None

    request.answer(await services.node.ask_leader(request.body, request.version, here))


@serves(80, "AddRaftVoter", (0, 1))
async def add_raft_voter(services: Services, request: Request[AddRaftVoterRequest]) -> None:
    raft, body = services.node.raft, request.body

    async def answer() -> Any:
        error = _wrong_cluster(raft, request)
        if error:
            return response_class(request.api_key)(error_code=error, error_message=None)
        endpoints = {item.name: (item.host, item.port) for item in body.listeners}
        voter = Voter(ReplicaKey(body.voter_id, body.voter_directory_id), endpoints)
        found: ChangeAnswer = await raft.add_voter(voter, max(body.timeout_ms, 0), body.ack_when_committed)
        return response_class(request.api_key)(error_code=found.error, error_message=found.message)

    await _by_leader(services, request, answer)


@serves(81, "RemoveRaftVoter", (0, 0))
async def remove_raft_voter(services: Services, request: Request[RemoveRaftVoterRequest]) -> None:
    raft, body = services.node.raft, request.body

    async def answer() -> Any:
        error = _wrong_cluster(raft, request)
        if error:
            return response_class(request.api_key)(error_code=error, error_message=None)
        found = await raft.remove_voter(ReplicaKey(body.voter_id, body.voter_directory_id))
        return response_class(request.api_key)(error_code=found.error, error_message=found.message)

    await _by_leader(services, request, answer)


_WITH_DIRECTORIES = 2
"""The version of DescribeQuorum from which answers contain nodes and directory ids (KIP-853)."""


@serves(55, "DescribeQuorum", (0, 2))
async def describe_quorum(services: Services, request: Request[DescribeQuorumRequest]) -> None:
    """The metadata quorum as its leader sees it (KIP-595, KIP-836)."""

    async def answer() -> quorum_response.DescribeQuorumResponse:
        return _describe(services, request.body, request.version)

    await _by_leader(services, request, answer)


def _describe(services: Services, body: DescribeQuorumRequest, version: int) -> quorum_response.DescribeQuorumResponse:
    from broadsheet_broker.wire.messages import describe_quorum_response as quorum_response

    answer = quorum_response.DescribeQuorumResponse(error_message=None)
    raft = services.node.raft
    for topic in body.topics:
        rows = quorum_response.TopicData(topic_name=topic.topic_name)
        for partition in topic.partitions:
            if topic.topic_name == CLUSTER_METADATA_TOPIC and partition.partition_index == 0:
                rows.partitions.append(_quorum(services, raft, version))
            else:
                rows.partitions.append(_refusal(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, partition.partition_index))
        answer.topics.append(rows)
    for id in raft.voters.ids if version >= _WITH_DIRECTORIES else ():
        listeners = [
            quorum_response.Listener(name=name, host=host, port=port)
            for name, (host, port) in _endpoints_of(services, raft, id).items()
        ]
        answer.nodes.append(quorum_response.Node(node_id=id, listeners=listeners))
    return answer


def _endpoints_of(services: Services, raft: RaftNode, id: int) -> dict[str, tuple[str, int]]:
    """As the log or the configuration has them, or as the controller has registered (a quorum of one on any port)."""
    registered = services.metadata.image.controllers.get(id)
    if registered is not None and not raft.voters.dynamic:
        return {name: (endpoint.host, endpoint.port) for name, endpoint in registered.endpoints.items()}
    return raft.voters.voters[id].endpoints


def _refusal(code: ErrorCode, index: int = 0, epoch: int = -1, leader_id: int = -1) -> quorum_response.PartitionData:
    from broadsheet_broker.wire.messages import describe_quorum_response as quorum_response

    return quorum_response.PartitionData(
        partition_index=index,
        error_code=code,
        error_message=code.message,
        leader_id=leader_id,
        leader_epoch=epoch,
        high_watermark=-1,
    )


def _quorum(services: Services, raft: RaftNode, version: int) -> quorum_response.PartitionData:
    from broadsheet_broker.wire.messages import describe_quorum_response as quorum_response

    leader = raft.leader_state
    if leader is None:
        known = -1 if raft.leader_id is None else raft.leader_id
        return _refusal(ErrorCode.NOT_LEADER_OR_FOLLOWER, 0, raft.epoch, known)
    now = services.environment.clock.time_ms()

    def state(progress: Progress) -> quorum_response.ReplicaState:
        is_self = progress.key.id == raft.local_key.id
        return quorum_response.ReplicaState(
            replica_id=progress.key.id,
            replica_directory_id=progress.key.directory_id if version >= _WITH_DIRECTORIES else NO_DIRECTORY,
            log_end_offset=raft.storage.end_offset if is_self else progress.end_offset,
            last_fetch_timestamp=now if is_self else raft.wall_ms(progress.last_fetch_ms),
            last_caught_up_timestamp=now if is_self else raft.wall_ms(progress.last_caught_up_ms),
        )

    return quorum_response.PartitionData(
        error_message=None,
        leader_id=raft.local_key.id,
        leader_epoch=raft.epoch,
        high_watermark=raft.high_watermark,
        current_voters=[state(progress) for _, progress in sorted(leader.voters.items())],
        observers=[state(progress) for _, progress in sorted(leader.observers.items())],
    )

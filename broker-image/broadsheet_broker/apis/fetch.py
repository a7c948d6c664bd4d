"""Fetch (key 1): read record batches, at once or when enough bytes are there.

From version 13 topics are known by id only; from 15 a follower identifies itself in a tagged field; from 16 a refusal
names the leader.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from broadsheet_broker.apis.leaders import MOVED, LeaderHints
from broadsheet_broker.apis.quorum import fetch_metadata
from broadsheet_broker.apis.registry import serves
from broadsheet_broker.replication.fetch_request import Fetch, Row
from broadsheet_broker.replication.manager import FOLLOWER_ANSWER_BYTES
from broadsheet_broker.replication.position_reader import ANYBODY, CONSUMER, Reader
from broadsheet_broker.wire.errors import KafkaError
from broadsheet_broker.wire.messages.fetch_response import (
    FetchableTopicResponse,
    FetchResponse,
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionData,
)

if TYPE_CHECKING:
    from broadsheet_broker.apis.request import Request, Services
    from broadsheet_broker.replication import ReplicaManager
    from broadsheet_broker.replication.sessions import FetchContext, TopicPositions
    from broadsheet_broker.wire.messages.fetch_request import FetchRequest

ERROR_FROM: Final = 7
"""Version from which the whole answer has an error code (KIP-227)."""
REPLICA_STATE_FROM: Final = 15
LEADER_FROM: Final = 16
RACK_FROM: Final = 11
"""Version from which consumers send their rack, and may read from followers (KIP-392)."""
READ_COMMITTED: Final = 1
_ANY_REPLICA: Final = Reader(leader_only=False)


def _refuse(body: FetchRequest, version: int, error: KafkaError) -> FetchResponse:
    if version >= ERROR_FROM:
        return FetchResponse(error_code=error.code)
    return FetchResponse(
        responses=[
            FetchableTopicResponse(
                topic=topic.topic,
                partitions=[
                    PartitionData(partition_index=data.partition, error_code=error.code, high_watermark=-1)
                    for data in topic.partitions
                ],
            )
            for topic in body.topics
        ]
    )


@serves(1, "Fetch", (4, 18), refuse=_refuse, without="records in remote storage (KIP-405)")
def fetch(services: Services, request: Request[FetchRequest]) -> None:
    body = request.body
    if body.cluster_id is not None and fetch_metadata(services, request):  # only replicas of the metadata log name it
        return
    version = request.version
    replicas = services.replicas
    replica_id = body.replica_state.replica_id if version >= REPLICA_STATE_FROM else body.replica_id
    is_follower = replica_id > CONSUMER
    if is_follower:
        replicas.follower_fetches(replica_id)
    try:
        context = replicas.sessions.begin(
            version,
            body.session_id,
            body.session_epoch,
            body.topics,
            body.forgotten_topics_data,
            privileged=is_follower,
        )
    except KafkaError as error:
        request.answer(FetchResponse(error_code=error.code))
        return
    max_bytes = min(body.max_bytes, FOLLOWER_ANSWER_BYTES if is_follower else replicas.fetch_max_bytes)
    waiting = Fetch(
        replicas,
        context.session,
        _Answer(services, request, context),
        incremental=context.incremental,
        read_committed=body.isolation_level == READ_COMMITTED,
        min_bytes=min(body.min_bytes, max_bytes),
        max_bytes=max_bytes,
        reader=_reader(replicas, request, replica_id),
        taker=request.connection,
    )
    request.on_gone = waiting.complete
    waiting.start(services.environment.loop, body.max_wait_ms)


def _reader(replicas: ReplicaManager, request: Request[FetchRequest], replica_id: int) -> Reader:
    if replica_id > CONSUMER:
        return Reader(replica_id, request.body.replica_state.replica_epoch)
    if request.version < RACK_FROM:
        return ANYBODY
    rack = request.body.rack_id if replicas.prefers_own_rack else ""
    return Reader(rack=rack, listener=request.connection.listener, leader_only=False) if rack else _ANY_REPLICA


class _Answer:
    """Turns the rows of a finished fetch into its response."""

    __slots__ = ("_context", "_request", "_services")

    def __init__(self, services: Services, request: Request[FetchRequest], context: FetchContext) -> None:
        self._services = services
        self._request = request
        self._context = context

    def __call__(self, rows: list[Row]) -> None:
        error, session_id, rows = self._context.finish(rows)
        response = FetchResponse(error_code=error, session_id=session_id)
        topics: dict[TopicPositions, FetchableTopicResponse] = {}
        moved = False
        for position, row in rows:
            place = position.topic
            topic = topics.get(place)
            if topic is None:
                topic = topics[place] = FetchableTopicResponse(topic=place.name, topic_id=place.id)
            topic.partitions.append(row)
            if row.error_code and row.error_code in MOVED:
                moved = True
        response.responses = list(topics.values())
        if moved and self._request.version >= LEADER_FROM:
            self._name_leaders(response, rows)
        self._request.answer(response)

    def _name_leaders(self, response: FetchResponse, rows: list[Row]) -> None:
        hints = LeaderHints(self._services, self._request.connection.listener, LeaderIdAndEpoch, NodeEndpoint)
        for position, row in rows:
            hints.add(row, position.topic.name or position.topic.id, position.index)
        response.node_endpoints = hints.endpoints()

"""A simulated admin client."""

from __future__ import annotations

from collections.abc import Mapping

from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.create_topics_request import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from broadsheet_broker.wire.messages.list_offsets_request import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from tests.simulation.clients.connection import PROBLEMS, ClusterView

EARLIEST, LATEST = -2, -1


async def create_topic(
    view: ClusterView, name: str, partitions: int, replicas: int, configs: Mapping[str, str] | None = None
) -> None:
    """Create a topic; again until it exists and every partition has a leader."""
    wanted = [CreatableTopicConfig(name=key, value=value) for key, value in (configs or {}).items()]
    topic = CreatableTopic(name=name, num_partitions=partitions, replication_factor=replicas, configs=wanted)
    body = CreateTopicsRequest(topics=[topic], timeout_ms=5000)
    while True:
        await view.refresh([name])
        found = [leader for (topic_name, _), leader in view.leaders.items() if topic_name == name]
        if len(found) == partitions and all(leader.broker_id >= 0 for leader in found):
            return
        if not found:
            try:
                connection = await (view.broker(view.controller_id) if view.controller_id >= 0 else view.anybody())
                answer = await connection.call(body, 7)
            except PROBLEMS:
                await view.rest()
                continue
            code = ErrorCode(answer.topics[0].error_code)
            if not code.retriable and code not in (
                ErrorCode.NONE,
                ErrorCode.TOPIC_ALREADY_EXISTS,
                ErrorCode.KAFKA_STORAGE_ERROR,
                ErrorCode.INVALID_REPLICATION_FACTOR,  # not all brokers have registered yet
            ):
                raise AssertionError(f"the topic {name} is refused: {code.name} {answer.topics[0].error_message}")
        await view.rest()


async def list_offset(view: ClusterView, partition: tuple[str, int], timestamp: int) -> int:
    """Where a partition begins (EARLIEST) or ends (LATEST); again until somebody tells."""
    name, index = partition
    while True:
        try:
            connection, leader = await view.leader(partition)
            rows = [ListOffsetsPartition(partition_index=index, current_leader_epoch=leader.epoch, timestamp=timestamp)]
            body = ListOffsetsRequest(replica_id=-1, topics=[ListOffsetsTopic(name=name, partitions=rows)])
            answer = await connection.call(body, 7)
            row = answer.topics[0].partitions[0]
            if not row.error_code:
                offset: int = row.offset
                return offset
        except PROBLEMS:
            pass
        await view.rest()
        await view.refresh([name])

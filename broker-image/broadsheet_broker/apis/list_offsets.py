"""ListOffsets (key 2): finds the offset of a timestamp, or of a named position such as the log start."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from broadsheet_broker.apis.registry import serves
from broadsheet_broker.seams.steps import resumed
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.list_offsets_response import (
    ListOffsetsPartitionResponse,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)

if TYPE_CHECKING:
    from broadsheet_broker.apis.request import Request, Services
    from broadsheet_broker.replication import Partition
    from broadsheet_broker.seams.steps import Stepwise
    from broadsheet_broker.wire.messages.list_offsets_request import ListOffsetsPartition, ListOffsetsRequest

LATEST = -1
EARLIEST = -2
MAX_TIMESTAMP = -3
"""The record with the largest timestamp (KIP-734)."""
EARLIEST_LOCAL = -4
"""Without tiered storage: the log start."""
LATEST_TIERED = -5
"""Without tiered storage there is none."""
EARLIEST_PENDING_UPLOAD = -6
"""Likewise (KIP-1023)."""

_SINCE = {LATEST: 1, EARLIEST: 1, MAX_TIMESTAMP: 7, EARLIEST_LOCAL: 8, LATEST_TIERED: 9, EARLIEST_PENDING_UPLOAD: 11}
"""The version that introduced each named position."""

LEADER_EPOCH_FROM = 4
NOT_AVAILABLE_FROM = 5
DEBUGGING_REPLICA = -2
_SEARCHES_AT_A_TIME = 20
"""Partitions that one turn may search, if each takes no longer than a look into its indexes."""
READ_COMMITTED = 1


def _refuse(body: ListOffsetsRequest, version: int, error: KafkaError) -> ListOffsetsResponse:
    return ListOffsetsResponse(
        topics=[
            ListOffsetsTopicResponse(
                name=topic.name,
                partitions=[
                    ListOffsetsPartitionResponse(partition_index=data.partition_index, error_code=error.code)
                    for data in topic.partitions
                ],
            )
            for topic in body.topics
        ]
    )


@serves(2, "ListOffsets", (1, 11), refuse=_refuse, without="offsets in remote storage (KIP-405)")
def list_offsets(services: Services, request: Request[ListOffsetsRequest]) -> Coroutine[Any, Any, None] | None:
    """Answer at once, unless offsets have to be searched for longer than one turn may last."""
    work = _search_all(services, request)
    try:
        room = next(work)
    except StopIteration as stop:
        request.answer(stop.value)
        return None
    return _answer_when_found(services, request, resumed(work, room))


async def _answer_when_found(
    services: Services, request: Request[ListOffsetsRequest], work: Stepwise[ListOffsetsResponse]
) -> None:
    task = asyncio.current_task()
    if task is not None:
        request.on_gone = partial(_cancel, task)
    request.answer(await services.environment.in_steps(work))


def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()


def _search_all(services: Services, request: Request[ListOffsetsRequest]) -> Stepwise[ListOffsetsResponse]:
    body = request.body
    seen: set[tuple[str, int]] = set()
    twice: set[tuple[str, int]] = set()
    for topic in body.topics:
        for wanted in topic.partitions:
            key = topic.name, wanted.partition_index
            (twice if key in seen else seen).add(key)
    response = ListOffsetsResponse()
    searched = 0
    for topic in body.topics:
        rows: list[ListOffsetsPartitionResponse] = []
        for wanted in topic.partitions:
            row = ListOffsetsPartitionResponse(
                partition_index=wanted.partition_index, timestamp=-1, offset=-1, leader_epoch=-1
            )
            rows.append(row)
            try:
                if (topic.name, wanted.partition_index) in twice:
                    raise KafkaError(ErrorCode.INVALID_REQUEST)
                if wanted.timestamp < 0 and request.version < _SINCE.get(wanted.timestamp, 2**15):
                    raise KafkaError(ErrorCode.UNSUPPORTED_VERSION)
                partition = services.replicas.partition(topic.name, wanted.partition_index)
                if body.replica_id != DEBUGGING_REPLICA:
                    partition.check_leader(wanted.current_leader_epoch)
                if wanted.timestamp >= 0 or wanted.timestamp == MAX_TIMESTAMP:
                    searched += 1
                    if searched % _SEARCHES_AT_A_TIME == 0:
                        yield None
                committed = body.isolation_level == READ_COMMITTED
                yield from _find(partition, wanted, row, body.replica_id, committed, request.version)
                if request.version < LEADER_EPOCH_FROM:
                    row.leader_epoch = -1
            except KafkaError as error:
                row.error_code = error.code
        response.topics.append(ListOffsetsTopicResponse(name=topic.name, partitions=rows))
    return response


def _find(
    partition: Partition,
    wanted: ListOffsetsPartition,
    row: ListOffsetsPartitionResponse,
    replica_id: int,
    read_committed: bool,
    version: int,
) -> Stepwise[None]:
    """Fill the row; what is not found stays -1."""
    log = partition.log
    if replica_id >= 0:
        end = log.log_end_offset
    else:
        end = partition.last_stable_offset if read_committed else partition.high_watermark
    place = wanted.timestamp
    # A new leader's high watermark may be behind what the last leader returned to consumers (KIP-207).
    behind = replica_id < 0 and partition.epoch_start_offset > partition.high_watermark and partition.is_leader
    if behind and place == LATEST:
        raise _not_available(version)
    if place == LATEST:
        row.offset = end
        row.leader_epoch = partition.leader_epoch
    elif place in (EARLIEST, EARLIEST_LOCAL):
        row.offset = log.log_start_offset
        row.leader_epoch = log.epoch_of(log.log_start_offset)
    elif place == MAX_TIMESTAMP or place >= 0:
        search = log.max_timestamp(end) if place == MAX_TIMESTAMP else log.offset_for_timestamp(place)
        found = yield from search
        if found is not None and found[1] < end:
            row.timestamp, row.offset, row.leader_epoch = found
        elif behind:
            raise _not_available(version)


def _not_available(version: int) -> KafkaError:
    return KafkaError(
        ErrorCode.OFFSET_NOT_AVAILABLE if version >= NOT_AVAILABLE_FROM else ErrorCode.LEADER_NOT_AVAILABLE
    )

"""Produce (key 0): append record batches.

Served from version 3 (KIP-896) and advertised from 0, since librdkafka checks the old versions before it compresses
(KAFKA-18659). From version 13 topics are known by id only.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from broadsheet_broker.apis.leaders import LeaderHints
from broadsheet_broker.apis.registry import serves
from broadsheet_broker.apis.request import AT_WORK
from broadsheet_broker.apis.transactions import UNSERVED
from broadsheet_broker.config.internal_topics import INTERNAL_TOPICS
from broadsheet_broker.log.errors import kept
from broadsheet_broker.log.validation import Checked
from broadsheet_broker.replication import PendingProduce
from broadsheet_broker.replication.admission import check_append
from broadsheet_broker.seams.steps import resumed
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.produce_response import (
    BatchIndexAndErrorMessage,
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionProduceResponse,
    ProduceResponse,
    TopicProduceResponse,
)
from broadsheet_broker.wire.record_walk import STEP_RECORDS
from broadsheet_broker.wire.records import (
    COMPRESSION_MASK,
    CONTROL_FLAG,
    HEADER_BYTES,
    MAGIC,
    SMALLEST_RECORD_BYTES,
    TRANSACTIONAL_FLAG,
)

if TYPE_CHECKING:
    from broadsheet_broker.apis.request import Request, Services
    from broadsheet_broker.replication import Partition
    from broadsheet_broker.seams import Buffer
    from broadsheet_broker.seams.steps import Stepwise
    from broadsheet_broker.wire.messages.produce_request import (
        PartitionProduceData,
        ProduceRequest,
        TopicProduceData,
    )

    _Appended = tuple[Partition, int, PartitionProduceResponse]

logger = logging.getLogger(__name__)

ADMIN_CLIENT_ID: Final = "__admin_client"
"""The client id that may write to internal topics (Kafka's AdminUtils)."""

TOPIC_IDS_FROM: Final = 13
LEADER_FROM: Final = 10
"""Version from which a refusal names the leader."""
ZSTD: Final = 4
ZSTD_FROM: Final = 7
"""Version from which clients may send zstd (KIP-110)."""

_MAGIC_AT: Final = 16
_ATTRIBUTES_AT: Final = 22
"""The low byte of the attributes: the high one has no meaning yet."""
_COUNT: Final = struct.Struct(">i")
_COUNT_AT: Final = 57
_VALID_ACKS: Final[tuple[int, ...]] = (-1, 0, 1)

_LITTLE_BYTES: Final = SMALLEST_RECORD_BYTES * STEP_RECORDS
"""Fewer bytes cannot be more records than one turn checks."""
_NOTHING: dict[int, Checked | KafkaError] = {}

_GAP: Final = "%s-%d refuses a batch of client %r at %s: %s"


def _refuse(body: ProduceRequest, version: int, error: KafkaError) -> ProduceResponse | None:
    """With acks=0 there is no answer to put the error in; the connection is closed instead."""
    if body.acks == 0:
        return None
    return ProduceResponse(
        responses=[
            TopicProduceResponse(
                name=topic.name,
                topic_id=topic.topic_id,
                partition_responses=[
                    PartitionProduceResponse(index=data.index, error_code=error.code, base_offset=-1)
                    for data in topic.partition_data
                ],
            )
            for topic in body.topic_data
        ]
    )


@serves(0, "Produce", (3, 13), advertise_from=0, refuse=_refuse, without="transactional batches")
def produce(services: Services, request: Request[ProduceRequest]) -> Coroutine[Any, Any, None] | None:
    """Append in this turn of the loop; a request that has to wait for replicas then waits as a `PendingProduce`.

    So it is the request that is parked, never the partition, which takes other appends meanwhile. Batches with more
    records, or more decompressed bytes, than one turn can check are checked in steps first, while the later requests of
    the connection are held; then all of the request is appended in one turn. A check that has to ask another broker
    before the append (KIP-890) must keep to that, too.
    """
    now_ms = services.environment.clock.time_ms()
    if _is_little(request.body):
        _append_all(services, request, _NOTHING, now_ms)
        return None
    work = check_in_steps(services, request, now_ms)
    try:
        room = next(work)
    except StopIteration as stop:
        _append_all(services, request, stop.value, now_ms)
        return None
    request.hold()
    request.waits_since = AT_WORK
    return _append_when_checked(services, request, resumed(work, room))


async def _append_when_checked(
    services: Services, request: Request[ProduceRequest], work: Stepwise[dict[int, Checked | KafkaError]]
) -> None:
    task = asyncio.current_task()
    if request.body.acks and task is not None:  # who wants no answer may be gone when its records are stored
        request.on_gone = partial(_cancel, task)
    outcomes = await services.environment.in_steps(work)
    request.on_gone = None
    _append_all(services, request, outcomes, services.environment.clock.time_ms())
    request.release()


def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()


def _is_little(body: ProduceRequest) -> bool:
    """Whether so few bytes, none of them compressed, that they cannot be more records than one turn checks."""
    size = 0
    for topic in body.topic_data:
        for data in topic.partition_data:
            records: Any = data.records
            if records is None or len(records) < HEADER_BYTES:
                continue
            size += len(records)
            if size > _LITTLE_BYTES or records[_ATTRIBUTES_AT] & COMPRESSION_MASK:
                return False
    return True


def check_in_steps(
    services: Services, request: Request[ProduceRequest], now_ms: int
) -> Stepwise[dict[int, Checked | KafkaError]]:
    """Check what is too much for the turn that appends it: of such rows, by `id`, the batch as it is to be
    stored, or why it is refused."""
    outcomes: dict[int, Checked | KafkaError] = {}
    rows = [(topic, data) for topic in request.body.topic_data for data in topic.partition_data]
    many = len(rows) > 1 and sum(_count(data.records) for _, data in rows) > STEP_RECORDS
    for number, (topic, data) in enumerate(rows):
        if many and number:
            yield None
        try:
            partition = _target(services, request, topic, data)
            records = _batch_of(data, request.version)
            check_append(partition, request.body.acks)
            view = memoryview(records)
            checked = None if many else partition.log.check_opened(view, now_ms)
            if checked is None:
                work = partition.log.checking(view, now_ms, small=many)
                if work is None:
                    continue
                checked = yield from work
            outcomes[id(data)] = checked
        except KafkaError as error:
            outcomes[id(data)] = kept(error)
    return outcomes


def _count(records: Any) -> int:
    """Records that the header of a batch counts."""
    if records is None or len(records) < HEADER_BYTES:
        return 0
    count: int = _COUNT.unpack_from(records, _COUNT_AT)[0]
    return max(count, 0)


def _append_all(
    services: Services, request: Request[ProduceRequest], outcomes: dict[int, Checked | KafkaError], now_ms: int
) -> None:
    body = request.body
    appended: list[_Appended] = []
    responses: list[TopicProduceResponse] = []
    for topic in body.topic_data:
        rows = [_append(services, request, topic, data, outcomes, now_ms, appended) for data in topic.partition_data]
        responses.append(TopicProduceResponse(name=topic.name, topic_id=topic.topic_id, partition_responses=rows))
    finish = partial(_finish, services, request, responses)
    if appended:
        request.waits_since = AT_WORK  # the write comes at the end of the turn
        pending = PendingProduce(services.environment, body.acks, body.timeout_ms, appended, finish, request)
        request.on_gone = pending.abandon
        services.replicas.turn.after_flush(pending)
    else:
        finish()


def _target(
    services: Services, request: Request[ProduceRequest], topic: TopicProduceData, data: PartitionProduceData
) -> Partition:
    """The partition of one row, if this broker has it and the client may write to it."""
    if request.body.acks not in _VALID_ACKS:
        raise KafkaError(ErrorCode.INVALID_REQUIRED_ACKS)
    if request.version >= TOPIC_IDS_FROM:
        partition = services.replicas.partition_by_id(topic.topic_id, data.index)
    else:
        partition = services.replicas.partition(topic.name, data.index)
    if partition.topic in INTERNAL_TOPICS and request.client_id != ADMIN_CLIENT_ID:
        raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"Cannot append to internal topic {partition.topic}")
    return partition


def _batch_of(data: PartitionProduceData, version: int) -> Buffer:
    """The batch of one row, as far as its header shows that it may be appended; the log checks the rest."""
    records = data.records
    if records is None or isinstance(records, list) or len(records) < HEADER_BYTES:
        raise KafkaError(ErrorCode.INVALID_RECORD, "A produce request must have at least one record batch")
    _check_batch(records, version)
    return records


def _append(
    services: Services,
    request: Request[ProduceRequest],
    topic: TopicProduceData,
    data: PartitionProduceData,
    outcomes: dict[int, Checked | KafkaError],
    now_ms: int,
    appended: list[_Appended],
) -> PartitionProduceResponse:
    """Append the batch of one partition, note it in `appended`, and return its row of the answer; or a refusal."""
    partition = None
    try:
        partition = _target(services, request, topic, data)
        counters = partition.counters
        counters.produce_requests += 1
        records = _batch_of(data, request.version)
        checked = outcomes.get(id(data)) if outcomes else None
        if isinstance(checked, KafkaError):
            raise checked.again()
        info = partition.append(records, request.body.acks, now_ms, checked=checked)
    except KafkaError as error:
        if error.code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER and partition is not None:
            _log_gap(services, request, partition, error)
        return _refusal(data.index, error, partition)
    first, last = info.first_offset, info.last_offset
    row = PartitionProduceResponse(
        index=data.index,
        base_offset=first,
        log_append_time_ms=info.log_append_time,
        log_start_offset=partition.log.log_start_offset,
    )
    if not info.duplicate:
        counters.messages_in += last - first + 1
        counters.bytes_in += len(records)
    appended.append((partition, last + 1, row))
    return row


def _log_gap(services: Services, request: Request[ProduceRequest], partition: Partition, error: KafkaError) -> None:
    """Log it, as Kafka does: for many producers it is the end, and their libraries hide the message of the refusal."""
    client = request.client_id, request.connection.host
    services.notices.warn(logger, request.received, _GAP, partition.topic, partition.index, *client, error.message)


def _check_batch(records: Buffer, version: int) -> None:
    """Refuse what the header of a batch shows to be forbidden."""
    if records[_MAGIC_AT] != MAGIC:
        raise KafkaError(
            ErrorCode.INVALID_RECORD, f"Produce requests are only allowed to contain record batches with magic {MAGIC}"
        )
    attributes = records[_ATTRIBUTES_AT]
    if attributes & CONTROL_FLAG:
        raise KafkaError(ErrorCode.INVALID_RECORD, "Clients are not allowed to write control records")
    if attributes & TRANSACTIONAL_FLAG:
        raise KafkaError(ErrorCode.INVALID_TXN_STATE, UNSERVED)
    if version < ZSTD_FROM and attributes & COMPRESSION_MASK == ZSTD:
        raise KafkaError(
            ErrorCode.UNSUPPORTED_COMPRESSION_TYPE,
            f"Produce version {version} does not allow zstd; use version {ZSTD_FROM} or later",
        )


def _refusal(index: int, error: KafkaError, partition: Partition | None) -> PartitionProduceResponse:
    if partition is not None:
        partition.counters.failed_produce_requests += 1
    row = PartitionProduceResponse(
        index=index,
        error_code=error.code,
        base_offset=-1,
        log_append_time_ms=-1,
        log_start_offset=-1,
        error_message=error.message,
    )
    record_errors = getattr(error, "record_errors", None)
    if record_errors:
        row.record_errors = [
            BatchIndexAndErrorMessage(batch_index=number, batch_index_error_message=text)
            for number, text in record_errors
        ]
    return row


def _finish(services: Services, request: Request[ProduceRequest], responses: list[TopicProduceResponse]) -> None:
    """Answer. With acks=0 send nothing, but close the connection if anything failed, as Kafka does."""
    failed = False
    for topic in responses:
        for row in topic.partition_responses:
            if row.error_code:
                failed = True
                break
    if request.body.acks == 0:
        if failed:
            logger.info("closing the connection of client %r: a produce with acks=0 failed", request.client_id)
            request.hang_up()
        else:
            request.answer_nothing()
        return
    response = ProduceResponse(responses=responses)
    if failed and request.version >= LEADER_FROM:
        _name_leaders(services, request, response)
    request.answer(response)


def _name_leaders(services: Services, request: Request[ProduceRequest], response: ProduceResponse) -> None:
    hints = LeaderHints(services, request.connection.listener, LeaderIdAndEpoch, NodeEndpoint)
    for topic in response.responses:
        known_as = topic.topic_id if request.version >= TOPIC_IDS_FROM else topic.name
        for row in topic.partition_responses:
            hints.add(row, known_as, row.index)
    response.node_endpoints = hints.endpoints()

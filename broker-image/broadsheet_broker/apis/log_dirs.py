"""DescribeLogDirs (key 35): sizes of partitions, and free space of log directories (KIP-113, KIP-827, KIP-1066)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broadsheet_broker.apis.registry import serves
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.describe_log_dirs_response import (
    DescribeLogDirsPartition,
    DescribeLogDirsResponse,
    DescribeLogDirsResult,
    DescribeLogDirsTopic,
)

if TYPE_CHECKING:
    from broadsheet_broker.apis.request import Request, Services
    from broadsheet_broker.replication import Partition
    from broadsheet_broker.wire.messages.describe_log_dirs_request import DescribeLogDirsRequest

ERROR_FROM = 3
"""Version from which the whole answer has an error code."""


def _refuse(body: DescribeLogDirsRequest, version: int, error: KafkaError) -> DescribeLogDirsResponse:
    results = [] if version >= ERROR_FROM else [DescribeLogDirsResult(error_code=error.code)]
    return DescribeLogDirsResponse(error_code=error.code, results=results)


@serves(35, "DescribeLogDirs", (1, 5), refuse=_refuse, without="replicas that move between directories (KIP-113)")
def describe_log_dirs(services: Services, request: Request[DescribeLogDirsRequest]) -> None:
    wanted: set[tuple[str, int]] | None = None
    if request.body.topics is not None:
        wanted = {(topic.topic, index) for topic in request.body.topics for index in topic.partitions}
    held: dict[str, list[Partition]] = {}
    for partition in services.replicas.partitions():
        if wanted is None or (partition.topic, partition.index) in wanted:
            held.setdefault(partition.log.parent, []).append(partition)
    response = DescribeLogDirsResponse()
    for directory in services.replicas.logs.directories:
        response.results.append(_describe(services, directory, held.get(directory, [])))
    for directory in services.replicas.logs.offline_directories:
        response.results.append(
            DescribeLogDirsResult(
                log_dir=directory, error_code=ErrorCode.KAFKA_STORAGE_ERROR, total_bytes=-1, usable_bytes=-1
            )
        )
    request.answer(response)


def _describe(services: Services, directory: str, partitions: list[Partition]) -> DescribeLogDirsResult:
    result = DescribeLogDirsResult(log_dir=directory, total_bytes=-1, usable_bytes=-1)
    files = services.environment.files
    try:
        result.total_bytes = files.total_bytes(directory)
        result.usable_bytes = files.free_bytes(directory)
    except OSError:
        result.error_code = ErrorCode.KAFKA_STORAGE_ERROR
        return result
    broker = services.metadata.image.brokers.get(services.config.node_id)
    if broker is not None and broker.cordoned_log_dirs:
        result.is_cordoned = services.replicas.logs.directory_id(directory) in broker.cordoned_log_dirs
    topics: dict[str, DescribeLogDirsTopic] = {}
    for partition in partitions:
        topic = topics.get(partition.topic)
        if topic is None:
            topic = topics[partition.topic] = DescribeLogDirsTopic(name=partition.topic)
        topic.partitions.append(
            DescribeLogDirsPartition(
                partition_index=partition.index,
                partition_size=partition.log.size,
                offset_lag=max(partition.high_watermark - partition.log.log_end_offset, 0),
            )
        )
    result.topics = list(topics.values())
    return result

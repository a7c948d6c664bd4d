"""Answers that say no: the error code at the place where clients of that API look for it.

Most answers have a code of their own at the top. Those that have not carry it once for each thing that was asked for,
so those answers are built from the request.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from broadsheet_broker.wire.errors import ErrorCode

_MESSAGES = "broadsheet_broker.wire.messages."


def error_answer(name: str, version: int, body: Any, code: ErrorCode, message: str | None = None) -> Any | None:
    """The answer to an API's request that is refused as a whole; None when the API has no way to say so."""
    module = import_module(f"{_MESSAGES}{_snake(name)}_response")
    builder = _BUILDERS.get(name)
    if builder is not None:
        return builder(module, version, body, code)
    response = getattr(module, f"{name}Response")()
    if not hasattr(response, "error_code"):
        return None
    response.error_code = code
    if message is not None and hasattr(response, "error_message"):
        response.error_message = message
    return response


def _snake(name: str) -> str:
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name).lstrip("_")


def _produce(module: Any, version: int, body: Any, code: ErrorCode) -> Any:
    if body.acks == 0:
        return None
    return module.ProduceResponse(
        responses=[
            module.TopicProduceResponse(
                name=topic.name,
                topic_id=topic.topic_id,
                partition_responses=[
                    module.PartitionProduceResponse(index=data.index, error_code=code, base_offset=-1)
                    for data in topic.partition_data
                ],
            )
            for topic in body.topic_data
        ]
    )


def _fetch(module: Any, version: int, body: Any, code: ErrorCode) -> Any:
    if version >= 7:
        return module.FetchResponse(error_code=code)
    return module.FetchResponse(
        responses=[
            module.FetchableTopicResponse(
                topic=topic.topic,
                partitions=[
                    module.PartitionData(partition_index=data.partition, error_code=code, high_watermark=-1)
                    for data in topic.partitions
                ],
            )
            for topic in body.topics
        ]
    )


def _list_offsets(module: Any, version: int, body: Any, code: ErrorCode) -> Any:
    return module.ListOffsetsResponse(
        topics=[
            module.ListOffsetsTopicResponse(
                name=topic.name,
                partitions=[
                    module.ListOffsetsPartitionResponse(partition_index=data.partition_index, error_code=code)
                    for data in topic.partitions
                ],
            )
            for topic in body.topics
        ]
    )


def _metadata(module: Any, version: int, body: Any, code: ErrorCode) -> Any:
    topics = [
        module.MetadataResponseTopic(error_code=code, name=topic.name, topic_id=topic.topic_id)
        for topic in body.topics or ()
        if version >= 12 or topic.name is not None
    ]
    return module.MetadataResponse(topics=topics, error_code=code) if topics or version >= 13 else None


def _offset_commit(module: Any, version: int, body: Any, code: ErrorCode) -> Any:
    return module.OffsetCommitResponse(
        topics=[
            module.OffsetCommitResponseTopic(
                name=topic.name,
                topic_id=topic.topic_id,
                partitions=[
                    module.OffsetCommitResponsePartition(partition_index=data.partition_index, error_code=code)
                    for data in topic.partitions
                ],
            )
            for topic in body.topics
        ]
    )


def _offset_fetch(module: Any, version: int, body: Any, code: ErrorCode) -> Any:
    if version >= 8:
        groups = [module.OffsetFetchResponseGroup(group_id=group.group_id, error_code=code) for group in body.groups]
        return module.OffsetFetchResponse(groups=groups)
    topics = [
        module.OffsetFetchResponseTopic(
            name=topic.name,
            partitions=[
                module.OffsetFetchResponsePartition(partition_index=index, committed_offset=-1, error_code=code)
                for index in topic.partition_indexes
            ],
        )
        for topic in body.topics or ()
    ]
    return module.OffsetFetchResponse(topics=topics, error_code=code)


def _find_coordinator(module: Any, version: int, body: Any, code: ErrorCode) -> Any:
    if version < 4:
        return module.FindCoordinatorResponse(error_code=code, error_message=code.message, node_id=-1, port=-1)
    return module.FindCoordinatorResponse(
        coordinators=[
            module.Coordinator(key=key, node_id=-1, port=-1, error_code=code, error_message=code.message)
            for key in body.coordinator_keys
        ]
    )


def _offset_for_leader_epoch(module: Any, version: int, body: Any, code: ErrorCode) -> Any:
    return module.OffsetForLeaderEpochResponse(
        topics=[
            module.OffsetForLeaderTopicResult(
                topic=topic.topic,
                partitions=[
                    module.EpochEndOffset(error_code=code, partition=data.partition) for data in topic.partitions
                ],
            )
            for topic in body.topics
        ]
    )


def _create_topics(module: Any, version: int, body: Any, code: ErrorCode) -> Any:
    topics = [
        module.CreatableTopicResult(name=topic.name, error_code=code, error_message=code.message)
        for topic in body.topics
    ]
    return module.CreateTopicsResponse(topics=topics)


def _delete_topics(module: Any, version: int, body: Any, code: ErrorCode) -> Any:
    if version >= 6:
        states = [(topic.name, topic.topic_id) for topic in body.topics]
        return module.DeleteTopicsResponse(
            responses=[module.DeletableTopicResult(name=name, topic_id=id, error_code=code) for name, id in states]
        )
    return module.DeleteTopicsResponse(
        responses=[module.DeletableTopicResult(name=name, error_code=code) for name in body.topic_names]
    )


def _create_partitions(module: Any, version: int, body: Any, code: ErrorCode) -> Any:
    results = [
        module.CreatePartitionsTopicResult(name=topic.name, error_code=code, error_message=code.message)
        for topic in body.topics
    ]
    return module.CreatePartitionsResponse(results=results)


def _delete_records(module: Any, version: int, body: Any, code: ErrorCode) -> Any:
    return module.DeleteRecordsResponse(
        topics=[
            module.DeleteRecordsTopicResult(
                name=topic.name,
                partitions=[
                    module.DeleteRecordsPartitionResult(
                        partition_index=data.partition_index, low_watermark=-1, error_code=code
                    )
                    for data in topic.partitions
                ],
            )
            for topic in body.topics
        ]
    )


def _describe_configs(module: Any, version: int, body: Any, code: ErrorCode) -> Any:
    results = [
        module.DescribeConfigsResult(
            error_code=code,
            error_message=code.message,
            resource_type=resource.resource_type,
            resource_name=resource.resource_name,
        )
        for resource in body.resources
    ]
    return module.DescribeConfigsResponse(results=results)


def _alter_configs(module: Any, version: int, body: Any, code: ErrorCode) -> Any:
    incremental = hasattr(module, "IncrementalAlterConfigsResponse")
    response = module.IncrementalAlterConfigsResponse if incremental else module.AlterConfigsResponse
    resource_response = module.AlterConfigsResourceResponse
    return response(
        responses=[
            resource_response(
                error_code=code,
                error_message=code.message,
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
            )
            for resource in body.resources
        ]
    )


def _describe_groups(module: Any, version: int, body: Any, code: ErrorCode) -> Any:
    return module.DescribeGroupsResponse(
        groups=[module.DescribedGroup(group_id=group, error_code=code) for group in body.groups]
    )


def _delete_groups(module: Any, version: int, body: Any, code: ErrorCode) -> Any:
    return module.DeleteGroupsResponse(
        results=[module.DeletableGroupResult(group_id=group, error_code=code) for group in body.groups_names]
    )


def _describe_log_dirs(module: Any, version: int, body: Any, code: ErrorCode) -> Any:
    results = [] if version >= 3 else [module.DescribeLogDirsResult(error_code=code)]
    return module.DescribeLogDirsResponse(error_code=code, results=results)


def _elect_leaders(module: Any, version: int, body: Any, code: ErrorCode) -> Any:
    results = [
        module.ReplicaElectionResult(
            topic=topic.topic,
            partition_result=[
                module.PartitionResult(partition_id=index, error_code=code, error_message=code.message)
                for index in topic.partitions
            ],
        )
        for topic in body.topic_partitions or ()
    ]
    top = ErrorCode.NONE if version == 0 else code
    return module.ElectLeadersResponse(error_code=top, replica_election_results=results)


def _describe_producers(module: Any, version: int, body: Any, code: ErrorCode) -> Any:
    return module.DescribeProducersResponse(
        topics=[
            module.TopicResponse(
                name=topic.name,
                partitions=[
                    module.PartitionResponse(partition_index=index, error_code=code, error_message=code.message)
                    for index in topic.partition_indexes
                ],
            )
            for topic in body.topics
        ]
    )


def _describe_topic_partitions(module: Any, version: int, body: Any, code: ErrorCode) -> Any:
    topics = [module.DescribeTopicPartitionsResponseTopic(error_code=code, name=topic.name) for topic in body.topics]
    return module.DescribeTopicPartitionsResponse(topics=topics)


_BUILDERS: dict[str, Callable[[Any, int, Any, ErrorCode], Any]] = {
    "Produce": _produce,
    "Fetch": _fetch,
    "ListOffsets": _list_offsets,
    "Metadata": _metadata,
    "OffsetCommit": _offset_commit,
    "OffsetFetch": _offset_fetch,
    "FindCoordinator": _find_coordinator,
    "OffsetForLeaderEpoch": _offset_for_leader_epoch,
    "CreateTopics": _create_topics,
    "DeleteTopics": _delete_topics,
    "CreatePartitions": _create_partitions,
    "DeleteRecords": _delete_records,
    "DescribeConfigs": _describe_configs,
    "AlterConfigs": _alter_configs,
    "IncrementalAlterConfigs": _alter_configs,
    "DescribeGroups": _describe_groups,
    "DeleteGroups": _delete_groups,
    "DescribeLogDirs": _describe_log_dirs,
    "ElectLeaders": _elect_leaders,
    "DescribeProducers": _describe_producers,
    "DescribeTopicPartitions": _describe_topic_partitions,
}

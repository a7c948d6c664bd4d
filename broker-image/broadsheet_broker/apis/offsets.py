"""OffsetCommit, OffsetFetch and OffsetDelete (keys 8, 9, 47): committed offsets of groups.

The coordinator knows topics by name. Versions that name them by id (10, KIP-848) are translated here, and topics or
partitions that do not exist are refused here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from broadsheet_broker.apis.group_admin import OTHER_GROUPS
from broadsheet_broker.apis.group_membership import context_of
from broadsheet_broker.apis.registry import serves
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.offset_commit_request import OffsetCommitRequest, OffsetCommitRequestTopic
from broadsheet_broker.wire.messages.offset_commit_response import (
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from broadsheet_broker.wire.messages.offset_delete_request import OffsetDeleteRequest, OffsetDeleteRequestTopic
from broadsheet_broker.wire.messages.offset_delete_response import (
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)
from broadsheet_broker.wire.messages.offset_fetch_request import OffsetFetchRequestGroup, OffsetFetchRequestTopics
from broadsheet_broker.wire.messages.offset_fetch_response import (
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
)

if TYPE_CHECKING:
    from broadsheet_broker.apis.request import Request, Services
    from broadsheet_broker.metadata.image import ClusterImage
    from broadsheet_broker.wire.messages.offset_fetch_request import OffsetFetchRequest

OTHER_MEMBERS = "members of the consumer protocol (KIP-848)"
TOPIC_IDS_FROM = 10
"""Version of OffsetCommit and OffsetFetch that names topics by id."""
MANY_GROUPS_FROM = 8
"""OffsetFetch version that asks for several groups at once (KIP-709)."""
GROUP_ERROR_FROM = 2
"""OffsetFetch version with an error for the whole group; before, each partition repeats it."""


# OffsetCommit


def _refuse_commit(body: OffsetCommitRequest, version: int, error: KafkaError) -> OffsetCommitResponse:
    return OffsetCommitResponse(
        topics=[_refusal(topic, error.code, [True] * len(topic.partitions)) for topic in body.topics]
    )


@serves(8, "OffsetCommit", (2, 10), refuse=_refuse_commit, without=OTHER_MEMBERS)
def offset_commit(services: Services, request: Request[OffsetCommitRequest]) -> None:
    body = request.body
    image = services.metadata.image
    refused = _refuse_unknown(image, body, by_id=request.version >= TOPIC_IDS_FROM)
    if not refused:
        services.groups.commit_offsets(body, context_of(request), request.answer)
    elif not body.topics:
        request.answer(OffsetCommitResponse(topics=refused))
    else:
        services.groups.commit_offsets(body, context_of(request), _with_refused(request, refused))


def _refuse_unknown(image: ClusterImage, body: OffsetCommitRequest, *, by_id: bool) -> list[OffsetCommitResponseTopic]:
    """Remove topics and partitions that do not exist from the request, and return the answers for them."""
    refused: list[OffsetCommitResponseTopic] = []
    kept: list[OffsetCommitRequestTopic] = []
    for topic in body.topics:
        known = image.topics_by_id.get(topic.topic_id) if by_id else image.topics_by_name.get(topic.name)
        if known is None:
            error = ErrorCode.UNKNOWN_TOPIC_ID if by_id else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            refused.append(_refusal(topic, error, len(topic.partitions) * [True]))
            continue
        topic.name = known.name
        count = len(known.partitions)
        missing = [not 0 <= partition.partition_index < count for partition in topic.partitions]
        if any(missing):
            refused.append(_refusal(topic, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, missing))
            topic.partitions = [each for each, gone in zip(topic.partitions, missing, strict=True) if not gone]
        if topic.partitions:
            kept.append(topic)
    if refused:
        body.topics = kept
    return refused


def _refusal(topic: OffsetCommitRequestTopic, error: ErrorCode, chosen: list[bool]) -> OffsetCommitResponseTopic:
    return OffsetCommitResponseTopic(
        name=topic.name,
        topic_id=topic.topic_id,
        partitions=[
            OffsetCommitResponsePartition(partition_index=each.partition_index, error_code=error)
            for each, is_chosen in zip(topic.partitions, chosen, strict=True)
            if is_chosen
        ],
    )


def _with_refused(
    request: Request[OffsetCommitRequest], refused: list[OffsetCommitResponseTopic]
) -> Callable[[OffsetCommitResponse], None]:
    def answer(response: OffsetCommitResponse) -> None:
        by_key = {(topic.name, topic.topic_id): topic for topic in response.topics}
        for topic in refused:
            answered = by_key.get((topic.name, topic.topic_id))
            if answered is None:
                response.topics.append(topic)
            else:
                answered.partitions.extend(topic.partitions)
        request.answer(response)

    return answer


# OffsetFetch


def _refuse_fetch(body: OffsetFetchRequest, version: int, error: KafkaError) -> OffsetFetchResponse:
    if version < MANY_GROUPS_FROM:
        response = _error_per_partition(body, error.code)
        response.error_code = error.code
        return response
    return OffsetFetchResponse(
        groups=[OffsetFetchResponseGroup(group_id=group.group_id, error_code=error.code) for group in body.groups]
    )


@serves(9, "OffsetFetch", (1, 10), refuse=_refuse_fetch, without=OTHER_MEMBERS)
def offset_fetch(services: Services, request: Request[OffsetFetchRequest]) -> None:
    body = request.body
    if request.version < MANY_GROUPS_FROM:
        _fetch_one(services, request)
        return
    by_id = request.version >= TOPIC_IDS_FROM
    answers: dict[int, OffsetFetchResponseGroup] = {}
    expected = len(body.groups)
    if not expected:
        request.answer(OffsetFetchResponse(groups=[]))

    def collect(position: int, unknown: list[OffsetFetchResponseTopics], group: OffsetFetchResponseGroup) -> None:
        if by_id and not group.error_code:
            group.topics = _with_ids(services.metadata.image, group.topics) + unknown
        answers[position] = group
        if len(answers) == expected:
            request.answer(OffsetFetchResponse(groups=[answers[place] for place in range(expected)]))

    for position, group in enumerate(body.groups):
        unknown = _name_topics(services.metadata.image, group) if by_id else []
        services.groups.fetch_offsets(
            group,
            body.require_stable,
            lambda answer, position=position, unknown=unknown: collect(position, unknown, answer),  # type: ignore[misc]
        )


def _name_topics(image: ClusterImage, group: OffsetFetchRequestGroup) -> list[OffsetFetchResponseTopics]:
    """Fill in the names of the topics of a request; remove unknown topics, and return the answers for them."""
    if group.topics is None:
        return []
    unknown = []
    kept = []
    for topic in group.topics:
        known = image.topics_by_id.get(topic.topic_id)
        if known is not None:
            topic.name = known.name
            kept.append(topic)
        else:
            unknown.append(
                OffsetFetchResponseTopics(
                    topic_id=topic.topic_id,
                    partitions=[
                        OffsetFetchResponsePartitions(
                            partition_index=index,
                            committed_offset=-1,
                            committed_leader_epoch=-1,
                            metadata="",
                            error_code=ErrorCode.UNKNOWN_TOPIC_ID,
                        )
                        for index in topic.partition_indexes
                    ],
                )
            )
    group.topics = kept
    return unknown


def _with_ids(image: ClusterImage, topics: list[OffsetFetchResponseTopics]) -> list[OffsetFetchResponseTopics]:
    """Topics with their ids. A deleted topic has no id and is left out: the client could not match it."""
    known = []
    for topic in topics:
        found = image.topics_by_name.get(topic.name)
        if found is not None:
            topic.topic_id = found.id
            known.append(topic)
    return known


def _fetch_one(services: Services, request: Request[OffsetFetchRequest]) -> None:
    """Versions before 8: a single group, in top-level fields of the request."""
    body = request.body
    group = OffsetFetchRequestGroup(group_id=body.group_id, topics=None)
    if body.topics is not None:
        group.topics = [
            OffsetFetchRequestTopics(name=topic.name, partition_indexes=topic.partition_indexes)
            for topic in body.topics
        ]

    def answer(found: OffsetFetchResponseGroup) -> None:
        if found.error_code and request.version < GROUP_ERROR_FROM:
            request.answer(_error_per_partition(body, found.error_code))
            return
        topics = [
            OffsetFetchResponseTopic(
                name=topic.name,
                partitions=[
                    OffsetFetchResponsePartition(
                        partition_index=each.partition_index,
                        committed_offset=each.committed_offset,
                        committed_leader_epoch=each.committed_leader_epoch,
                        metadata=each.metadata,
                        error_code=each.error_code,
                    )
                    for each in topic.partitions
                ],
            )
            for topic in found.topics
        ]
        request.answer(OffsetFetchResponse(topics=topics, error_code=found.error_code))

    services.groups.fetch_offsets(group, body.require_stable, answer)


def _error_per_partition(body: OffsetFetchRequest, error: int) -> OffsetFetchResponse:
    return OffsetFetchResponse(
        topics=[
            OffsetFetchResponseTopic(
                name=topic.name,
                partitions=[
                    OffsetFetchResponsePartition(
                        partition_index=index, committed_offset=-1, metadata="", error_code=error
                    )
                    for index in topic.partition_indexes
                ],
            )
            for topic in body.topics or []
        ]
    )


# OffsetDelete


@serves(47, "OffsetDelete", (0, 0), without=OTHER_GROUPS)
def offset_delete(services: Services, request: Request[OffsetDeleteRequest]) -> None:
    body = request.body
    image = services.metadata.image
    unknown: dict[str, list[int]] = {}
    kept: list[OffsetDeleteRequestTopic] = []
    for topic in body.topics:
        known = image.topics_by_name.get(topic.name)
        count = 0 if known is None else len(known.partitions)
        missing = [each.partition_index for each in topic.partitions if not 0 <= each.partition_index < count]
        if missing:
            unknown[topic.name] = missing
            topic.partitions = [each for each in topic.partitions if 0 <= each.partition_index < count]
        if topic.partitions:
            kept.append(topic)
    body.topics = kept

    def answer(response: OffsetDeleteResponse) -> None:
        if not response.error_code:
            _add_unknown(response, unknown)
        request.answer(response)

    services.groups.delete_offsets(body, context_of(request), answer)


def _add_unknown(response: OffsetDeleteResponse, unknown: dict[str, list[int]]) -> None:
    by_name = {topic.name: topic for topic in response.topics}
    for name, indexes in unknown.items():
        topic = by_name.get(name)
        if topic is None:
            topic = OffsetDeleteResponseTopic(name=name, partitions=[])
            response.topics.append(topic)
        topic.partitions.extend(
            OffsetDeleteResponsePartition(partition_index=index, error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
            for index in indexes
        )

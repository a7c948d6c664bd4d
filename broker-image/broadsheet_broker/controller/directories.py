"""In which of a broker's log directories a replica lives: AssignReplicasToDirs (KIP-858).

The controller must know it, so that it can have the partitions of a failed directory led elsewhere. What a broker with
one directory takes is written down with the assignment; one with several chooses, and tells. Both tell when a replica
is made anew on a disk that took the place of another.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final
from uuid import UUID

from broadsheet_broker.controller.brokers import check_epoch
from broadsheet_broker.controller.elections import replica_went, rules_of
from broadsheet_broker.controller.partition_change import Defaults, Target, change_partition
from broadsheet_broker.controller.plan import MAX_RECORDS, Plan
from broadsheet_broker.metadata.delta import MetadataDelta, merge_partition
from broadsheet_broker.metadata.image import NO_LEADER, BrokerInfo, ClusterImage, PartitionImage, TopicImage
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages import assign_replicas_to_dirs_request as asked
from broadsheet_broker.wire.messages import assign_replicas_to_dirs_response as answered
from broadsheet_broker.wire.messages.partition_change_record import PartitionChangeRecord

log = logging.getLogger(__name__)

_AT_ONCE: Final = 2000
"""Replicas of one request, as in Kafka."""
_ATTEMPT: Final = 10.0
_RETRY: Final = 0.5


def assign_replicas(
    image: ClusterImage, request: asked.AssignReplicasToDirsRequest, defaults: Defaults
) -> Plan[answered.AssignReplicasToDirsResponse]:
    """Plan what a broker says of its replicas; each is taken or refused by itself.

    A replica in a directory that has failed since is led elsewhere from now on. One that began anew because the
    directory it was in is lost counts no more for what it had; where nobody else does, it stays without a directory, so
    that nobody follows an empty log before an operator says so.
    """
    broker = check_epoch(image, request.broker_id, request.broker_epoch)
    plan = Plan(answered.AssignReplicasToDirsResponse())
    for directory in request.directories:
        rows = answered.DirectoryData(id=directory.id)
        for topic in directory.topics:
            results = answered.TopicData(topic_id=topic.topic_id)
            for row in topic.partitions:
                code = ErrorCode.NONE
                try:
                    if broker.log_dirs:
                        found = _find(image, topic.topic_id, row.partition_index, broker.id)
                        plan.records += _assign(image, found, row.partition_index, broker, directory.id, defaults)
                except KafkaError as error:
                    code = error.code
                results.partitions.append(answered.PartitionData(partition_index=row.partition_index, error_code=code))
            rows.topics.append(results)
        plan.answer.directories.append(rows)
    plan.records = plan.records[:MAX_RECORDS]
    return plan


def _find(image: ClusterImage, topic_id: UUID, index: int, broker: int) -> TopicImage:
    topic = image.topics_by_id.get(topic_id)
    if topic is None:
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_ID)
    if not 0 <= index < len(topic.partitions):
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    if broker not in topic.partitions[index].replicas:
        raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
    return topic


def _assign(
    image: ClusterImage, topic: TopicImage, index: int, broker: BrokerInfo, directory: UUID, defaults: Defaults
) -> list[Any]:
    partition = topic.partitions[index]
    directories = [
        directory if id == broker.id else known
        for id, known in zip(partition.replicas, partition.directories, strict=True)
    ]
    change = None
    if directory not in broker.log_dirs:
        change = replica_went(image, topic, index, broker.id, defaults)
    elif _counts(partition, broker.id) and not broker.has_directory(partition) and len(partition.replicas) > 1:
        change = replica_went(image, topic, index, broker.id, defaults, lost_tail=True)
        if _counts(partition if change is None else merge_partition(partition, change), broker.id):
            return [] if change is None else [change]
    elif partition.leader == NO_LEADER and partition.replicas == (broker.id,) and broker.is_active:
        # Its directory was another one: a disk was replaced, and no other replica has what is lost.
        rules = rules_of(image, topic.name, defaults)
        change = change_partition(topic.id, index, partition, Target(), rules, lambda id: id == broker.id)
    if change is None and tuple(directories) == partition.directories:
        return []
    change = change or PartitionChangeRecord(partition_id=index, topic_id=topic.id)
    change.directories = directories
    return [change]


def _counts(partition: PartitionImage, id: int) -> bool:
    """Whether a replica may be elected cleanly, or as the last that led."""
    return id in partition.isr or id in partition.elr or id in partition.last_known_elr


class DirectoryReports:
    """Tells the controller in which directories this broker's replicas are, when that is not what the metadata says."""

    def __init__(
        self,
        environment: Environment,
        broker_id: int,
        directories: dict[str, UUID],
        where: Callable[[str, int], str | None],
        broker_epoch: Callable[[], int],
        call: Callable[[Any, int, float], Awaitable[Any]],
    ) -> None:
        """`where(topic, index)`: the path of the directory that holds a replica; None when there is none."""
        self._environment = environment
        self._id = broker_id
        self._directories = directories
        self._where = where
        self._epoch = broker_epoch
        self._call = call
        self._waiting: dict[tuple[UUID, int], UUID] = {}
        self._task: asyncio.Task[None] | None = None

    def apply(self, delta: MetadataDelta, image: ClusterImage) -> None:
        """Look at what has changed; call after the replicas have taken it up."""
        for changed in delta.changed_topics.values():
            for index, partition in changed.changed.items():
                self._compare(changed.id, changed.name, index, partition)
        self._send_soon()

    def look(self, topic: TopicImage, index: int) -> None:
        """Look at a replica that could not be served when the metadata were taken up, and is served now."""
        self._compare(topic.id, topic.name, index, topic.partitions[index])
        self._send_soon()

    def _compare(self, topic_id: UUID, name: str, index: int, partition: PartitionImage) -> None:
        if self._id in partition.replicas:
            actual = self._directories.get(self._where(name, index) or "")
            known = partition.directories[partition.replicas.index(self._id)]
            if actual is not None and actual != known:
                self._waiting[topic_id, index] = actual

    def _send_soon(self) -> None:
        if self._waiting and self._task is None:
            self._task = self._environment.loop.create_task(self._send_all())

    def kill(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                batch = dict(list(self._waiting.items())[:_AT_ONCE])
                try:
                    answer = await self._call(self._request(batch), 0, _ATTEMPT)
                except KafkaError as error:
                    log.debug("Directories of replicas are not reported yet: %s", error.message)
                    await asyncio.sleep(_RETRY)
                    continue
                if answer.error_code:
                    await asyncio.sleep(_RETRY)
                    continue
                for key, directory in batch.items():
                    if self._waiting.get(key) == directory:
                        del self._waiting[key]
        finally:
            self._task = None

    def _request(self, batch: dict[tuple[UUID, int], UUID]) -> asked.AssignReplicasToDirsRequest:
        grouped: dict[UUID, dict[UUID, list[int]]] = {}
        for (topic_id, index), directory in batch.items():
            grouped.setdefault(directory, {}).setdefault(topic_id, []).append(index)
        return asked.AssignReplicasToDirsRequest(
            broker_id=self._id,
            broker_epoch=self._epoch(),
            directories=[
                asked.DirectoryData(
                    id=directory,
                    topics=[
                        asked.TopicData(
                            topic_id=topic_id,
                            partitions=[asked.PartitionData(partition_index=index) for index in indexes],
                        )
                        for topic_id, indexes in topics.items()
                    ],
                )
                for directory, topics in grouped.items()
            ],
        )

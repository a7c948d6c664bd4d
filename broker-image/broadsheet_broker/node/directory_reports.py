"""Reports to the controller in which log directory each replica of this broker lives (KIP-858)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final
from uuid import UUID

from broadsheet_broker.metadata.delta import MetadataDelta
from broadsheet_broker.metadata.image import ClusterImage, PartitionImage, TopicImage
from broadsheet_broker.node.forwarding import Call
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.errors import KafkaError
from broadsheet_broker.wire.messages import assign_replicas_to_dirs_request as asked
from broadsheet_broker.wire.messages.assign_replicas_to_dirs_response import AssignReplicasToDirsResponse

logger = logging.getLogger(__name__)

_AT_ONCE: Final = 2000
"""Replicas of one request, as in Kafka."""
_ATTEMPT: Final = 10.0
_RETRY: Final = 0.5


class DirectoryReports:
    """Reports the directories of this broker's replicas where they differ from the metadata."""

    def __init__(
        self,
        environment: Environment,
        broker_id: int,
        directories: dict[str, UUID],
        where: Callable[[str, int], str | None],
        broker_epoch: Callable[[], int],
        call: Call,
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
        """Check the partitions that changed; call after the replicas have applied the change."""
        for changed in delta.changed_topics.values():
            for index, partition in changed.changed.items():
                self._compare(changed.id, changed.name, index, partition)
        self._send_soon()

    def look(self, topic: TopicImage, index: int) -> None:
        """Check a replica that could not be served when the metadata were applied, and is served now."""
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
                    answer = await self._call(self._request(batch), AssignReplicasToDirsResponse, 0, _ATTEMPT)
                except KafkaError as error:
                    logger.debug("Directories of replicas are not reported yet: %s", error.message)
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

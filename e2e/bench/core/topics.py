"""Topics of a measurement: made with leaders that are known, counted by ListOffsets, and removed with their files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broadsheet_broker.wire.messages.create_topics_request import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from broadsheet_broker.wire.messages.delete_topics_request import DeleteTopicsRequest, DeleteTopicState
from broadsheet_broker.wire.messages.list_offsets_request import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from broadsheet_broker.wire.messages.metadata_request import MetadataRequest, MetadataRequestTopic
from e2e.bench.probes import Connection
from tests.support.broker_process import BrokerProcess
from tests.support.waiting import wait_until

PATIENCE_S = 60.0
LATEST = -1
MIB = 1 << 20
KEPT = {"retention.bytes": str(1024 * MIB), "segment.bytes": str(256 * MIB), "file.delete.delay.ms": "100"}
"""What bounds the files of a partition, whatever a run writes."""


class ShortLogError(RuntimeError):
    """A partition that does not end where the acknowledged records end."""


@dataclass(frozen=True)
class Topic:
    """A topic whose partition n is led by the broker `leaders[n]`."""

    name: str
    brokers: Sequence[BrokerProcess]
    leaders: Sequence[BrokerProcess]

    def address(self, partition: int) -> tuple[str, int]:
        """Where the leader of a partition listens."""
        leader = self.leaders[partition]
        return leader.host, leader.port

    def ends(self) -> list[int]:
        """The end offset of each partition, as its leader reports it."""
        return [self._end(partition) for partition in range(len(self.leaders))]

    def _end(self, partition: int) -> int:
        wanted = ListOffsetsPartition(partition_index=partition, timestamp=LATEST)
        topics = [ListOffsetsTopic(name=self.name, partitions=[wanted])]
        row = ask(self.leaders[partition], ListOffsetsRequest(replica_id=-1, topics=topics), 6).topics[0].partitions[0]
        if row.error_code:
            raise ConnectionError(f"{self.name}-{partition}: ListOffsets answered error {row.error_code}")
        return int(row.offset)

    def check_ends(self, before: Sequence[int], acknowledged: Sequence[int]) -> None:
        """Raise ShortLogError unless each partition grew by the records that were acknowledged."""
        for partition, (start, end, count) in enumerate(zip(before, self.ends(), acknowledged, strict=True)):
            if end - start != count:
                raise ShortLogError(
                    f"{self.name}-{partition}: {count} records were acknowledged from offset {start} on, "
                    f"but the partition ends at {end}: {start + count - end} are missing"
                )

    def files(self) -> list[Path]:
        """The segments of all replicas."""
        return [path for broker in self.brokers for path in broker.log_dir.glob(f"{self.name}-*/*.log")]

    def remove(self) -> None:
        """Delete it and wait until its files are gone, so that the kernel need not write them any more."""
        request = DeleteTopicsRequest(topics=[DeleteTopicState(name=self.name)], timeout_ms=30_000)
        ask(self.leaders[0], request, 6)

        def gone() -> bool:
            return not any(list(broker.log_dir.glob(f"{self.name}[-.]*")) for broker in self.brokers)

        wait_until(gone, f"the files of {self.name} to be removed", PATIENCE_S)


def create(
    brokers: Sequence[BrokerProcess], name: str, partitions: int, replicas: int, config: Mapping[str, str] | None = None
) -> Topic:
    """A topic whose partitions are led by the brokers in turn; every leader is ready for requests."""
    ids = [broker.node_id for broker in brokers]
    rows = [
        CreatableReplicaAssignment(
            partition_index=index, broker_ids=[ids[(index + at) % len(ids)] for at in range(replicas)]
        )
        for index in range(partitions)
    ]
    settings = [CreatableTopicConfig(name=key, value=value) for key, value in {**KEPT, **(config or {})}.items()]
    new = CreatableTopic(name=name, num_partitions=-1, replication_factor=-1, assignments=rows, configs=settings)
    row = _when_awake(lambda: ask(brokers[0], CreateTopicsRequest(topics=[new], timeout_ms=30_000), 5)).topics[0]
    if row.error_code:
        raise RuntimeError(f"{name} was not created: error {row.error_code}, {row.error_message}")
    topic = Topic(name, brokers, [brokers[index % len(brokers)] for index in range(partitions)])
    wait_until(lambda: _is_led(topic, replicas) and _answers(topic), f"leaders of {name}", PATIENCE_S)
    return topic


def _when_awake(attempt: Callable[[], Any]) -> Any:
    """What a broker answers that may have been stopped by a signal until now, once it does answer."""

    def tried() -> Any:
        with contextlib.suppress(OSError):
            answer = attempt()
            return None if answer.topics[0].error_code in RETRIABLE else answer
        return None

    return wait_until(tried, "an answer to CreateTopics", PATIENCE_S)


RETRIABLE = (7, 8, 41, 38)
"""REQUEST_TIMED_OUT, BROKER_NOT_AVAILABLE, NOT_CONTROLLER, INVALID_REPLICATION_FACTOR (brokers are still fenced)."""


def _is_led(topic: Topic, replicas: int) -> bool:
    request = MetadataRequest(topics=[MetadataRequestTopic(name=topic.name)], allow_auto_topic_creation=False)
    for broker in topic.brokers:
        rows = ask(broker, request, 9).topics[0].partitions
        leaders = {row.partition_index: row.leader_id for row in rows if len(row.isr_nodes) == replicas}
        if leaders != {index: leader.node_id for index, leader in enumerate(topic.leaders)}:
            return False
    return True


def _answers(topic: Topic) -> bool:
    with contextlib.suppress(ConnectionError):
        return len(topic.ends()) == len(topic.leaders)
    return False


def ask(broker: BrokerProcess, request: Any, version: int) -> Any:
    """One request on a connection of its own."""
    with Connection(broker.bootstrap, PATIENCE_S) as connection:
        return connection.ask(request, version)

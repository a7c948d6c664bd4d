"""Questions asked of single brokers by a client without any patience of its own.

A client library waits between two tries, and for how long is a property of the client. What is asked here is asked of
every living broker, again at once, so that the time until the answer is the cluster's alone.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from broadsheet_broker.wire.api_messages import request_header_version, response_class, response_header_version
from broadsheet_broker.wire.messages.describe_quorum_request import DescribeQuorumRequest, PartitionData, TopicData
from broadsheet_broker.wire.messages.incremental_alter_configs_request import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from broadsheet_broker.wire.messages.metadata_request import MetadataRequest, MetadataRequestTopic
from broadsheet_broker.wire.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData
from broadsheet_broker.wire.primitives import skip_tagged_fields
from broadsheet_broker.wire.records import build_batch
from broadsheet_broker.wire.schema import Message

CLIENT_ID = b"probe"
PAUSE_S = 0.01
TOPIC_RESOURCE = 2
NOT_THERE = -1


class Connection:
    """One connection to one broker, one request at a time."""

    def __init__(self, bootstrap: str, timeout_s: float) -> None:
        host, _, port = bootstrap.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: Message, version: int) -> Any:
        """The answer; OSError if there is none in time."""
        key = type(request).API_KEY
        body = b"".join(bytes(part) for part in request.encode(version))
        tags = b"\0" if request_header_version(key, version) == 2 else b""
        head = struct.pack(">hhih", key, version, 1, len(CLIENT_ID)) + CLIENT_ID + tags
        answer = self.exchange(struct.pack(">i", len(head) + len(body)) + head + body)
        view, position = memoryview(answer), 4
        if response_header_version(key, version):
            position = skip_tagged_fields(view, position, len(view))
        message, _ = response_class(key).decode(view, version, position)
        return message

    def exchange(self, frame: bytes) -> bytes:
        """The answer to a whole request, without the four bytes of its size."""
        self._socket.sendall(frame)
        (size,) = struct.unpack(">i", self._receive(4))
        return self._receive(size)

    def _receive(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            more = self._socket.recv(size - len(data))
            if not more:
                raise ConnectionResetError("the broker hung up")
            data += more
        return bytes(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()


Attempt = Callable[[Connection], bool]


def first_success(bootstraps: Sequence[str], attempt: Attempt, deadline_s: float, patience_s: float = 30.0) -> float:
    """When (time.perf_counter) the first of these brokers did what was asked; all are asked until one does.

    A broker that has not answered after `patience_s` is asked again on a new connection.
    """
    done = threading.Event()
    times: list[float] = []
    end = time.monotonic() + deadline_s

    def keep_asking(bootstrap: str) -> None:
        while not done.is_set() and time.monotonic() < end:
            with contextlib.suppress(OSError), Connection(bootstrap, patience_s) as connection:
                while not done.is_set() and time.monotonic() < end:
                    if attempt(connection):
                        times.append(time.perf_counter())
                        done.set()
                    done.wait(PAUSE_S)
            done.wait(PAUSE_S)

    for bootstrap in bootstraps:
        threading.Thread(target=keep_asking, args=(bootstrap,), daemon=True).start()
    if not done.wait(deadline_s):
        raise TimeoutError(f"no broker of {', '.join(bootstraps)} succeeded within {deadline_s} s")
    return times[0]


def produces(topic: str, timeout_ms: int = 30_000) -> Attempt:
    """A record into partition 0 with acks=all."""
    batch = build_batch([(int(time.time() * 1000), None, b"first", [])])
    partition = PartitionProduceData(index=0, records=[batch])
    topics = [TopicProduceData(name=topic, partition_data=[partition])]
    request = ProduceRequest(acks=-1, timeout_ms=timeout_ms, topic_data=topics)

    def attempt(connection: Connection) -> bool:
        return not connection.ask(request, 9).responses[0].partition_responses[0].error_code

    return attempt


def changes_metadata(topic: str) -> Attempt:
    """A property of a topic, set: only an active controller with a majority behind it can."""
    change = AlterableConfig(name="flush.ms", config_operation=0, value="9223372036854775000")
    resource = AlterConfigsResource(resource_type=TOPIC_RESOURCE, resource_name=topic, configs=[change])
    request = IncrementalAlterConfigsRequest(resources=[resource])

    def attempt(connection: Connection) -> bool:
        return not connection.ask(request, 1).responses[0].error_code

    return attempt


def has_leaders(topics: Sequence[str], without: int) -> Attempt:
    """Every partition of these topics is known to have a leader, and that is not the broker `without`."""
    request = MetadataRequest(topics=[MetadataRequestTopic(name=topic) for topic in topics])

    def attempt(connection: Connection) -> bool:
        leaders = {row.leader_id for topic in connection.ask(request, 9).topics for row in topic.partitions}
        return not leaders & {NOT_THERE, without}

    return attempt


def has_full_isr(topic: str, replicas: int) -> Attempt:
    """Every partition of the topic has so many replicas in sync."""
    return have_full_isr([topic], replicas)


def have_full_isr(topics: Sequence[str], replicas: int) -> Attempt:
    """Every partition of all these topics has so many replicas in sync."""
    request = MetadataRequest(topics=[MetadataRequestTopic(name=topic) for topic in topics])

    def attempt(connection: Connection) -> bool:
        found = connection.ask(request, 9).topics
        rows = [row for topic in found for row in topic.partitions]
        return all(topic.partitions for topic in found) and all(len(row.isr_nodes) == replicas for row in rows)

    return attempt


def active_controller(bootstrap: str, timeout_s: float = 10.0) -> int:
    """The node id of the quorum's leader as this broker knows it; -1 if it knows none."""
    wanted = TopicData(topic_name="__cluster_metadata", partitions=[PartitionData(partition_index=0)])
    with Connection(bootstrap, timeout_s) as connection:
        answer = connection.ask(DescribeQuorumRequest(topics=[wanted]), 0)
    if answer.error_code or not answer.topics:
        return NOT_THERE
    leader: int = answer.topics[0].partitions[0].leader_id
    return leader

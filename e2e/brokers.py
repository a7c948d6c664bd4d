"""Several brokers as one cluster: each is broker and controller, and votes in the metadata quorum.

    with Brokers(Broadsheet) as cluster:
        cluster.create("orders", partitions=6)
        cluster.controller().kill()
        cluster.wait_whole("orders")

What is asked of the cluster is asked over its protocol, so that Apache Kafka can be in the place of ours.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from broadsheet_broker.wire.messages.describe_quorum_request import (
    DescribeQuorumRequest,
    PartitionData,
    TopicData,
)
from broadsheet_broker.wire.messages.describe_quorum_response import DescribeQuorumResponse
from broadsheet_broker.wire.messages.find_coordinator_request import FindCoordinatorRequest
from broadsheet_broker.wire.messages.find_coordinator_response import FindCoordinatorResponse
from broadsheet_broker.wire.messages.metadata_request import MetadataRequest, MetadataRequestTopic
from broadsheet_broker.wire.messages.metadata_response import MetadataResponse
from tests.support.broker_process import BrokerProcess
from tests.support.waiting import wait_until

SEVERAL_NODES = {
    "offsets.topic.replication.factor": "3",
    "offsets.topic.num.partitions": "6",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    # A silent broker is noticed in a third of Kafka's default time; heartbeats fit it.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
}


class PartitionState(NamedTuple):
    """What a broker tells of a partition."""

    leader: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]


class Brokers:
    """Three brokers, or so many as asked for; node ids from 1."""

    def __init__(
        self,
        kind: Callable[[Path], BrokerProcess],
        directory: Path | None = None,
        size: int = 3,
        overrides: Mapping[str, str] | None = None,
        prepare: Callable[[BrokerProcess], None] = lambda broker: None,
    ) -> None:
        """`prepare` is given each broker before it has ever been started, to put it elsewhere or configure it alone."""
        self._temporary = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="e2e-cluster-"))
        self.brokers: dict[int, BrokerProcess] = {}
        for node_id in range(1, size + 1):
            broker = kind(self.directory / f"broker-{node_id}")
            broker.node_id = node_id
            broker.overrides |= {**SEVERAL_NODES, **(overrides or {})}
            prepare(broker)
            self.brokers[node_id] = broker
        voters = ",".join(broker.voter for broker in self.brokers.values())
        for broker in self.brokers.values():
            broker.overrides["controller.quorum.voters"] = voters

    @property
    def name(self) -> str:
        """Whose brokers these are."""
        return next(iter(self.brokers.values())).name

    @property
    def pids(self) -> list[int]:
        """Of those that run."""
        return [broker.pid for broker in self.brokers.values() if broker.running]

    @property
    def bootstrap(self) -> str:
        return ",".join(broker.bootstrap for broker in self.brokers.values())

    def __getitem__(self, node_id: int) -> BrokerProcess:
        return self.brokers[node_id]

    def others(self, *node_ids: int) -> list[int]:
        """Every node but these."""
        return [node_id for node_id in self.brokers if node_id not in node_ids]

    def start(self) -> Self:
        """Start those that do not run, all at once, and wait until each takes requests."""
        new = [broker for broker in self.brokers.values() if not broker.running]
        for broker in new:
            broker.spawn()
        for broker in new:
            broker.wait_started()
        return self

    def kill(self) -> None:
        """kill -9 of all of them, at once as far as one can."""
        for broker in self.brokers.values():
            if broker.running:
                os.kill(broker.pid, signal.SIGKILL)
        for broker in self.brokers.values():
            broker.kill()

    def close(self) -> None:
        self.kill()
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            print(self.last_words())
        self.close()

    def last_words(self, lines: int = 40) -> str:
        """What each broker has said at the end."""
        return "\n\n".join(
            f"broker {node_id} said at the end:\n{broker.last_words(lines)}"
            for node_id, broker in self.brokers.items()
            if broker.output.exists()
        )

    # What the cluster is asked.

    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0, "socket.timeout.ms": 5000})

    def create(self, topic: str, partitions: int, replicas: int = 3, **config: str) -> None:
        settings = {key.replace("_", "."): value for key, value in config.items()}
        admin = self.admin()
        admin.create_topics([NewTopic(topic, partitions, replicas, config=settings)])[topic].result(30)
        wait_until(
            lambda: len(self.partitions(topic)) == partitions, f"{topic} to have {partitions} partitions everywhere"
        )

    def metadata(self, topic: str | None = None, at: Sequence[int] = ()) -> Any:
        """Kafka's Metadata answer of the first broker that gives one, of those `at`; None when nobody does."""
        topics = [MetadataRequestTopic(name=topic)] if topic else []
        request = MetadataRequest(topics=topics, allow_auto_topic_creation=False)
        return self._first(request, 9, MetadataResponse, at)

    def partitions(self, topic: str, at: Sequence[int] = ()) -> dict[int, PartitionState]:
        """What the first broker that answers (of those `at`) tells of a topic; nothing when nobody answers."""
        answer = self.metadata(topic, at)
        if answer is None:
            return {}
        return {
            partition.partition_index: PartitionState(
                partition.leader_id, tuple(partition.replica_nodes), tuple(partition.isr_nodes)
            )
            for found in answer.topics
            for partition in found.partitions
        }

    def members(self, at: Sequence[int] = ()) -> set[int]:
        """Brokers that take part (are not fenced), as the first broker that answers (of those `at`) says."""
        answer = self.metadata(at=at)
        return set() if answer is None else {broker.node_id for broker in answer.brokers}

    def controller_id(self, at: Sequence[int] = ()) -> int:
        """The active controller; -1 when nobody knows of one."""
        request = DescribeQuorumRequest(
            topics=[TopicData(topic_name="__cluster_metadata", partitions=[PartitionData(partition_index=0)])]
        )
        answer = self._first(request, 2, DescribeQuorumResponse, at)
        if answer is None or answer.error_code or not answer.topics:
            return -1
        partition = answer.topics[0].partitions[0]
        return -1 if partition.error_code else int(partition.leader_id)

    def controller(self) -> int:
        """The active controller, waited for."""
        wait_until(lambda: self.controller_id() > 0, "an active controller")
        return self.controller_id()

    def leader(self, topic: str, partition: int) -> int:
        """The leader of a partition, waited for."""

        def led() -> bool:
            state = self.partitions(topic).get(partition)
            return state is not None and state.leader > 0

        wait_until(led, f"a leader of {topic}-{partition}")
        return self.partitions(topic)[partition].leader

    def coordinator(self, group: str) -> int:
        """The coordinator of a group, waited for."""
        found: list[int] = []

        def known() -> bool:
            answer = self._first(FindCoordinatorRequest(key=group), 3, FindCoordinatorResponse, ())
            if answer is not None and not answer.error_code:
                found.append(int(answer.node_id))
            return bool(found)

        wait_until(known, f"a coordinator of {group}")
        return found[0]

    def is_whole(self, topic: str) -> bool:
        """Whether every broker that runs says that each replica of the topic is in sync and led."""
        for node_id, broker in self.brokers.items():
            if not broker.running:
                return False
            states = self.partitions(topic, [node_id])
            if not states or any(
                state.leader < 0 or set(state.isr) != set(state.replicas) for state in states.values()
            ):
                return False
        return True

    def wait_whole(self, *topics: str, deadline_s: float = 60.0) -> None:
        for topic in topics:
            try:
                wait_until(lambda topic=topic: self.is_whole(topic), f"{topic} to be whole", deadline_s, 0.05)  # type: ignore[misc]
            except TimeoutError as error:
                told = {node_id: self.partitions(topic, [node_id]) for node_id in self.brokers}
                raise TimeoutError(f"{error}; brokers say {told}") from None

    def _first(self, request: Any, version: int, response: type[Any], at: Sequence[int]) -> Any:
        for node_id in at or self.brokers:
            broker = self.brokers[node_id]
            if broker.running:
                with contextlib.suppress(OSError, EOFError):
                    return ask(broker.host, broker.port, request, version, response)
        return None


def ask(host: str, port: int, request: Any, version: int, response: type[Any], timeout_s: float = 1.0) -> Any:
    """One request on a connection of its own, of a flexible version; OSError or EOFError when nobody answers."""
    api_key = request.API_KEY
    header = api_key.to_bytes(2, "big") + version.to_bytes(2, "big") + b"\0\0\0\7\0\3e2e\0"
    frame = header + b"".join(bytes(part) for part in request.encode(version))
    with socket.create_connection((host, port), timeout_s) as connection:
        connection.settimeout(timeout_s)
        connection.sendall(len(frame).to_bytes(4, "big") + frame)
        answer = _exactly(connection, int.from_bytes(_exactly(connection, 4), "big"))
    return response.decode(memoryview(answer), version, 5)[0]  # behind the correlation id and no tagged fields


def _exactly(connection: socket.socket, count: int) -> bytes:
    read = b""
    while len(read) < count:
        more = connection.recv(count - len(read))
        if not more:
            raise EOFError("the broker closed the connection")
        read += more
    return read

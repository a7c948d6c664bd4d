"""Several brokers' replicas in one process: real logs in directories, messages handed over by hand, a plain controller.

Requests between brokers go through their encoded form and the handlers of the APIs, so that what a test sees is what
the wire carries. Links can be cut, brokers killed and started again. The controller does what it is told: leaders move
when the test says so; proposals of ISRs are accepted when the epochs agree.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import broadsheet_broker.apis.delete_records
import broadsheet_broker.apis.fetch
import broadsheet_broker.apis.list_offsets
import broadsheet_broker.apis.produce  # noqa: F401 - the imports register the handlers
from broadsheet_broker.apis.registry import REGISTRY
from broadsheet_broker.config import KEYS
from broadsheet_broker.log import LogConfig, LogManager
from broadsheet_broker.metadata.delta import MetadataDelta
from broadsheet_broker.metadata.image import EMPTY_IMAGE, ClusterImage, PartitionImage
from broadsheet_broker.replication import Partition, ReplicaManager
from broadsheet_broker.replication.in_sync import IsrAnswer, IsrAnswered, IsrChange
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.api_messages import request_class, response_class
from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.config_record import ConfigRecord
from broadsheet_broker.wire.messages.fence_broker_record import FenceBrokerRecord
from broadsheet_broker.wire.messages.fetch_request import FetchPartition, FetchRequest, FetchTopic
from broadsheet_broker.wire.messages.partition_change_record import PartitionChangeRecord
from broadsheet_broker.wire.messages.partition_record import PartitionRecord
from broadsheet_broker.wire.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData
from broadsheet_broker.wire.messages.register_broker_record import BrokerEndpoint, RegisterBrokerRecord
from broadsheet_broker.wire.messages.topic_record import TopicRecord
from broadsheet_broker.wire.peers import PeerError
from broadsheet_broker.wire.records import decode_records, iterate_batches
from tests.support.replica_services import NOW_MS, Call, batch
from tests.support.waiting import until

LISTENER = "PLAINTEXT"


class Settings:
    """Kafka's defaults, with some changed."""

    inter_broker_listener = LISTENER

    def __init__(self, node_id: int, overrides: dict[str, str]) -> None:
        self.node_id = node_id
        self._overrides = {"replica.fetch.wait.max.ms": "100", "replica.fetch.backoff.ms": "50", **overrides}

    def get_int(self, name: str) -> int:
        value = KEYS[name].parse(self._overrides.get(name, KEYS[name].default))
        assert isinstance(value, int)
        return value

    def get_optional_str(self, name: str) -> str | None:
        return self._overrides.get(name, KEYS[name].default)


class Metadata:
    """One broker's view."""

    def __init__(self) -> None:
        self.image: ClusterImage = EMPTY_IMAGE

    def topic_config(self, name: str) -> dict[str, str]:
        return dict(self.image.config(2, name))

    def broker_config(self, name: str) -> str | None:
        return self.image.config(4, "").get(name) or KEYS[name].default


class Connection:
    id = 1
    listener = LISTENER
    host = "127.0.0.1"
    principal = "User:ANONYMOUS"
    closed = False
    keeps_up = True


class Links:
    """`Peers` of one broker: hands messages to the others in the same process."""

    def __init__(self, cluster: Cluster, own_id: int) -> None:
        self.cluster = cluster
        self.own_id = own_id
        self.sent = 0

    def send(
        self,
        node_id: int,
        address: Any,
        request: Any,
        version: int,
        on_answer: Any,
        *,
        timeout: float,
        lane: str = "",
    ) -> None:
        self.sent += 1
        loop = asyncio.get_running_loop()
        data = b"".join(request.encode(version))
        loop.call_soon(self._deliver, node_id, type(request).API_KEY, version, data, on_answer)

    def _deliver(self, node_id: int, key: int, version: int, data: bytes, on_answer: Any) -> None:
        loop = asyncio.get_running_loop()
        target, own = self.cluster.brokers.get(node_id), self.cluster.brokers.get(self.own_id)
        if target is None or not self.cluster.linked(self.own_id, node_id):
            loop.call_soon(on_answer, None, PeerError("refused", f"no node {node_id}"))
            return
        call = target.begin_encoded(key, version, data)

        def answered(outcome: bytes) -> None:
            if self.cluster.brokers.get(self.own_id) is not own:
                return
            if not self.cluster.linked(self.own_id, node_id) or self.cluster.brokers.get(node_id) is not target:
                on_answer(None, PeerError("reset", "cut"))
                return
            message, _ = response_class(key).decode(memoryview(outcome), version)
            on_answer(message, None)

        call.on_outcome = answered
        if call.data is not None:
            loop.call_soon(answered, call.data)


class PeerCall(Call):
    """A request of another broker: its answer goes back in its encoded form."""

    __slots__ = ("data", "on_outcome")

    def answer(self, message: Any) -> None:
        assert self.data is None
        self.data = b"".join(bytes(part) for part in message.encode(self.version))
        if self.on_outcome is not None:
            asyncio.get_running_loop().call_soon(self.on_outcome, self.data)


class Broker:
    """The rooms of one broker as far as replicas need them."""

    def __init__(self, cluster: Cluster, node_id: int, directory: Path) -> None:
        self.cluster = cluster
        self.id = node_id
        self.environment = Environment(loop=asyncio.get_running_loop(), clock=cluster)
        self.metadata = Metadata()
        self.logs = LogManager(
            self.environment,
            [str(directory)],
            config_for=lambda topic: LogConfig.of(self.metadata.topic_config(topic)),
        )
        settings: Any = Settings(node_id, cluster.overrides)
        metadata: Any = self.metadata
        self.replicas = ReplicaManager(self.environment, settings, self.logs, metadata)
        self.links = Links(cluster, node_id)
        self.replicas.connect(self.links, cluster)  # type: ignore[arg-type]
        self.services: Any = SimpleNamespace(
            environment=self.environment, config=settings, metadata=self.metadata, replicas=self.replicas
        )

    async def start(self) -> None:
        await self.logs.start()
        self.replicas.start()

    def publish(self, delta: MetadataDelta, image: ClusterImage) -> None:
        self.metadata.image = image
        self.replicas.apply(delta, image)

    def begin_encoded(self, key: int, version: int, data: bytes) -> PeerCall:
        decoded, _ = request_class(key).decode(memoryview(data), version)
        call = PeerCall(key, version, 1, "test", decoded, Connection(), self.environment.monotonic())
        call.outcome, call.silent, call.hung_up, call.data, call.on_outcome = None, False, False, None, None
        REGISTRY[key].handler(self.services, call)
        return call

    async def call(self, version: int, body: Any) -> Any:
        """A client's request and its answer."""
        key = type(body).API_KEY
        call = self.begin_encoded(key, version, b"".join(bytes(part) for part in body.encode(version)))
        await self.cluster.until(lambda: call.data is not None)
        assert call.data is not None
        return response_class(key).decode(memoryview(call.data), version)[0]

    def partition(self, index: int = 0, topic: str = "orders") -> Partition:
        return self.replicas.partition(topic, index)

    async def produce(self, *values: bytes, acks: int = -1, timeout_ms: int = 10_000, index: int = 0) -> Any:
        data = PartitionProduceData(index=index, records=batch(*values))
        topic = TopicProduceData(name="orders", partition_data=[data])
        response = await self.call(9, ProduceRequest(acks=acks, timeout_ms=timeout_ms, topic_data=[topic]))
        return response.responses[0].partition_responses[0]

    async def consume(self, offset: int, *, rack: str = "", max_wait_ms: int = 0, index: int = 0) -> Any:
        wanted = FetchPartition(partition=index, fetch_offset=offset, partition_max_bytes=1 << 20)
        body = FetchRequest(
            max_wait_ms=max_wait_ms,
            min_bytes=1,
            session_epoch=-1,
            topics=[FetchTopic(topic="orders", partitions=[wanted])],
            rack_id=rack,
        )
        return (await self.call(12, body)).responses[0].partitions[0]

    def values(self, index: int = 0) -> list[bytes]:
        """Everything in the log, committed or not."""
        log = self.partition(index).log
        found: list[bytes] = []
        offset = log.log_start_offset
        while offset < log.log_end_offset:
            fetched = log.read(offset, 1 << 20, min_one=True)
            for _, view in iterate_batches(memoryview(fetched.data)):
                found += [record.value or b"" for record in decode_records(view) if record.offset >= offset]
            offset = fetched.next_offset
        return found

    async def stop(self) -> None:
        await self.replicas.close()
        await self.logs.close()

    def kill(self) -> None:
        self.replicas.kill()
        self.logs.closing = True
        self.logs.housekeeping.kill()
        for directory in self.logs.live.values():
            directory.unlock()


class Cluster:
    """Brokers, links, metadata, and a clock that the test may set."""

    def __init__(self, directory: Path, overrides: dict[str, str]) -> None:
        self.directory = directory
        self.overrides = overrides
        self.image: ClusterImage = EMPTY_IMAGE
        self.brokers: dict[int, Broker] = {}
        self.cut: set[frozenset[int]] = set()
        self.proposals: list[IsrChange] = []
        self.on_proposal: Callable[[IsrChange], ErrorCode | None] = lambda change: None
        self.hold_isr = False
        """True: proposals stay unanswered."""
        self.now_ms = NOW_MS
        self.topic_id = uuid.uuid4()
        self.deaf: set[int] = set()
        """Brokers that hear no metadata."""

    def time_ms(self) -> int:
        return self.now_ms

    # -- brokers ------------------------------------------------------------------------------------------------------

    async def start(self, node_id: int, *, rack: str | None = None, register: bool = True) -> Broker:
        broker = Broker(self, node_id, self.directory / str(node_id))
        await broker.start()
        self.brokers[node_id] = broker
        self._catch_up(broker)
        if register:
            self.replay(
                RegisterBrokerRecord(
                    broker_id=node_id,
                    broker_epoch=self.image.offset + 1,
                    incarnation_id=uuid.uuid4(),
                    end_points=[BrokerEndpoint(name=LISTENER, host="localhost", port=9000 + node_id)],
                    rack=rack,
                    fenced=False,
                )
            )
        return broker

    def _catch_up(self, broker: Broker) -> None:
        """Tell a new process all there is, as if it came in one piece."""
        image = self.image
        delta = MetadataDelta(EMPTY_IMAGE)
        delta.replay_all(self._records)
        broker.publish(delta, image)

    _records: list[Any] = []

    def replay(self, *records: Any) -> None:
        """Commit metadata records and tell everybody."""
        self._records = [*self._records, *records]
        offset = self.image.offset + len(records)
        delta = MetadataDelta(self.image).replay_all(records)
        base = self.image
        self.image = delta.apply(offset, 1, self.now_ms)
        for broker in list(self.brokers.values()):
            if broker.id in self.deaf:
                continue
            if broker.metadata.image is base:
                broker.publish(delta, self.image)
            else:
                self._catch_up(broker)

    def hear(self, node_id: int) -> None:
        """End a broker's deafness."""
        self.deaf.discard(node_id)
        self._catch_up(self.brokers[node_id])

    async def kill(self, node_id: int) -> None:
        self.brokers.pop(node_id).kill()
        await asyncio.sleep(0)

    def fence(self, node_id: int) -> None:
        self.replay(FenceBrokerRecord(id=node_id, epoch=self.image.brokers[node_id].epoch))

    def linked(self, one: int, other: int) -> bool:
        return frozenset((one, other)) not in self.cut

    def unlink(self, one: int, other: int) -> None:
        self.cut.add(frozenset((one, other)))

    # -- the controller -----------------------------------------------------------------------------------------------

    def create(
        self, replicas: Sequence[int] = (1, 2, 3), *, partitions: int = 1, leader: int | None = None, **configs: str
    ) -> None:
        self.replay(
            *(
                ConfigRecord(resource_type=2, resource_name="orders", name=key.replace("_", "."), value=value)
                for key, value in configs.items()
            ),
            TopicRecord(name="orders", topic_id=self.topic_id),
            *(
                PartitionRecord(
                    partition_id=index,
                    topic_id=self.topic_id,
                    replicas=list(replicas),
                    isr=list(replicas),
                    leader=replicas[0] if leader is None else leader,
                    leader_epoch=0,
                    partition_epoch=0,
                )
                for index in range(partitions)
            ),
        )

    @property
    def state(self) -> PartitionImage:
        found = self.image.partition("orders", 0)
        assert found is not None
        return found

    def change(self, index: int = 0, **fields: Any) -> None:
        self.replay(PartitionChangeRecord(partition_id=index, topic_id=self.topic_id, **fields))

    def lead(self, leader: int, isr: Sequence[int] | None = None, index: int = 0) -> None:
        fields: dict[str, Any] = {} if isr is None else {"isr": list(isr)}
        self.change(index, leader=leader, **fields)

    def alter_partition(self, change: IsrChange, answered: IsrAnswered) -> None:
        self.proposals.append(change)
        if not self.hold_isr:
            asyncio.get_running_loop().call_soon(self._alter, change, answered)

    def _alter(self, change: IsrChange, answered: IsrAnswered) -> None:
        state = self.image.topics_by_id[change.topic_id].partitions[change.index]
        error = self.on_proposal(change)
        if error is None and change.leader_epoch < state.leader_epoch:
            error = ErrorCode.FENCED_LEADER_EPOCH
        if error is None and change.partition_epoch != state.partition_epoch:
            error = ErrorCode.INVALID_UPDATE_VERSION
        for member in change.isr:
            broker = self.image.brokers[member.broker_id]
            if error is None and (broker.fenced or member.broker_epoch not in (-1, broker.epoch)):
                error = ErrorCode.INELIGIBLE_REPLICA
        if error is not None:
            answered(error)
            return
        self.change(change.index, isr=[member.broker_id for member in change.isr])
        state = self.image.topics_by_id[change.topic_id].partitions[change.index]
        answered(IsrAnswer(state.leader, state.leader_epoch, state.partition_epoch, state.isr))

    # -- waiting ------------------------------------------------------------------------------------------------------

    until = staticmethod(until)

    async def until_equal(self, *ids: int, index: int = 0) -> None:
        """The logs of these brokers end at the same offset."""
        await self.until(lambda: len({self.brokers[one].partition(index).log.log_end_offset for one in ids}) == 1)


def run(directory: Path, scenario: Callable[[Cluster], Awaitable[None]], *, brokers: int = 3, **overrides: str) -> None:
    """Run a scenario on some brokers that are registered already."""

    async def main() -> None:
        cluster = Cluster(directory, {key.replace("_", "."): value for key, value in overrides.items()})
        for node_id in range(1, brokers + 1):
            await cluster.start(node_id)
        try:
            await scenario(cluster)
        finally:
            for broker in list(cluster.brokers.values()):
                await broker.stop()

    asyncio.run(main())

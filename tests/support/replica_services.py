"""Services with real logs in a directory, as far as Produce and Fetch need them, and requests by hand."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from broadsheet_broker.apis.notices import Notices
from broadsheet_broker.apis.registry import REGISTRY
from broadsheet_broker.apis.request import Request
from broadsheet_broker.log import LogConfig, LogManager
from broadsheet_broker.metadata.delta import MetadataDelta
from broadsheet_broker.metadata.image import EMPTY_IMAGE
from broadsheet_broker.replication import ReplicaManager
from broadsheet_broker.seams import Environment, Files, LocalFiles
from broadsheet_broker.wire.api_messages import request_class, response_class
from broadsheet_broker.wire.messages.config_record import ConfigRecord
from broadsheet_broker.wire.messages.partition_change_record import PartitionChangeRecord
from broadsheet_broker.wire.messages.partition_record import PartitionRecord
from broadsheet_broker.wire.messages.register_broker_record import BrokerEndpoint, RegisterBrokerRecord
from broadsheet_broker.wire.messages.remove_topic_record import RemoveTopicRecord
from broadsheet_broker.wire.messages.topic_record import TopicRecord
from broadsheet_broker.wire.records import build_batch
from tests.support.virtual_time import START_MS, HandClock
from tests.support.waiting import until

NOW_MS = START_MS


class Metadata:
    """A MetadataCache that takes records directly."""

    def __init__(self) -> None:
        self.image = EMPTY_IMAGE
        self.defaults: dict[str, str] = {}
        self.subscriber: Any = None

    def topic_config(self, name: str) -> dict[str, str]:
        own = self.image.config(2, name)
        return {**self.defaults, **own} if own else self.defaults

    def replay(self, *records: Any) -> None:
        delta = MetadataDelta(self.image).replay_all(records)
        self.image = delta.apply(self.image.offset + len(records), 1, NOW_MS)
        self.subscriber(delta, self.image)


def run(directory: Path, scenario: Callable[[Bench], Awaitable[None]], *, files: Files | None = None) -> None:
    """Run a scenario with services whose logs are in `directory`, then stop cleanly."""

    async def main() -> None:
        bench = Bench(directory, files or LocalFiles())
        await bench.start()
        try:
            await scenario(bench)
        finally:
            await bench.close()

    asyncio.run(main())


class Settings:
    node_id = 1
    values = {
        "max.incremental.fetch.session.cache.slots": 1000,
        "fetch.max.bytes": 55 * 1024 * 1024,
        "replica.high.watermark.checkpoint.interval.ms": 5000,
        "replica.lag.time.max.ms": 30_000,
    }

    def get_optional_str(self, key: str) -> str | None:
        return None

    def get_int(self, key: str) -> int:
        return self.values[key]


class Connection:
    id = 1
    listener = "PLAINTEXT"
    host = "127.0.0.1"
    principal = "User:ANONYMOUS"
    closed = False
    keeps_up = True


class Call(Request[Any]):
    """A request that went over the wire, and its answer that came back over the wire."""

    __slots__ = ("held", "hung_up", "outcome", "silent")

    held: bool
    """Whether later requests of the connection would have to wait."""

    def hold(self) -> None:
        self.held = True

    def release(self) -> None:
        self.held = False

    def answer(self, message: Any) -> None:
        assert self.outcome is None
        assert not self.silent
        data = b"".join(map(bytes, message.encode(self.version)))
        self.outcome, end = response_class(self.api_key).decode(memoryview(data), self.version)
        assert end == len(data)

    def answer_nothing(self) -> None:
        self.silent = True

    def hang_up(self) -> None:
        self.hung_up = True


class Bench:
    """A broker's services around a loop. Use inside `asyncio.run`."""

    def __init__(self, directory: Path, files: Files) -> None:
        loop = asyncio.get_running_loop()
        self.clock = HandClock()
        self.work: set[asyncio.Future[None]] = set()
        """Handlers that take their time."""
        self.environment = Environment(loop=loop, clock=self.clock, files=files)
        self.metadata = Metadata()
        self.logs = LogManager(
            self.environment,
            [str(directory)],
            config_for=lambda topic: LogConfig.of(self.metadata.topic_config(topic)),
        )
        self.replicas = ReplicaManager(
            self.environment,
            Settings(),  # type: ignore[arg-type]
            self.logs,
            self.metadata,  # type: ignore[arg-type]
        )
        self.metadata.subscriber = self.replicas.apply
        self.services: Any = SimpleNamespace(
            environment=self.environment,
            config=Settings(),
            metadata=self.metadata,
            replicas=self.replicas,
            notices=Notices(),
        )

    async def start(self) -> None:
        await self.logs.start()
        self.replicas.start()
        for broker in (1, 2):
            self.metadata.replay(
                RegisterBrokerRecord(
                    broker_id=broker,
                    end_points=[BrokerEndpoint(name="PLAINTEXT", host=f"host-{broker}", port=9092)],
                    fenced=False,
                )
            )

    def create(
        self,
        name: str = "orders",
        partitions: int = 1,
        *,
        leader: int = 1,
        topic_id: uuid.UUID | None = None,
        replicas: Sequence[int] = (),
        isr: Sequence[int] = (),
        **configs: str,
    ) -> uuid.UUID:
        topic_id = topic_id or uuid.uuid4()
        replicas = list(replicas) or ([1] if leader == 1 else [1, leader])
        self.metadata.replay(
            *(
                ConfigRecord(resource_type=2, resource_name=name, name=key.replace("_", "."), value=value)
                for key, value in configs.items()
            ),
            TopicRecord(name=name, topic_id=topic_id),
            *(
                PartitionRecord(
                    partition_id=index,
                    topic_id=topic_id,
                    replicas=replicas,
                    isr=list(isr) or replicas,
                    leader=leader,
                    leader_epoch=0,
                    partition_epoch=0,
                )
                for index in range(partitions)
            ),
        )
        return topic_id

    def move_leader(self, topic_id: uuid.UUID, leader: int, index: int = 0) -> None:
        self.metadata.replay(
            PartitionChangeRecord(partition_id=index, topic_id=topic_id, leader=leader, replicas=[1, 2], isr=[1, 2])
        )

    def delete(self, topic_id: uuid.UUID) -> None:
        self.metadata.replay(RemoveTopicRecord(topic_id=topic_id))

    def begin(self, key: int, version: int, body: Any, client_id: str = "test") -> Call:
        """Send a request through its encoded form; the answer may come later."""
        data = b"".join(body.encode(version))
        decoded, end = request_class(key).decode(memoryview(data), version)
        assert end == len(data)
        call = Call(key, version, 1, client_id, decoded, Connection(), self.environment.monotonic())
        call.outcome, call.silent, call.hung_up = None, False, False
        result = REGISTRY[key].handler(self.services, call)
        if isinstance(result, Coroutine):
            self.work.add(asyncio.ensure_future(result))
        return call

    async def call(self, key: int, version: int, body: Any, client_id: str = "test") -> Any:
        """Send a request and wait for its answer."""
        call = self.begin(key, version, body, client_id)
        await self.until(lambda: call.outcome is not None or call.silent or call.hung_up)
        return call.outcome if call.outcome is not None else call

    until = staticmethod(until)

    async def close(self) -> None:
        await self.replicas.close()
        await self.logs.close()


def batch(*values: bytes, key: bytes | None = b"k", timestamp: int = NOW_MS, **options: Any) -> bytes:
    return bytes(build_batch([(timestamp, key, value, []) for value in values], **options))

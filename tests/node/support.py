"""Several controllers over one log that needs no elections: who leads is what the test says."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from broadsheet_broker.apis import load
from broadsheet_broker.config import BrokerConfig
from broadsheet_broker.controller.orders import carry_out
from broadsheet_broker.metadata import MetadataCache
from broadsheet_broker.node import Identity, MetadataNode
from broadsheet_broker.raft.node import Committed
from broadsheet_broker.raft.voters import ReplicaKey, Voter, VoterSet
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.api_messages import api_name
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.api_versions_response import ApiVersionsResponse
from broadsheet_broker.wire.peers import Address, PeerError
from tests.support.memory_files import MemoryFiles
from tests.support.waiting import until

CLUSTER_ID = "4L6g3nShT-eMCtK--X86sw"
COMMIT_SECONDS = 0.001


class FakeRaft:
    """What Controller needs of raft.node.RaftNode, over the quorum's common log."""

    def __init__(self, quorum: Quorum, id: int, listener: Any) -> None:
        self.quorum, self.id, self.listener = quorum, id, listener
        self.failure: KafkaError | None = None
        self.is_behind = False
        self.alive = True
        self.applied = 0

    @property
    def voters(self) -> VoterSet:
        return self.quorum.voters

    @property
    def epoch(self) -> int:
        return self.quorum.epoch

    @property
    def leader_id(self) -> int | None:
        return self.quorum.leader

    @property
    def is_leader(self) -> bool:
        return self.quorum.leader == self.id and self.alive

    @property
    def former_leader(self) -> tuple[int, float] | None:
        return None

    @property
    def leader_address(self) -> Address | None:
        return None if self.leader_id is None else Address(f"node-{self.leader_id}", 9093)

    def kill(self) -> None:
        self.alive = False

    @property
    def storage(self) -> Any:
        return SimpleNamespace(end_offset=self.quorum.end_offset)

    async def start(self) -> None:
        self.quorum.nodes[self.id] = self
        self.catch_up()
        self.listener.handle_leader(self.epoch, self.leader_id)

    async def stop(self) -> None:
        self.alive = False
        if self.quorum.leader == self.id:
            self.quorum.elect(None)

    def append(self, values: Sequence[bytes], tag: Any) -> int:
        if not self.is_leader:
            raise KafkaError(ErrorCode.NOT_CONTROLLER)
        return self.quorum.append(values, tag, self.id)

    def catch_up(self) -> None:
        """Hear of everything committed."""
        fresh = self.quorum.log[self.applied : self.quorum.committed]
        self.applied += len(fresh)
        if fresh and self.alive:
            self.listener.handle_commit(
                [batch._replace(tag=None) if owner != self.id else batch for batch, owner in fresh]
            )


class Quorum:
    """The common log, and who leads."""

    def __init__(self, size: int) -> None:
        self.voters = VoterSet(
            {id: Voter(ReplicaKey(id), {"CONTROLLER": (f"node-{id}", 9093)}) for id in range(1, size + 1)}
        )
        self.nodes: dict[int, FakeRaft] = {}
        self.controllers: dict[int, FakeController] = {}
        self.log: list[tuple[Committed, int]] = []
        self.committed = 0
        self.end_offset = 0
        self.epoch = 0
        self.leader: int | None = None
        self.stuck = False
        """Nothing more is committed."""
        self.lives: list[int] = []
        """Every process that there was, by the id of its node."""
        self.refused: set[int] = set()
        """Nodes whose process is gone."""

    def elect(self, id: int | None) -> None:
        self.epoch += 1
        self.leader = id
        if id is not None:
            self.append([], None, id)
        for node in list(self.nodes.values()):
            if node.alive:
                asyncio.get_running_loop().call_soon(node.listener.handle_leader, self.epoch, id)

    def append(self, values: Sequence[bytes], tag: Any, owner: int) -> int:
        base, self.end_offset = self.end_offset, self.end_offset + max(len(values), 1)
        self.log.append((Committed(base, self.end_offset - 1, self.epoch, 1, 1, list(values), tag), owner))
        asyncio.get_running_loop().call_later(COMMIT_SECONDS, self._commit, len(self.log))
        return self.end_offset - 1

    def _commit(self, length: int) -> None:
        if not self.stuck:
            self.committed = max(self.committed, length)
            for node in list(self.nodes.values()):
                node.catch_up()

    def kill(self, id: int) -> None:
        """A process ends without a word."""
        self.refused.add(id)
        if id in self.nodes:
            self.nodes[id].alive = False
        self.controllers[id].kill()
        if self.leader == id:
            self.elect(None)


class FakePeers:
    """Requests to other nodes, through the codec and straight into their controllers."""

    def __init__(self, quorum: Quorum) -> None:
        self.quorum = quorum

    def send(
        self,
        node_id: int,
        address: Address,
        request: Any,
        version: int,
        on_answer: Callable[[Any, PeerError | None], None],
        *,
        timeout: float,
        lane: str = "",
    ) -> None:
        data = memoryview(b"".join(request.encode(version)))
        decoded, _ = type(request).decode(data, version)
        asyncio.get_running_loop().create_task(self._answer(node_id, decoded, version, on_answer, timeout))

    async def _answer(self, node_id: int, request: Any, version: int, on_answer: Any, seconds: float) -> None:
        await asyncio.sleep(0)
        target = self.quorum.controllers.get(node_id)
        if target is None or node_id in self.quorum.refused:
            on_answer(None, PeerError("refused", "no process listens"))
            return
        name = api_name(request.API_KEY)
        if name == "ApiVersions":
            on_answer(ApiVersionsResponse(), None)
            return
        try:
            async with asyncio.timeout(seconds):
                answer = await carry_out(target.active, request, version)
        except KafkaError as error:
            answer = load()[request.API_KEY].refuse(request, version, error)
        except TimeoutError:
            on_answer(None, PeerError("timeout", "too late"))
            return
        data = memoryview(b"".join(answer.encode(version)))
        on_answer(type(answer).decode(data, version)[0], None)

    def disconnect(self, node_id: int) -> None: ...

    async def close(self) -> None: ...


class FakeController(MetadataNode):
    """A node over the common log."""

    def __init__(self, quorum: Quorum, id: int, *, previous_broker_epoch: int = -1, **changes: str) -> None:
        self.quorum = quorum
        values = {
            "process.roles": "broker,controller",
            "node.id": str(id),
            "controller.quorum.voters": ",".join(f"{voter}@node-{voter}:9093" for voter in quorum.voters.ids),
            "listeners": f"PLAINTEXT://node-{id}:9092,CONTROLLER://node-{id}:9093",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": "/data",
            "broker.heartbeat.interval.ms": "100",
            "broker.session.timeout.ms": "1000",
        }
        values |= {key.replace("_", "."): value for key, value in changes.items()}
        environment = Environment(asyncio.get_running_loop(), random=random.Random(f"{id}-{len(quorum.lives)}"))
        quorum.lives.append(id)
        environment.files = MemoryFiles()  # type: ignore[assignment]
        config = BrokerConfig(values)
        directory = uuid.UUID(int=1000 + id)
        identity = Identity(CLUSTER_ID, id, {"/data": directory}, "/data", directory)
        self.cache = MetadataCache(config)
        super().__init__(
            environment,
            config,
            self.cache,
            identity,
            peers=FakePeers(quorum),
            previous_broker_epoch=previous_broker_epoch,
        )
        quorum.controllers[id] = self
        quorum.refused.discard(id)

    def _make_raft(self) -> Any:
        return FakeRaft(self.quorum, self._config.node_id, self)


async def start(size: int, **changes: str) -> tuple[Quorum, dict[int, FakeController]]:
    """A quorum whose first node leads and whose brokers are all active."""
    quorum = Quorum(size)
    quorum.elect(1)
    nodes = {id: FakeController(quorum, id, **changes) for id in quorum.voters.ids}
    await asyncio.gather(*(node.start() for node in nodes.values()))
    await asyncio.gather(*(node.join() for node in nodes.values()))
    for node in nodes.values():
        await until(lambda node=node: sum(b.is_active for b in node.cache.image.brokers.values()) == size)  # type: ignore[misc]
    return quorum, nodes

"""Whole nodes of a metadata quorum on a simulated network: real files' formats, real messages, real sockets' order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from broadsheet_broker import apis
from broadsheet_broker.config import load_config
from broadsheet_broker.network import Server
from broadsheet_broker.network.peers import NodePeers
from broadsheet_broker.raft.machine import QuorumSettings
from broadsheet_broker.raft.node import Committed, RaftNode, RaftSettings, SnapshotSource
from broadsheet_broker.raft.snapshot import SnapshotId, encode_snapshot
from broadsheet_broker.raft.voters import ReplicaKey, Voter, VoterSet
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from tests.support.memory_files import MemoryFiles
from tests.support.simulated_loop import Host, Simulation

CLUSTER = "4L6g3nShT-eMCtK--X86sw"


class Listener:
    """The state is the list of all values."""

    def __init__(self) -> None:
        self.values: list[bytes] = []
        self.end = 0
        self.epoch = 0
        self.leaders: list[tuple[int, int | None]] = []
        self.snapshots = 0

    def load_snapshot(self, id: SnapshotId, timestamp_ms: int, values: Sequence[bytes]) -> None:
        assert id.offset >= self.end
        self.values, self.end, self.epoch = list(values), id.offset, id.epoch
        self.snapshots += 1

    def handle_commit(self, batches: Sequence[Committed]) -> None:
        for batch in batches:
            assert batch.base_offset == self.end, "a batch is missing or comes twice"
            self.values += batch.tag if batch.tag is not None else batch.values
            self.end, self.epoch = batch.last_offset + 1, batch.epoch

    def handle_append_failure(self, tags: Sequence[Any], error: KafkaError) -> None: ...

    def handle_refusal(self, error: KafkaError) -> None: ...

    def handle_leader(self, epoch: int, leader_id: int | None) -> None:
        self.leaders.append((epoch, leader_id))

    def snapshot_source(self) -> SnapshotSource | None:
        values = list(self.values)
        return SnapshotSource(self.end - 1, self.epoch, 0, lambda: values) if self.end else None


class Node:
    """One node of the quorum on a host of its own; its files outlive it."""

    def __init__(self, quorum: Quorum, id: int, voters: VoterSet) -> None:
        self.quorum = quorum
        self.id = id
        self.voters = voters
        self.host: Host = quorum.simulation.host(f"node-{id}")
        self.files = MemoryFiles()
        self.files.make_directory("/data")
        self.raft: RaftNode
        self.listener = Listener()
        self.up = False

    def start(self) -> None:
        self.quorum.simulation.run(self.host, self._start())
        self.up = True

    async def _start(self) -> None:
        environment = self.host.environment(self.files)
        config = load_config(None, [f"listeners=PLAINTEXT://{self.host.name}:9092,CONTROLLER://{self.host.name}:9093"])
        self.listener = Listener()
        self.raft = RaftNode(
            environment,
            "/data",
            ReplicaKey(self.id, self.quorum.directory(self.id)),
            self.voters,
            RaftSettings(retention_bytes=self.quorum.retention_bytes, quorum=QuorumSettings(fetch_max_bytes=5000)),
            self.listener,
            peers=NodePeers(environment, f"broker-{self.id}"),
            cluster_id=CLUSTER,
            endpoints={"CONTROLLER": (self.host.name, 9093)},
            bootstrap_servers=[("node-1", 9093), ("node-2", 9093)] if not self.voters.voters else [],
        )
        services = SimpleNamespace(config=config, node=SimpleNamespace(raft=self.raft), environment=environment)
        await Server(environment, config, services, apis.load()).start()  # type: ignore[arg-type]
        await self.raft.start()

    def kill(self) -> None:
        self.raft.kill()
        self.host.kill()
        self.files.kill()
        self.up = False


class Quorum:
    """Nodes, and the work of keeping them busy."""

    def __init__(self, seed: int, size: int = 3, retention_bytes: int = 1 << 30) -> None:
        self.simulation = Simulation(seed)
        self.retention_bytes = retention_bytes
        ids = range(1, size + 1)
        self.voters = VoterSet({id: Voter(ReplicaKey(id), {"CONTROLLER": (f"node-{id}", 9093)}) for id in ids})
        self.nodes = [Node(self, id, self.voters) for id in ids]

    @staticmethod
    def directory(id: int) -> Any:
        import uuid

        return uuid.UUID(int=1000 + id)

    def start(self) -> None:
        for node in self.nodes:
            node.start()

    def reach(self, reached: Callable[[], bool], seconds: float = 20) -> float:
        """Let time pass until something is so; returns how long that took."""
        began = self.simulation.time
        while not reached():
            assert self.simulation.time < began + seconds, [
                (node.id, node.up and (node.raft.role.name, node.raft.epoch, node.listener.end)) for node in self.nodes
            ]
            self.simulation.run_for(0.01)
        return self.simulation.time - began

    @property
    def leader(self) -> Node | None:
        """Who leads the newest epoch and has told its listener so."""
        found = [
            n for n in self.nodes if n.up and n.raft.is_leader and n.listener.leaders[-1:] == [(n.raft.epoch, n.id)]
        ]
        return max(found, key=lambda node: node.raft.epoch, default=None)

    def wait_for_leader(self) -> Node:
        self.reach(lambda: self.leader is not None)
        assert self.leader is not None
        return self.leader

    def append(self, *values: bytes) -> None:
        node = self.wait_for_leader()
        with node.host.loop.running():
            for value in values:
                node.raft.append([value], [value])

    def run(self, node: Node, work: Coroutine[Any, Any, Any]) -> Any:
        return self.simulation.run(node.host, work)

    def all_have(self, *values: bytes) -> bool:
        return all(node.listener.values == list(values) for node in self.nodes if node.up)


@pytest.fixture
def make() -> Iterator[Callable[..., Quorum]]:
    made: list[Quorum] = []

    def make(seed: int, **options: Any) -> Quorum:
        made.append(Quorum(seed, **options))
        return made[-1]

    yield make
    for quorum in made:
        quorum.simulation.end()


Make = Callable[..., Quorum]


@pytest.mark.parametrize("seed", range(5))
def test_three_nodes_elect_one_and_agree(make: Make, seed: int) -> None:
    quorum = make(seed)
    quorum.start()
    quorum.append(b"one", b"two")
    quorum.reach(lambda: quorum.all_have(b"one", b"two"))
    leader = quorum.wait_for_leader()
    assert {node.raft.leader_id for node in quorum.nodes} == {leader.id}
    with pytest.raises(KafkaError) as refused:
        next(node for node in quorum.nodes if node is not leader).raft.append([b"x"], None)
    assert refused.value.code is ErrorCode.NOT_CONTROLLER


@pytest.mark.parametrize("seed", range(5))
def test_a_killed_leader_is_followed_within_half_a_second_and_comes_back(make: Make, seed: int) -> None:
    quorum = make(seed)
    quorum.start()
    quorum.append(b"one")
    quorum.reach(lambda: quorum.all_have(b"one"))
    killed = quorum.wait_for_leader()
    killed.kill()
    assert quorum.reach(lambda: quorum.leader is not None) < 0.5
    quorum.append(b"two")
    quorum.reach(lambda: quorum.all_have(b"one", b"two"))
    killed.start()
    quorum.reach(lambda: killed.listener.values == [b"one", b"two"])


def test_a_leader_that_is_cut_off_resigns_and_its_records_are_undecided(make: Make) -> None:
    quorum = make(3)
    quorum.start()
    quorum.append(b"one")
    quorum.reach(lambda: quorum.all_have(b"one"))
    old = quorum.wait_for_leader()
    others = [node for node in quorum.nodes if node is not old]
    quorum.simulation.network.partition([old.host], [node.host for node in others])
    quorum.append(b"lost")
    quorum.reach(lambda: quorum.leader is not None and quorum.leader is not old)
    quorum.append(b"two")
    quorum.reach(lambda: all(node.listener.values == [b"one", b"two"] for node in others))
    assert not old.raft.is_leader and old.listener.leaders[-1][1] is None
    quorum.simulation.network.heal()
    quorum.reach(lambda: quorum.all_have(b"one", b"two"))


def test_a_node_that_was_away_for_long_takes_a_snapshot(make: Make) -> None:
    quorum = make(4, retention_bytes=1)
    quorum.start()
    away = next(node for node in quorum.nodes if node is not quorum.wait_for_leader())
    away.kill()
    values = [b"%05d" % number * 100 for number in range(60)]
    quorum.append(*values[:30])
    quorum.reach(lambda: quorum.all_have(*values[:30]))
    for node in quorum.nodes:
        if node.up:
            quorum.run(node, node.raft.write_snapshot())
    quorum.append(*values[30:])
    quorum.reach(lambda: quorum.all_have(*values))
    away.start()
    quorum.reach(lambda: quorum.all_have(*values))
    assert away.listener.snapshots == 1
    away.kill()
    away.start()
    quorum.reach(lambda: quorum.all_have(*values))


def test_all_nodes_lose_power_at_once(make: Make) -> None:
    quorum = make(5)
    quorum.start()
    quorum.append(b"one", b"two")
    quorum.reach(lambda: quorum.all_have(b"one", b"two"))
    for node in quorum.nodes:
        node.kill()
        node.files.lose_power(quorum.simulation.random)
    quorum.start()
    quorum.append(b"three")
    quorum.reach(lambda: quorum.all_have(b"one", b"two", b"three"))


def test_a_leader_that_stops_hands_over_at_once(make: Make) -> None:
    quorum = make(6)
    quorum.start()
    leader = quorum.wait_for_leader()
    quorum.run(leader, leader.raft.stop())
    leader.up = False
    assert quorum.reach(lambda: quorum.leader is not None) < 1.0


def test_observers_follow_and_never_vote(make: Make) -> None:
    quorum = make(7)
    observer = Node(quorum, 9, quorum.voters)
    quorum.start()
    observer.start()
    quorum.append(b"one")
    quorum.reach(lambda: observer.listener.values == [b"one"])
    quorum.wait_for_leader().kill()
    quorum.append(b"two")
    quorum.reach(lambda: observer.listener.values == [b"one", b"two"])


def voter_of(quorum: Quorum, id: int) -> Voter:
    return Voter(ReplicaKey(id, quorum.directory(id)), {"CONTROLLER": (f"node-{id}", 9093)})


def begin_with_one_voter(quorum: Quorum, size: int) -> list[Node]:
    """Nodes of a quorum whose voters stand in the log: the first one. The others have caught up."""
    nodes = quorum.nodes = [Node(quorum, id, VoterSet({}, dynamic=True)) for id in range(1, size + 1)]
    first = encode_snapshot([], 0, 0, 0, VoterSet({1: voter_of(quorum, 1)}, dynamic=True))
    nodes[0].files.make_directory("/data/__cluster_metadata-0")
    nodes[0].files.replace(f"/data/__cluster_metadata-0/{SnapshotId(0, 0).file_name}", first)
    for node in nodes:
        node.start()
    quorum.append(b"one")
    quorum.reach(lambda: quorum.all_have(b"one"))
    quorum.simulation.run_for(10)
    return nodes


def test_a_new_voter_that_the_disk_refuses_to_write_down_is_none(make: Make) -> None:
    """A quorum of one that believed in it waited for a second vote for ever."""
    quorum = make(9)
    first, _ = begin_with_one_voter(quorum, 2)
    first.files.capacity = 1
    answer = quorum.run(first, first.raft.add_voter(voter_of(quorum, 2), 5000, True))
    assert answer.error is ErrorCode.KAFKA_STORAGE_ERROR
    assert first.raft.voters.ids == [1]
    first.files.capacity = None
    quorum.append(b"two")
    quorum.reach(lambda: quorum.all_have(b"one", b"two"))
    assert quorum.run(first, first.raft.add_voter(voter_of(quorum, 2), 5000, True)).error is ErrorCode.NONE
    quorum.reach(lambda: all(node.raft.voters.ids == [1, 2] for node in quorum.nodes))


def test_voters_are_added_and_removed(make: Make) -> None:
    """From a quorum of one to three, and without the first again (KIP-853)."""
    quorum = make(8)
    nodes = begin_with_one_voter(quorum, 3)
    for id in (2, 3):
        voter = voter_of(quorum, id)
        answer = quorum.run(nodes[0], nodes[0].raft.add_voter(voter, 5000, True))
        assert answer.error is ErrorCode.NONE, answer
        again = quorum.run(nodes[0], nodes[0].raft.add_voter(voter, 5000, True))
        assert again.error is ErrorCode.DUPLICATE_VOTER
    quorum.reach(lambda: all(node.raft.voters.ids == [1, 2, 3] for node in nodes))
    assert nodes[0].raft.is_leader and nodes[0].raft.epoch == 1
    key = ReplicaKey(1, quorum.directory(1))
    wrong = quorum.run(nodes[0], nodes[0].raft.remove_voter(ReplicaKey(1, quorum.directory(2))))
    assert wrong.error is ErrorCode.VOTER_NOT_FOUND
    removed = quorum.run(nodes[0], nodes[0].raft.remove_voter(key))
    assert removed.error is ErrorCode.NONE, removed
    quorum.reach(lambda: quorum.leader is not None and quorum.leader is not nodes[0])
    quorum.append(b"two")
    quorum.reach(lambda: quorum.all_have(b"one", b"two"))
    assert all(node.raft.voters.ids == [2, 3] for node in nodes)
    for node in nodes:
        node.kill()
    for node in nodes:
        node.start()
    quorum.append(b"three")
    quorum.reach(lambda: quorum.all_have(b"one", b"two", b"three"))
    assert all(node.raft.voters.ids == [2, 3] for node in nodes)


def test_requests_of_another_cluster_are_refused() -> None:
    async def ask() -> Any:
        found: list[Any] = []
        from broadsheet_broker.apis.quorum import vote
        from broadsheet_broker.wire.messages.vote_request import VoteRequest

        request = SimpleNamespace(
            api_key=52, body=VoteRequest(cluster_id="another"), answer=found.append, connection=None
        )
        vote(SimpleNamespace(node=SimpleNamespace(raft=SimpleNamespace(cluster_id=CLUSTER))), request)  # type: ignore[arg-type]
        return found[0]

    assert asyncio.run(ask()).error_code == ErrorCode.INCONSISTENT_CLUSTER_ID

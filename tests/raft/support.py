"""Several Raft machines in a world of chance: messages are lost, late and doubled, machines crash and forget what they
had not flushed. After every event the world checks what Raft promises.

    world = World(seed=7, size=5)
    world.run(20_000)       # ms of faults
    world.settle()          # everything heals: somebody must lead, and everybody catch up
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from broadsheet_broker.raft import messages as m
from broadsheet_broker.raft.machine import QuorumSettings, Raft
from broadsheet_broker.raft.roles import Role
from broadsheet_broker.raft.voters import ReplicaKey, Voter, VoterSet
from broadsheet_broker.wire.errors import ErrorCode

BYTES_PER_ENTRY = 10
"""What an entry counts for in limits and in snapshots."""


class Entry(NamedTuple):
    epoch: int
    value: Any


class WorldLog:
    """A log that keeps all of its entries, even those that only a snapshot stands for."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.durable: list[Entry] = []
        self.start_offset = 0
        self.snapshots: list[m.SnapshotId] = []

    @property
    def end_offset(self) -> int:
        return len(self.entries)

    @property
    def last_epoch(self) -> int:
        return self.entries[-1].epoch if self.entries else 0

    @property
    def oldest_snapshot(self) -> m.SnapshotId | None:
        return self.snapshots[0] if self.snapshots else None

    @property
    def newest_snapshot(self) -> m.SnapshotId | None:
        return self.snapshots[-1] if self.snapshots else None

    def end_of_epoch(self, epoch: int) -> tuple[int, int]:
        for end in range(len(self.entries), self.start_offset, -1):
            if self.entries[end - 1].epoch <= epoch:
                return self.entries[end - 1].epoch, end
        return epoch, self.start_offset

    def crash(self, chance: random.Random) -> None:
        """What is on the disk afterwards: at least what was flushed, and of the rest any beginning."""
        durable, entries = self.durable, self.entries
        if entries[: len(durable)] == durable:
            kept = chance.randint(len(durable), len(entries))
            self.entries = entries[:kept]
        elif chance.random() < 0.5:
            self.entries = list(durable)  # a truncation that never reached the disk
        else:
            pairs = enumerate(zip(entries, durable, strict=False))
            common = next((index for index, (one, other) in pairs if one != other), min(len(entries), len(durable)))
            self.entries = entries[:common]
        self.durable = list(self.entries)


class Machine:
    """One replica: its disk, and while it is up its Raft."""

    def __init__(self, world: World, id: int, *, votes: bool = True) -> None:
        self.world = world
        self.id = id
        self.votes = votes
        self.log = WorldLog()
        self.election = m.ElectionState()
        self.raft: Raft | None = None
        self.life = 0
        self.applied = 0
        self.flushing = False
        self.inbox: list[m.Message] = []
        self.running = False
        self.timer: float | None = None
        self.fetching: list[Entry] = []
        self.voter_history: list[tuple[int, VoterSet]] = []

    def start(self) -> None:
        world = self.world
        self.life += 1
        self.applied = self.log.start_offset
        self.raft = Raft(
            ReplicaKey(self.id),
            self.voters(),
            self.election,
            self.log,
            world.random_of(self),
            world.settings,
            bootstrap_servers=world.bootstrap,
            local_endpoints={"CONTROLLER": (f"host-{self.id}", 9093)},
            flushed_end=self.log.end_offset,
        )
        self.flushing = False
        self.timer = None
        self.step(m.Started())

    def voters(self) -> VoterSet:
        return self.world.voters

    def crash(self) -> None:
        self.raft = None
        self.inbox.clear()
        self.log.crash(self.world.chance)

    def step(self, message: m.Message) -> None:
        """Take a message, and what carrying it out brings about, one after the other."""
        self.inbox.append(message)
        if self.running:
            return
        self.running = True
        try:
            while self.inbox and self.raft is not None:
                before = self.raft.role
                effects = self.raft.step(self.inbox.pop(0), self.world.now)
                self.world.transitions.add((before, self.raft.role))
                for effect in effects:
                    if self.raft is not None:  # else it has crashed in between
                        self.carry_out(effect)
        finally:
            self.running = False

    def carry_out(self, effect: m.Effect) -> None:
        world, raft, log = self.world, self.raft, self.log
        assert raft is not None
        match effect:
            case m.StoreElection(state):
                assert state.leader_epoch >= self.election.leader_epoch, "an epoch came back"
                if state.leader_epoch == self.election.leader_epoch and self.election.voted is not None:
                    assert state.voted in (None, self.election.voted), "two votes in one epoch"
                    assert state.voted is not None or state.leader_id == self.id, "a vote was forgotten"
                self.election = state
                if state.voted is not None:
                    given = world.votes.setdefault((self.id, state.leader_epoch), state.voted)
                    assert given == state.voted, f"{self.id} voted twice in epoch {state.leader_epoch}"
                    if state.voted.id != self.id and world.chance.random() < world.crash_after_vote:
                        world.crash(self, world.chance.uniform(1, 60))  # before the candidate hears of it
            case m.AppendLeaderChange(epoch, leader_id):
                assert leader_id == self.id
                assert world.leaders.setdefault(epoch, self.id) == self.id, f"two leaders in epoch {epoch}"
                self.append(("leader", epoch))
            case m.AppendVoters(voters):
                raise NotImplementedError(voters)
            case m.AppendFetched(records, high_watermark):
                log.entries += records
                self.flush_later()
                self.inbox.append(m.FetchedAppended(log.end_offset, high_watermark))
            case m.Truncate(offset):
                for index in range(offset, min(len(log.entries), len(world.committed))):
                    assert log.entries[index] != world.committed[index], "a committed entry was taken away"
                del log.entries[offset:]
            case m.StoreSnapshotPiece(id, position, data, last):
                if position == 0:
                    self.fetching = []
                self.fetching += data.entries
                if last:
                    world.later(world.chance.uniform(0, 5), self, lambda: self.install(id))
            case m.Send():
                world.carry(self, effect)
            case m.Reply(token, answer):
                token(answer)
            case m.ReplyRecords(token, answer, offset, max_bytes):
                count = max(1, max_bytes // BYTES_PER_ENTRY)
                token(replace(answer, records=log.entries[offset : offset + count]))
            case m.ReplySnapshot(token, answer, position, max_bytes):
                token(self.piece(answer, position, max_bytes))
            case m.LeaderChanged():
                pass
            case m.HighWatermarkAdvanced(offset):
                assert offset > self.applied or offset <= log.start_offset, "a high watermark went back"
                world.commit(self, offset)
            case m.SetTimer(at):
                self.timer = at
                if at is not None:
                    world.later(max(0.0, at - world.now), self, lambda: self.fire(at))

    def fire(self, at: float) -> None:
        if self.timer == at:
            self.step(m.TimerFired())

    def append(self, value: Any) -> None:
        assert self.raft is not None
        self.log.entries.append(Entry(self.raft.epoch, value))
        self.inbox.append(m.Appended(self.log.end_offset))
        self.flush_later()

    def flush_later(self) -> None:
        if not self.flushing:
            self.flushing = True
            end = len(self.log.entries)
            self.world.later(self.world.chance.choice((1, 3, 10, 60)), self, lambda: self.flush(end))

    def flush(self, end: int) -> None:
        self.flushing = False
        end = min(end, self.log.end_offset)
        self.log.durable = self.log.entries[:end]
        self.step(m.Flushed(end))
        if end < self.log.end_offset:
            self.flush_later()

    def take_snapshot(self) -> None:
        """Let a snapshot stand for some of what is committed."""
        chance, log = self.world.chance, self.log
        assert self.raft is not None
        newest = log.snapshots[-1].offset if log.snapshots else 0
        if self.applied > newest and min(self.applied, len(log.durable)) > newest:
            offset = chance.randint(newest + 1, min(self.applied, len(log.durable)))
            log.snapshots.append(m.SnapshotId(offset, log.entries[offset - 1].epoch))
            if chance.random() < 0.7:
                log.snapshots = log.snapshots[-1:]
                log.start_offset = offset

    def piece(self, answer: m.SnapshotAnswer, position: int, max_bytes: int) -> m.SnapshotAnswer:
        id = answer.snapshot
        size = id.offset * BYTES_PER_ENTRY
        if id not in self.log.snapshots:
            return replace(answer, error=ErrorCode.SNAPSHOT_NOT_FOUND)
        if not 0 <= position < size:
            return replace(answer, error=ErrorCode.POSITION_OUT_OF_RANGE)
        first, count = position // BYTES_PER_ENTRY, max(1, max_bytes // BYTES_PER_ENTRY)
        data = Piece(self.log.entries[first : min(first + count, id.offset)])
        return replace(answer, size=size, position=position, data=data)

    def install(self, id: m.SnapshotId) -> None:
        log = self.log
        if self.world.chance.random() < 0.1:
            self.step(m.SnapshotRefused(id))
            return
        assert len(self.fetching) == id.offset
        if (log.last_epoch, log.end_offset) < (id.epoch, id.offset):
            log.entries, log.durable = list(self.fetching), list(self.fetching)
            log.snapshots, log.start_offset = [id], id.offset
        self.step(m.SnapshotInstalled(id))


class Piece:
    """Bytes of a snapshot."""

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries

    def __len__(self) -> int:
        return len(self.entries) * BYTES_PER_ENTRY


class World:
    """Time, the network between machines, and what is known to be committed."""

    def __init__(self, seed: int, size: int = 5, observers: int = 1) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.now = 0.0
        self.settings = QuorumSettings(
            max_wait_ms=self.chance.choice((50, 500)), fetch_max_bytes=40, snapshot_max_bytes=50
        )
        ids = range(1, size + 1)
        self.voters = VoterSet({id: Voter(ReplicaKey(id), {"CONTROLLER": (f"host-{id}", 9093)}) for id in ids})
        self.bootstrap: list[m.Address] = []
        self.machines = {id: Machine(self, id) for id in ids}
        for id in range(101, 101 + observers):
            self.machines[id] = Machine(self, id, votes=False)
        self.leaders: dict[int, int] = {}
        self.votes: dict[tuple[int, int], ReplicaKey] = {}
        """Who got a machine's vote in an epoch."""
        self.crash_after_vote = self.chance.choice((0.0, 0.0, 0.3))
        self.committed: list[Entry] = []
        self.transitions: set[tuple[Role, Role]] = set()
        self.steps = 0
        self.loss = self.chance.choice((0.0, 0.01, 0.1))
        self.longest_delay = self.chance.choice((2.0, 20.0, 300.0))
        self.cut: set[tuple[int, int]] = set()
        self._values = itertools.count()
        self._order = itertools.count()
        self._due: list[tuple[float, int, Machine, int, Callable[[], None]]] = []

    def random_of(self, machine: Machine) -> random.Random:
        """What a machine takes its election timeouts from."""
        return random.Random(self.chance.random())

    def later(self, delay: float, machine: Machine, work: Callable[[], None]) -> None:
        """Do something on a machine, unless it crashes before."""
        heapq.heappush(self._due, (self.now + delay, next(self._order), machine, machine.life, work))

    # The network.

    def carry(self, sender: Machine, send: m.Send) -> None:
        """Bring a question to its machine, and its answer back; something always comes back."""
        receiver = next(o for o in self.machines.values() if f"host-{o.id}" == send.address[0])
        life, answered = sender.life, False

        def back(answer: m.Answer | None, failure: str, delay: float) -> None:
            def arrive() -> None:
                nonlocal answered
                if not answered and sender.life == life and sender.raft is not None:
                    answered = True
                    sender.step(m.Answered(send.request_id, answer, failure))

            heapq.heappush(self._due, (self.now + delay, next(self._order), sender, life, arrive))

        back(None, "timeout", self.settings.request_timeout_ms)
        copies = 2 if self.chance.random() < self.loss else 1
        for _ in range(copies):
            if self.is_lost(sender, receiver):
                continue

            def arrive() -> None:
                if receiver.raft is None:
                    back(None, "refused", self.delay())
                    return

                def reply(answer: m.Answer) -> None:
                    if not self.is_lost(receiver, sender):
                        back(answer, "", self.delay())

                receiver.step(m.Asked(reply, send.question))

            heapq.heappush(self._due, (self.now + self.delay(), next(self._order), receiver, -1, arrive))

    def is_lost(self, sender: Machine, receiver: Machine) -> bool:
        return self.chance.random() < self.loss or (sender.id, receiver.id) in self.cut

    def delay(self) -> float:
        return self.chance.uniform(0.1, self.longest_delay)

    # What happens.

    def run(self, ms: float) -> None:
        """Live with faults."""
        end = self.now + ms
        for machine in self.machines.values():
            if machine.raft is None:
                self.later(self.chance.uniform(0, 500), machine, machine.start)
        next_fault = self.now + self.chance.uniform(100, 3000)
        next_append = self.now
        while self.now < end:
            self.advance(min(next_fault, next_append, end))
            if self.now >= next_append:
                next_append = self.now + self.chance.expovariate(1 / 50)
                self.append_somewhere()
            if self.now >= next_fault:
                next_fault = self.now + self.chance.expovariate(1 / 1500)
                self.fault()

    def advance(self, until: float) -> None:
        while self._due and self._due[0][0] <= until:
            at, _, machine, life, work = heapq.heappop(self._due)
            self.now = at
            if life in (-1, machine.life):
                self.steps += 1
                work()
                self.check(machine)
        self.now = until

    def append_somewhere(self) -> None:
        leaders = [o for o in self.machines.values() if o.raft is not None and o.raft.role is Role.LEADER]
        for machine in leaders:
            if self.chance.random() < 0.8:
                machine.append(next(self._values))
                inbox, machine.inbox = machine.inbox, []
                for message in inbox:
                    machine.step(message)

    def fault(self) -> None:
        chance, machines = self.chance, list(self.machines.values())
        machine = chance.choice(machines)
        match chance.choice(
            ("crash", "crash", "crash all", "cut", "cut one way", "heal", "snapshot", "resign", "stop")
        ):
            case "crash":
                self.crash(machine, chance.choice((10, 300, 5000)))
            case "crash all":
                if chance.random() < 0.3:
                    for other in machines:
                        self.crash(other, chance.uniform(10, 500))
            case "cut":
                group = {o.id for o in machines if chance.random() < 0.4}
                self.cut = {(a.id, b.id) for a in machines for b in machines if (a.id in group) != (b.id in group)}
            case "cut one way":
                self.cut.add((machine.id, chance.choice(machines).id))
            case "heal":
                self.cut.clear()
            case "snapshot":
                for other in machines:
                    if other.raft is not None and chance.random() < 0.5:
                        other.take_snapshot()
            case "resign":
                if machine.raft is not None:
                    machine.step(m.Resign())
            case "stop":
                if machine.raft is not None:
                    machine.step(m.ShutDown())
                    self.later(chance.uniform(0, 2000), machine, lambda: self.crash(machine, 100))

    def crash(self, machine: Machine, down_ms: float) -> None:
        if machine.raft is None:
            return
        machine.crash()
        machine.life += 1
        self.later(down_ms, machine, machine.start)

    def settle(self, ms: float = 30_000) -> None:
        """Everything heals; soon one leads and all have the same."""
        self.cut.clear()
        self.loss, self.longest_delay, self.crash_after_vote = 0.0, 2.0, 0.0
        for machine in self.machines.values():
            if machine.raft is not None and machine.raft.is_stopping:
                self.crash(machine, 10)
        end = self.now + ms
        while self.now < end:
            self.advance(self.now + 100)
            if self.is_settled():
                return
        raise AssertionError(f"seed {self.seed}: not settled: {[self.describe(o) for o in self.machines.values()]}")

    def is_settled(self) -> bool:
        rafts = [machine.raft for machine in self.machines.values()]
        leaders = [raft for raft in rafts if raft is not None and raft.role is Role.LEADER]
        if len(leaders) != 1 or any(raft is None for raft in rafts):
            return False
        end = leaders[0].log.end_offset
        return all(
            raft is not None and raft.epoch == leaders[0].epoch and raft.log.end_offset == raft.high_watermark == end
            for raft in rafts
        )

    @staticmethod
    def describe(machine: Machine) -> str:
        raft = machine.raft
        if raft is None:
            return f"{machine.id} down"
        return f"{machine.id} {raft.role.name} epoch {raft.epoch} hw {raft.high_watermark} end {raft.log.end_offset}"

    # What must hold.

    def commit(self, machine: Machine, offset: int) -> None:
        """A machine takes everything below the offset for committed."""
        log = machine.log
        assert offset <= log.end_offset, f"high watermark {offset} beyond the end {log.end_offset}"
        for index in range(min(machine.applied, offset), offset):
            entry = log.entries[index]
            if index < len(self.committed):
                assert self.committed[index] == entry, f"entry {index} was committed as another one"
            else:
                self.committed.append(entry)
                holding = sum(
                    o.log.durable[index : index + 1] == [entry] for o in self.machines.values() if o.id in self.voters
                )
                assert holding >= self.voters.majority, f"entry {index} is committed on {holding} machines"
        machine.applied = max(machine.applied, offset)

    def check(self, machine: Machine) -> None:
        """Logs match, and a leader has everything that was committed before it."""
        raft = machine.raft
        if raft is None:
            return
        entries = machine.log.entries
        for other in self.machines.values():
            if other is not machine:
                last = min(len(entries), len(other.log.entries)) - 1
                if last >= 0 and entries[last].epoch == other.log.entries[last].epoch:
                    assert entries[last] == other.log.entries[last], "two entries of one epoch and offset"
        if raft.role is Role.LEADER and self.steps % 50 == 0 and raft.epoch == max(self.leaders):
            assert entries[: len(self.committed)] == self.committed[: len(entries)], "a leader lacks what is committed"
            assert len(entries) >= len(self.committed), "a leader lacks what is committed"
        if not machine.votes:
            assert raft.role in (Role.UNATTACHED, Role.FOLLOWER), "an observer takes part in elections"

    def check_all(self) -> None:
        """Whole logs, at the end."""
        for one, other in itertools.combinations(self.machines.values(), 2):
            same = [a.epoch == b.epoch for a, b in zip(one.log.entries, other.log.entries, strict=False)]
            last = max((index for index, equal in enumerate(same) if equal), default=-1)
            assert one.log.entries[: last + 1] == other.log.entries[: last + 1], "logs do not match"


def run_seed(seed: int, *, size: int = 5, ms: float = 20_000) -> World:
    world = World(seed, size)
    try:
        world.run(ms)
        world.check_all()
        world.settle()
        world.check_all()
    except Exception as error:
        error.add_note(f"seed {seed} after {world.steps} steps at {world.now:.1f} ms")
        raise
    return world

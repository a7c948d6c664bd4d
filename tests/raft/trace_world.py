"""Runs a trace: commands for a few Raft machines, and below each what the machines do because of it.

A trace is a test and a description of the protocol at once (tests/raft/traces/*.txt, in the form of etcd's raft).
A command and its output are separated by a line of dashes, commands by an empty line; `#` begins a comment. The world
is the one of the seeds without chance: every message takes 1 ms and every flush 2 ms; node 1 has the shortest election
timeout, node 2 the next. An entry is written as its epoch and its value: `2:b`. A question that is repeated word for
word is shown once.

    .venv/bin/python -m tests.raft.trace_world            compares
    .venv/bin/python -m tests.raft.trace_world --rewrite  writes what happens now into the files: read the diff
"""

from __future__ import annotations

import pathlib
import random
import sys
import uuid
from collections.abc import Callable
from typing import NamedTuple

from broadsheet_broker.raft import messages as m
from broadsheet_broker.raft.voters import ReplicaKey, Voter, VoterSet
from broadsheet_broker.wire.errors import ErrorCode
from tests.raft.support import Entry, Machine, World

TRACES = pathlib.Path(__file__).parent / "traces"
HALF_WAY = 0.001
"""Events of one moment come in a fixed order; a command sees all that is due at its moment."""


class Step(NamedTuple):
    """One command of a trace."""

    comment: list[str]
    """Lines above it, as they are."""
    command: str
    expected: list[str]


def parse(text: str) -> list[Step]:
    """The commands of a trace with what is expected of each."""
    steps = []
    for block in text.strip("\n").split("\n\n"):
        lines = block.splitlines()
        comment = [line for line in lines if line.startswith("#")]
        rest = lines[len(comment) :]
        command, expected = (rest[0], rest[2:]) if rest else ("", [])
        steps.append(Step(comment, command, expected))
    return steps


def replay(text: str) -> str:
    """The trace with what happens now."""
    world = TraceWorld()
    blocks = []
    for step in parse(text):
        lines = list(step.comment)
        if step.command:
            lines += [step.command, "----", *(world.carry_out(step.command) or ["nothing"])]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


class Steady(random.Random):
    """The same number whenever it is asked: no chance, and machines that differ."""

    def __init__(self, value: float) -> None:
        super().__init__(0)
        self.value = value

    def random(self) -> float:
        return self.value


class TraceMachine(Machine):
    """A machine whose every step is noted, and whose voters are in its log."""

    world: TraceWorld

    def voters(self) -> VoterSet:
        for entry in reversed(self.log.entries):
            if isinstance(entry.value, tuple) and entry.value[0] == "voters":
                found: VoterSet = entry.value[1]
                return found
        return self.world.first_voters

    def step(self, message: m.Message) -> None:
        before = "DOWN" if self.raft is None or self.raft.state is None else self.raft.role.name
        outermost = not self.running
        if outermost and self.raft is not None:
            self.world.enter(self, before)
        super().step(message)
        if outermost:
            self.world.leave(self)

    def carry_out(self, effect: m.Effect) -> None:
        self.world.note_role(self)
        known = self.voters()
        text = describe_effect(effect, self)
        if text:
            self.world.note(f"{self.id} {text}")
        match effect:
            case m.AppendVoters(voters):
                assert self.raft is not None
                self.world.voters = voters
                self.log.entries.append(Entry(self.raft.epoch, ("voters", voters)))
                self.inbox.append(m.VotersChanged(voters))
                self.inbox.append(m.Appended(self.log.end_offset))
                self.flush_later()
            case _:
                super().carry_out(effect)
                if self.voters() is not known:
                    self.inbox.append(m.VotersChanged(self.voters()))

    def flush_later(self) -> None:
        if not self.flushing:
            self.flushing = True
            end = len(self.log.entries)
            self.world.later(2, self, lambda: self.flush(end))

    def install(self, id: m.SnapshotId) -> None:
        self.log.entries, self.log.durable = list(self.fetching), list(self.fetching)
        self.log.snapshots, self.log.start_offset = [id], id.offset
        self.world.note(f"{self.id} begins its log at the snapshot of {id.offset}")
        self.step(m.SnapshotInstalled(id))


class TraceWorld(World):
    """Carries out the commands of a trace and keeps what happens."""

    def __init__(self) -> None:
        super().__init__(seed=0, size=0, observers=0)
        self.loss = self.crash_after_vote = 0.0
        self.settings = self.settings._replace(max_wait_ms=500)
        self.first_voters = self.voters
        self.lines: list[str] = []
        self.roles: dict[int, str] = {}
        self.said: dict[tuple[int, int], str] = {}
        """The last question of each machine to each other."""

    def random_of(self, machine: Machine) -> random.Random:
        return Steady(min(0.1 + 0.3 * (machine.id - 1), 0.9))

    def delay(self) -> float:
        return 1.0

    # What is noted.

    def note(self, text: str) -> None:
        self.lines.append(f"{self.now:5.0f} ms  {text}")

    def enter(self, machine: Machine, role: str) -> None:
        self.roles[machine.id] = role

    def note_role(self, machine: Machine) -> None:
        """A change of role comes before its effects."""
        raft = machine.raft
        if raft is not None and raft.state is not None and raft.role.name != self.roles.get(machine.id):
            self.note(f"{machine.id} is {raft.role.name} in epoch {raft.epoch}, was {self.roles[machine.id]}")
            self.roles[machine.id] = raft.role.name

    def leave(self, machine: Machine) -> None:
        self.note_role(machine)

    def carry(self, sender: Machine, send: m.Send) -> None:
        receiver = next(o for o in self.machines.values() if f"host-{o.id}" == send.address[0])
        lost = " (lost)" if (sender.id, receiver.id) in self.cut else ""
        text = f"{sender.id} -> {receiver.id}  {describe_question(send.question)}{lost}"
        if self.said.get((sender.id, receiver.id)) != text:
            self.note(text)
        self.said[sender.id, receiver.id] = text
        super().carry(sender, send)

    # Commands.

    def carry_out(self, command: str) -> list[str]:
        """What happens because of a command."""
        self.lines = []
        name, *arguments = command.split()
        method: Callable[..., None] = getattr(self, "do_" + name.replace("-", "_"))
        method(*arguments)
        return self.lines

    def do_voters(self, *ids: str) -> None:
        """The first voters, by id."""
        self.voters = self.first_voters = VoterSet({int(id): voter(int(id)) for id in ids}, dynamic=True)
        for id in ids:
            self.machines[int(id)] = TraceMachine(self, int(id))

    def do_start(self, *ids: str) -> None:
        """Start machines, for the first time or after a crash."""
        for id in map(int, ids):
            if id not in self.machines:
                self.machines[id] = TraceMachine(self, id, votes=False)
            self.roles[id] = "DOWN"
            self.bootstrap = [] if id in self.voters else [(f"host-{self.voters.ids[0]}", 9093)]
            self.machines[id].start()

    def do_run(self, ms: str) -> None:
        """Let time pass."""
        self.advance(self.now + float(ms) + HALF_WAY)
        self.now -= HALF_WAY

    def do_run_until_leader(self) -> None:
        """Let time pass until a new leader has committed something."""
        before, end = len(self.committed), self.now + 20_000
        while len(self.committed) == before and self.now < end:
            self.do_run("1")

    def do_append(self, id: str, *values: str) -> None:
        """Have a leader append entries."""
        for value in values:
            self.note(f"{id} appends {value}")
            machine = self.machines[int(id)]
            machine.append(value)
            inbox, machine.inbox = machine.inbox, []
            for message in inbox:
                machine.step(message)

    def do_crash(self, *ids: str) -> None:
        """End processes; what was not flushed is lost."""
        for id in map(int, ids):
            machine = self.machines[id]
            machine.raft = None
            machine.inbox.clear()
            machine.life += 1
            machine.log.entries = list(machine.log.durable)
            self.note(f"{id} is down")

    def do_shut_down(self, id: str) -> None:
        """Have a machine hand over what it leads, before it ends."""
        self.machines[int(id)].step(m.ShutDown())

    def do_cut(self, *ids: str) -> None:
        """Cut machines off from all others, together."""
        apart = set(map(int, ids))
        self.cut = {(a, b) for a in self.machines for b in self.machines if (a in apart) != (b in apart)}

    def do_heal(self) -> None:
        """End all cuts."""
        self.cut.clear()

    def do_snapshot(self, id: str, offset: str) -> None:
        """Let a snapshot stand for a log up to an offset, and drop that part of the log."""
        log, end = self.machines[int(id)].log, int(offset)
        log.snapshots = [m.SnapshotId(end, log.entries[end - 1].epoch)]
        log.start_offset = end

    def do_add_voter(self, leader: str, id: str) -> None:
        """Order the leader to let a replica vote."""

        def answered(answer: m.ChangeAnswer) -> None:
            self.note(f"{leader} answers the order: {describe_answer(answer)}")

        self.machines[int(leader)].step(m.AddVoter(answered, voter(int(id)), 5000))

    def do_logs(self) -> None:
        """Show the machines."""
        for machine in self.machines.values():
            raft, log = machine.raft, machine.log
            entries = " ".join(map(describe_entry, log.entries[log.start_offset :]))
            state = "down" if raft is None else f"{raft.role.name} in epoch {raft.epoch}"
            begin = f" from {log.start_offset}" if log.start_offset else ""
            self.lines.append(f"{machine.id} {state}; committed {machine.applied}; log{begin}: {entries or 'empty'}")


def voter(id: int) -> Voter:
    return Voter(ReplicaKey(id, uuid.UUID(int=0)), {"CONTROLLER": (f"host-{id}", 9093)})


# Words.


def describe_entry(entry: Entry) -> str:
    value = entry.value
    if isinstance(value, tuple):
        kind, what = value
        value = "leader" if kind == "leader" else "voters-" + ",".join(map(str, what.ids))
    return f"{entry.epoch}:{value}"


def describe_question(question: m.Question) -> str:
    match question:
        case m.Vote(epoch, candidate, _, last_epoch, end_offset, pre_vote):
            kind = "PreVote" if pre_vote else "Vote"
            return f"{kind} for {candidate.id} in epoch {epoch}; its log ends at {end_offset} in epoch {last_epoch}"
        case m.BeginEpoch(epoch, leader_id):
            return f"BeginQuorumEpoch: {leader_id} leads epoch {epoch}"
        case m.EndEpoch(epoch, leader_id, successors):
            return f"EndQuorumEpoch: {leader_id} gives up epoch {epoch}, successors {[key.id for key in successors]}"
        case m.Fetch(epoch, _, offset, last_epoch):
            return f"Fetch in epoch {epoch} from {offset}, after a record of epoch {last_epoch}"
        case m.FetchSnapshot(epoch, _, snapshot, position):
            return f"FetchSnapshot in epoch {epoch} of {snapshot.offset} from byte {position}"
    return type(question).__name__


def describe_answer(answer: m.Answer | m.ChangeAnswer) -> str:
    error = "" if answer.error is ErrorCode.NONE else f"{answer.error.name} "
    match answer:
        case m.VoteAnswer():
            return f"{error or ('yes ' if answer.granted else 'no ')}in epoch {answer.epoch}"
        case m.FetchAnswer():
            if answer.diverging is not None:
                epoch, end = answer.diverging
                return f"{error}that epoch {epoch} ends at {end}"
            if answer.snapshot is not None:
                return f"{error}that there is a snapshot of {answer.snapshot.offset}"
            return f"{error}nothing new, committed up to {answer.high_watermark}"
        case m.SnapshotAnswer():
            return f"{error}{len(answer.data)} of {answer.size} bytes"
    return f"{error or 'accepted '}{answer.message}" if getattr(answer, "message", None) else error or "accepted"


def describe_effect(effect: m.Effect, machine: Machine) -> str:
    """What a machine does, as far as it is worth a line; empty for the rest."""
    match effect:
        case m.StoreElection(state):
            vote = f", voted for {state.voted.id}" if state.voted is not None else ""
            return f"stores epoch {state.leader_epoch}, leader {state.leader_id or 'unknown'}{vote}"
        case m.AppendFetched(records):
            return f"appends {' '.join(map(describe_entry, records))}" if records else ""
        case m.Truncate(offset):
            gone = machine.log.entries[offset:]
            return f"truncates to {offset}: without {' '.join(map(describe_entry, gone))}" if gone else ""
        case m.Reply(_, m.VoteAnswer() | m.SnapshotAnswer() as answer):
            return f"answers {describe_answer(answer)}"
        case m.Reply(_, m.FetchAnswer() as answer) if answer.diverging is not None or answer.snapshot is not None:
            return f"answers {describe_answer(answer)}"
        case m.ReplySnapshot(_, answer, position):
            return f"answers with the snapshot of {answer.snapshot.offset} from byte {position}"
        case m.AppendLeaderChange(epoch):
            return f"appends {epoch}:leader"
        case m.AppendVoters(voters):
            return f"appends voters-{','.join(map(str, voters.ids))}"
        case m.HighWatermarkAdvanced(offset):
            return f"has committed up to {offset}"
    return ""


# The files.


def traces() -> list[pathlib.Path]:
    return sorted(TRACES.glob("*.txt"))


def main(arguments: list[str]) -> int:
    stale = [path for path in traces() if replay(path.read_text()) != path.read_text()]
    for path in stale:
        if "--rewrite" in arguments:
            path.write_text(replay(path.read_text()))
        else:
            sys.stdout.write(f"{path.name} does not say what happens\n")
    return int(bool(stale) and "--rewrite" not in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

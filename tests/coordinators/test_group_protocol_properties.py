"""Any order of joins, syncs, departures, silence and failing writes keeps a group in order.

* one generation at a time: a member only ever learns the group's current generation, and it only grows;
* every join and every sync is answered, exactly once, and every member of a stable group has its assignment;
* memory equals the log: a coordinator that loads the log knows the same offsets and the same stable group.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from broadsheet_broker.coordinators.groups.classic import ClassicGroup, GroupState
from broadsheet_broker.coordinators.runtime.turn import NEVER
from broadsheet_broker.wire.errors import ErrorCode
from tests.coordinators.support import GROUP, Bench, Replies, subscription

PROTOCOLS = [
    {"range": subscription("orders")},
    {"range": subscription("orders"), "sticky": b"\x00\x01"},
    {"sticky": subscription("payments"), "range": subscription("payments")},
]
JOIN_ERRORS = {
    ErrorCode.NONE,
    ErrorCode.MEMBER_ID_REQUIRED,
    ErrorCode.UNKNOWN_MEMBER_ID,
    ErrorCode.FENCED_INSTANCE_ID,
    ErrorCode.REBALANCE_IN_PROGRESS,
    ErrorCode.INCONSISTENT_GROUP_PROTOCOL,
    ErrorCode.GROUP_MAX_SIZE_REACHED,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
}


class Client:
    """One process that wants to be a member."""

    def __init__(self, instance: str | None, version: int) -> None:
        self.instance = instance
        self.version = version
        self.member_id = ""
        self.generation = -1
        self.leads = False
        self.others: list[str] = []
        self.joins: list[Replies] = []
        self.syncs: list[Replies] = []

    def hear(self) -> None:
        """Take in the newest answer."""
        answer = self.joins[-1].one if self.joins and self.joins[-1] else None
        if answer is not None:
            if answer.error_code in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_INSTANCE_ID):
                self.member_id = ""
            elif answer.error_code in (ErrorCode.NONE, ErrorCode.MEMBER_ID_REQUIRED):
                self.member_id = answer.member_id
                self.generation = answer.generation_id
                self.leads = answer.leader == answer.member_id
                self.others = [member.member_id for member in answer.members]


class GroupMachine(RuleBasedStateMachine):
    clients = Bundle("clients")

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.everybody: list[Client] = []
        self.commits: list[Replies] = []
        self.last_generation = 0
        self.offset = 0

    @initialize(delay=st.sampled_from([0, 3_000]), size=st.sampled_from([3, 1_000]))
    def start(self, delay: int, size: int) -> None:
        self.bench.coordinator.settings.initial_rebalance_delay_ms = delay
        self.bench.coordinator.settings.max_size = size

    def group(self) -> ClassicGroup | None:
        group = self.bench.partition.shard.groups.get(GROUP)
        assert group is None or isinstance(group, ClassicGroup)
        return group

    @initialize(target=clients, instance=st.sampled_from([None, "x"]))
    def one_is_there(self, instance: str | None) -> Client:
        client = Client(instance, 9)
        self.everybody.append(client)
        return client

    @rule(target=clients, instance=st.sampled_from([None, None, "x", "y"]), version=st.sampled_from([3, 8, 9]))
    def appear(self, instance: str | None, version: int) -> Any:
        if len(self.everybody) >= 6:
            return multiple()
        client = Client(instance, version)
        self.everybody.append(client)
        return client

    @rule(client=clients, protocols=st.sampled_from(PROTOCOLS))
    def join(self, client: Client, protocols: dict[str, bytes]) -> None:
        client.hear()
        replies = self.bench.join(
            client.member_id,
            instance=client.instance,
            version=client.version,
            protocols=protocols,
            session_ms=10_000,
            rebalance_ms=20_000,
        )
        client.joins.append(replies)

    def proceed(self, client: Client) -> None:
        """What a well-behaved client does next."""
        client.hear()
        waits = any(not replies for replies in (client.joins[-1:] + client.syncs[-1:]))
        if waits:
            return
        group = self.group()
        is_member = group is not None and client.member_id in group.members
        if group is None or not is_member or client.generation != group.generation:
            self.join(client, PROTOCOLS[1])
        elif group.state is GroupState.COMPLETING_REBALANCE:
            self.sync(client, True)
        elif self.bench.heartbeat(client.member_id, client.generation, instance=client.instance):
            self.join(client, PROTOCOLS[1])
        else:
            self.commit(client)

    @rule(client=clients)
    def behave(self, client: Client) -> None:
        for _ in range(3):
            self.proceed(client)

    @rule(turns=st.integers(1, 5))
    def all_behave(self, turns: int) -> None:
        for _ in range(turns):
            for client in self.everybody:
                self.proceed(client)
            self.bench.loop.run_for(1)

    @rule(client=clients)
    def forget(self, client: Client) -> None:
        """The process restarts."""
        client.member_id = ""
        client.joins.append(Replies([None]))

    @rule(client=clients, complete=st.booleans())
    def sync(self, client: Client, complete: bool) -> None:
        client.hear()
        if client.member_id:
            plan = {each: b"part of " + each.encode() for each in client.others[: None if complete else 1]}
            replies = self.bench.sync(
                client.member_id,
                client.generation,
                plan if client.leads else None,
                instance=client.instance,
                protocol_name=None,
            )
            client.syncs.append(replies)

    @rule(client=clients)
    def heartbeat(self, client: Client) -> None:
        client.hear()
        error = self.bench.heartbeat(client.member_id, client.generation, instance=client.instance)
        group = self.group()
        if error is ErrorCode.NONE:
            assert group is not None
            assert group.generation == client.generation
            assert group.state in (GroupState.STABLE, GroupState.COMPLETING_REBALANCE)

    @rule(client=clients)
    def leave(self, client: Client) -> None:
        client.hear()
        if client.member_id:
            self.bench.leave((client.member_id, client.instance))

    @rule(client=clients)
    def commit(self, client: Client) -> None:
        client.hear()
        self.offset += 1
        offsets = {("orders", self.offset % 3): self.offset}
        self.commits.append(self.bench.commit(offsets, client.member_id, client.generation, instance=client.instance))

    @rule()
    def commit_from_outside(self) -> None:
        self.offset += 1
        self.commits.append(self.bench.commit({("orders", 0): self.offset}))

    @rule(seconds=st.sampled_from([0.5, 4.0, 11.0, 25.0]))
    def wait(self, seconds: float) -> None:
        self.bench.loop.run_for(seconds)

    @rule()
    def hold_writes(self) -> None:
        self.bench.storage.hold = True

    @rule(error=st.sampled_from([ErrorCode.NONE, ErrorCode.NONE, ErrorCode.NOT_ENOUGH_REPLICAS]))
    def release_writes(self, error: ErrorCode) -> None:
        self.bench.storage.hold = False
        self.bench.storage.release(error)
        self.bench.loop.settle()

    @rule()
    def delete(self) -> None:
        replies = Replies()
        self.bench.coordinator.delete([GROUP], None, replies)  # type: ignore[arg-type]
        self.bench.loop.settle()

    @invariant()
    def the_group_is_in_order(self) -> None:
        group = self.group()
        if group is None:
            self.last_generation = 0
            return
        members = group.members
        assert group.awaiting_joins == sum(member.join_reply is not None for member in members.values())
        counts: dict[str, int] = {}
        for member in members.values():
            for name, _ in member.protocols:
                counts[name] = counts.get(name, 0) + 1
        assert group.protocol_counts == counts
        assert group.static_members == {
            member.instance_id: member.member_id for member in members.values() if member.instance_id
        }
        assert group.wake_at <= group.next_deadline()
        armed = self.bench.partition._alarms.get(GROUP)
        if group.wake_at != NEVER:
            assert armed is not None
            assert armed[0] <= group.wake_at
        for member in members.values():
            assert member.waits or member.deadline != NEVER
        if group.state in (GroupState.STABLE, GroupState.COMPLETING_REBALANCE):
            assert group.leader in members
            assert group.protocol_name is not None
            assert group.protocol_name in counts
            assert counts[group.protocol_name] == len(members)
            assert group.generation >= 1
        if group.state is GroupState.EMPTY:
            assert not members
        if group.state is not GroupState.COMPLETING_REBALANCE:
            assert all(member.sync_reply is None for member in members.values())
        assert group.pending_syncs <= members.keys()

    @invariant()
    def every_answer_is_one_of_those_expected(self) -> None:
        for client in self.everybody:
            for replies in client.joins:
                if replies and replies.one is not None:
                    assert replies.one.error_code in JOIN_ERRORS

    @invariant()
    def memory_equals_the_log(self) -> None:
        storage = self.bench.storage
        if storage.hold or storage.held:
            return
        again = Bench(storage=storage, max_size=1_000)
        assert again.fetch() == self.bench.fetch()
        group = self.group()
        loaded = again.partition.shard.groups.get(GROUP)
        if group is not None and group.state is GroupState.STABLE:
            assert isinstance(loaded, ClassicGroup)
            assert (loaded.generation, loaded.leader) == (group.generation, group.leader)
            assert {each.member_id: each.assignment for each in loaded.members.values()} == {
                each.member_id: each.assignment for each in group.members.values()
            }
        elif group is None:
            assert loaded is None

    def teardown(self) -> None:
        """When all members are gone, everything is answered and the group ends."""
        self.release_writes(ErrorCode.NONE)
        self.bench.loop.run_for(1_000)
        for client in self.everybody:
            assert all(client.joins), "a join is not answered"
            assert all(client.syncs), "a sync is not answered"
        assert all(self.commits), "a commit is not answered"
        group = self.group()
        assert group is None or group.state is GroupState.EMPTY
        self.memory_equals_the_log()


GroupMachine.TestCase.settings = settings(
    max_examples=80,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestGroupProtocol = GroupMachine.TestCase

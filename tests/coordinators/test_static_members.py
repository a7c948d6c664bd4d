"""Static members (KIP-345): they come back under their instance id, and a double is fenced."""

from __future__ import annotations

from broadsheet_broker.coordinators.groups import records
from broadsheet_broker.wire.errors import ErrorCode
from tests.coordinators.support import Bench, subscription


def test_a_static_member_joins_in_one_step() -> None:
    bench = Bench()
    answer = bench.join(instance="one").one
    assert answer.error_code == 0
    assert answer.member_id.startswith("one-")
    assert answer.members[0].group_instance_id == "one"


def test_a_static_follower_comes_back_without_a_rebalance() -> None:
    bench = Bench()
    a, b = bench.form("a", "b", instances=True)
    generation = bench.group.generation
    back = bench.join(instance="b").one
    assert (back.error_code, back.generation_id, back.leader) == (0, generation, a)
    assert back.member_id != b
    assert not back.skip_assignment
    assert bench.state() == "Stable"
    assert bench.sync(back.member_id, generation, instance="b").one.assignment == b"b"
    assert bench.heartbeat(a, generation, instance="a") is ErrorCode.NONE


def test_a_static_leader_comes_back_and_skips_the_assignment() -> None:
    bench = Bench()
    a, b = bench.form("a", "b", instances=True)
    generation = bench.group.generation
    back = bench.join(instance="a").one
    assert (back.leader, back.skip_assignment, back.generation_id) == (back.member_id, True, generation)
    assert {member.member_id for member in back.members} == {back.member_id, b}
    assert bench.sync(back.member_id, generation, instance="a").one.assignment == b"a"
    assert a not in bench.group.members


def test_an_old_static_leader_is_told_that_it_follows() -> None:
    bench = Bench()
    a, _ = bench.form("a", "b", instances=True)
    back = bench.join(instance="a", version=8).one
    assert (back.leader, back.members, back.skip_assignment) == (a, [], False)
    assert bench.group.leader == back.member_id


def test_a_double_is_fenced() -> None:
    bench = Bench()
    (a,) = bench.form("a", instances=True)
    bench.join(instance="a")
    generation = bench.group.generation
    assert bench.heartbeat(a, generation, instance="a") is ErrorCode.FENCED_INSTANCE_ID
    assert bench.sync(a, generation, instance="a").one.error_code == ErrorCode.FENCED_INSTANCE_ID
    assert bench.join(a, instance="a").one.error_code == ErrorCode.FENCED_INSTANCE_ID
    assert bench.leave((a, "a")).one.members[0].error_code == ErrorCode.FENCED_INSTANCE_ID
    assert bench.commit_error({("orders", 0): 1}, a, generation, instance="a") is ErrorCode.FENCED_INSTANCE_ID
    assert bench.heartbeat(a, generation) is ErrorCode.UNKNOWN_MEMBER_ID
    assert bench.heartbeat(a, generation, instance="unheard-of") is ErrorCode.UNKNOWN_MEMBER_ID


def test_a_waiting_double_is_fenced_at_once() -> None:
    bench = Bench()
    _, b = bench.form("a", "b", instances=True)
    waiting = bench.join(b, instance="b", protocols={"range": subscription("other")})
    replacement = bench.join(instance="b")
    assert waiting.one.error_code == ErrorCode.FENCED_INSTANCE_ID
    assert not replacement


def test_a_double_that_waits_for_its_assignment_is_fenced_and_the_group_rebalances() -> None:
    bench = Bench()
    a = bench.join(instance="a").one.member_id
    bench.join(instance="b")
    b = bench.join(a, instance="a").one
    follower = next(member for member in bench.group.members if member != a)
    waiting = bench.sync(follower, b.generation_id, instance="b")
    back = bench.join(instance="b")
    assert waiting.one.error_code == ErrorCode.FENCED_INSTANCE_ID
    assert not back
    assert bench.state() == "PreparingRebalance"
    assert bench.join(a, instance="a").one.generation_id == back.one.generation_id == 3


def test_a_static_member_that_changes_the_protocol_starts_a_rebalance() -> None:
    bench = Bench()
    both = {"range": subscription("orders"), "sticky": subscription("orders")}
    bench.join(instance="a", protocols=both)
    a = bench.group.leader
    assert a is not None
    assert bench.sync(a, 1, {a: b"x"}, instance="a").one.error_code == 0
    back = bench.join(instance="a", protocols={"sticky": subscription("orders")}).one
    assert (back.protocol_name, back.generation_id) == ("sticky", 2)


def test_the_new_member_id_is_stored() -> None:
    bench = Bench()
    bench.form("a", instances=True)
    bench.storage.hold = True
    waiting = bench.join(instance="a")
    assert not waiting
    bench.storage.release()
    new_id = waiting.one.member_id
    stored = [records.read(key, value) for key, value in bench.storage.latest().items() if key]
    value = next(record.value for record in stored if isinstance(record, records.GroupRecord))
    assert value is not None
    assert [(each.group_instance_id, each.member_id, each.assignment) for each in value.members] == [
        ("a", new_id, b"a")
    ]
    assert value.leader == new_id


def test_a_member_id_that_cannot_be_stored_is_taken_back() -> None:
    bench = Bench()
    (a,) = bench.form("a", instances=True)
    bench.storage.fail = ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert bench.join(instance="a").one.error_code == ErrorCode.NOT_COORDINATOR
    bench.storage.fail = None
    assert set(bench.group.members) == {a}
    assert bench.heartbeat(a, 1, instance="a") is ErrorCode.NONE
    assert bench.group.leader == a


def test_two_doubles_at_once() -> None:
    bench = Bench()
    bench.form("a", instances=True)
    bench.storage.hold = True
    first = bench.join(instance="a")
    second = bench.join(instance="a")
    assert first.one.error_code == ErrorCode.FENCED_INSTANCE_ID
    bench.storage.release()
    assert second.one.error_code == 0
    assert set(bench.group.members) == {second.one.member_id}


def test_a_rebalance_keeps_static_members_that_are_away() -> None:
    bench = Bench()
    a, b = bench.form("a", "b", instances=True, rebalance_ms=5_000, session_ms=20_000)
    waiting = bench.join(a, instance="a", rebalance_ms=5_000, session_ms=20_000)
    bench.loop.run_for(5.1)
    assert {member.member_id for member in waiting.one.members} == {a, b}


def test_a_rebalance_without_anybody_waits_for_a_static_member() -> None:
    bench = Bench()
    a, b = bench.form("a", "b", instances=True, rebalance_ms=5_000, session_ms=60_000)
    bench.leave((a, "a"))
    bench.loop.run_for(12)
    assert bench.state() == "PreparingRebalance"
    assert bench.join(b, instance="b", rebalance_ms=5_000).one.error_code == 0


def test_an_administrator_removes_a_static_member_by_its_instance_id() -> None:
    bench = Bench()
    bench.form("a", instances=True)
    assert bench.leave(("", "a")).one.members[0].error_code == 0
    assert bench.state() == "Empty"


def test_a_static_member_that_stays_away_expires() -> None:
    bench = Bench()
    bench.form("a", instances=True, session_ms=10_000)
    bench.loop.run_for(10.1)
    assert bench.state() == "Empty"

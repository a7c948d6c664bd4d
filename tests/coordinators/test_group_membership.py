"""Joining, syncing, leaving and expiring: what members of a classic group see."""

from __future__ import annotations

import pytest

from broadsheet_broker.wire.errors import ErrorCode
from tests.coordinators.support import GROUP, Bench, Replies, subscription


def test_a_dynamic_member_gets_its_id_first_and_then_leads_alone() -> None:
    bench = Bench()
    first = bench.join(client_id="reader").one
    assert first.error_code == ErrorCode.MEMBER_ID_REQUIRED
    assert first.member_id.startswith("reader-")
    assert first.generation_id == -1
    answer = bench.join(first.member_id).one
    assert (answer.error_code, answer.generation_id, answer.leader) == (0, 1, first.member_id)
    assert (answer.protocol_type, answer.protocol_name) == ("consumer", "range")
    assert [member.member_id for member in answer.members] == [first.member_id]
    assert bench.state() == "CompletingRebalance"
    sync = bench.sync(first.member_id, 1, {first.member_id: b"all"}).one
    assert (sync.error_code, sync.assignment, sync.protocol_name) == (0, b"all", "range")
    assert bench.state() == "Stable"


def test_an_old_client_joins_in_one_step() -> None:
    bench = Bench()
    answer = bench.join(version=3).one
    assert (answer.error_code, answer.generation_id) == (0, 1)


def test_two_members_split_and_only_the_leader_sees_the_subscriptions() -> None:
    bench = Bench()
    a, b = bench.form("a", "b")
    assert bench.group.leader == a
    assert set(bench.group.members) == {a, b}


def test_a_second_member_makes_the_first_one_rejoin() -> None:
    bench = Bench()
    (a,) = bench.form("a")
    b = bench.join().one.member_id
    joining = bench.join(b)
    assert not joining
    assert bench.state() == "PreparingRebalance"
    assert bench.heartbeat(a, 1) is ErrorCode.REBALANCE_IN_PROGRESS
    rejoined = bench.join(a).one
    assert rejoined.generation_id == joining.one.generation_id == 2
    assert rejoined.leader == a
    assert len(rejoined.members) == 2
    assert joining.one.members == []


def test_a_pending_member_does_not_disturb_a_stable_group() -> None:
    bench = Bench()
    (a,) = bench.form("a")
    assert bench.join().one.error_code == ErrorCode.MEMBER_ID_REQUIRED
    assert bench.state() == "Stable"
    assert bench.heartbeat(a, 1) is ErrorCode.NONE


def test_a_rebalance_waits_for_a_pending_member_until_its_session_ends() -> None:
    bench = Bench()
    (a,) = bench.form("a", session_ms=30_000)
    pending = bench.join(session_ms=5_000).one.member_id
    c = bench.join(session_ms=30_000).one.member_id
    joining = bench.join(c, session_ms=30_000)
    rejoining = bench.join(a, session_ms=30_000)
    assert not joining and not rejoining
    bench.loop.run_for(5)
    assert joining.one.generation_id == rejoining.one.generation_id == 2
    assert bench.join(pending).one.error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_the_first_rebalance_waits_for_more_members() -> None:
    bench = Bench(initial_rebalance_delay_ms=3_000)
    a = bench.join().one.member_id
    first = bench.join(a)
    bench.loop.run_for(2)
    b = bench.join().one.member_id
    second = bench.join(b)
    bench.loop.run_for(2)
    assert not first, "a member that came late gives the group another delay"
    bench.loop.run_for(2)
    assert first.one.generation_id == second.one.generation_id == 1


def test_the_first_rebalance_does_not_wait_longer_than_the_rebalance_timeout() -> None:
    bench = Bench(initial_rebalance_delay_ms=3_000)
    waiting = [bench.join(bench.join(rebalance_ms=7_000).one.member_id, rebalance_ms=7_000)]
    for _ in range(2):
        bench.loop.run_for(2.9)
        waiting.append(bench.join(bench.join(rebalance_ms=7_000).one.member_id, rebalance_ms=7_000))
    bench.loop.run_for(1.3)
    assert [replies.one.generation_id for replies in waiting] == [1, 1, 1]


def test_members_that_do_not_rejoin_are_dropped_after_the_rebalance_timeout() -> None:
    bench = Bench()
    a, b = bench.form("a", "b", rebalance_ms=8_000, session_ms=20_000)
    joining = bench.join(a, rebalance_ms=8_000, session_ms=20_000)
    bench.loop.run_for(7.9)
    assert not joining
    bench.loop.run_for(0.2)
    assert joining.one.generation_id == bench.group.generation
    assert set(bench.group.members) == {a}
    assert bench.heartbeat(b, joining.one.generation_id) is ErrorCode.UNKNOWN_MEMBER_ID


def test_a_leader_that_does_not_rejoin_is_replaced() -> None:
    bench = Bench()
    a, b = bench.form("a", "b", rebalance_ms=8_000, session_ms=20_000)
    changed = {"range": subscription("payments")}
    joining = bench.join(b, rebalance_ms=8_000, session_ms=20_000, protocols=changed)
    bench.loop.run_for(8.1)
    assert joining.one.leader == b
    assert [member.member_id for member in joining.one.members] == [b]
    assert a not in bench.group.members


def test_a_silent_member_is_removed_and_the_others_rebalance() -> None:
    bench = Bench()
    a, b = bench.form("a", "b", session_ms=10_000)
    generation = bench.group.generation
    for _ in range(3):
        bench.loop.run_for(3)
        assert bench.heartbeat(a, generation) is ErrorCode.NONE
    bench.loop.run_for(2)
    assert set(bench.group.members) == {a}
    assert bench.heartbeat(a, generation) is ErrorCode.REBALANCE_IN_PROGRESS
    assert bench.heartbeat(b, generation) is ErrorCode.UNKNOWN_MEMBER_ID
    assert bench.join(a).one.generation_id == generation + 1


def test_the_last_member_that_falls_silent_leaves_an_empty_group() -> None:
    bench = Bench()
    bench.form("a")
    bench.loop.run_for(11)
    assert bench.state() == "Empty"
    assert bench.group.generation == 2
    assert bench.group.protocol_type == "consumer"


def test_a_member_that_waits_needs_no_heartbeat() -> None:
    bench = Bench()
    a, b = bench.form("a", "b", session_ms=10_000, rebalance_ms=60_000)
    generation = bench.group.generation
    joining = bench.join(a, session_ms=10_000, rebalance_ms=60_000)
    for _ in range(5):
        bench.loop.run_for(9)
        assert bench.heartbeat(b, generation) is ErrorCode.REBALANCE_IN_PROGRESS
    assert not joining
    assert bench.join(b).one.error_code == 0
    assert joining.one.generation_id == generation + 1


def test_a_new_member_whose_client_is_gone_does_not_hold_the_group_for_ever() -> None:
    bench = Bench()
    (a,) = bench.form("a", session_ms=1_000_000, rebalance_ms=1_000_000)
    ghost = bench.join(bench.join().one.member_id)
    bench.loop.run_for(300.1)
    assert ghost.one.error_code == ErrorCode.UNKNOWN_MEMBER_ID
    assert set(bench.group.members) == {a}


def test_members_that_never_sync_are_removed() -> None:
    bench = Bench()
    options = {"session_ms": 100_000, "rebalance_ms": 8_000}
    first = bench.join(version=3, **options).one  # type: ignore[arg-type]
    second = bench.join(version=3, **options)  # type: ignore[arg-type]
    leader = bench.join(first.member_id, **options).one  # type: ignore[arg-type]
    assert bench.sync(leader.member_id, 2, {}).one.error_code == 0
    assert bench.state() == "Stable"
    bench.loop.run_for(8.1)
    assert set(bench.group.members) == {leader.member_id}
    assert bench.state() == "PreparingRebalance"
    assert bench.sync(second.one.member_id, 2).one.error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_followers_that_sync_first_wait_for_the_leader() -> None:
    bench = Bench()
    a = bench.join(version=3).one.member_id
    b = bench.join(version=3)
    answer = bench.join(a).one
    waiting = bench.sync(b.one.member_id, answer.generation_id)
    assert not waiting
    bench.sync(a, answer.generation_id, {b.one.member_id: b"part"})
    assert waiting.one.assignment == b"part"


def test_a_new_member_during_the_assignment_sends_waiting_syncs_back_to_join() -> None:
    bench = Bench()
    a = bench.join(version=3).one.member_id
    b = bench.join(version=3)
    bench.join(a)
    waiting = bench.sync(b.one.member_id, 2)
    bench.join(version=3)
    assert waiting.one.error_code == ErrorCode.REBALANCE_IN_PROGRESS


def test_leaving_starts_a_rebalance_at_once_and_the_last_one_empties_the_group() -> None:
    bench = Bench()
    a, b = bench.form("a", "b")
    answer = bench.leave((b, None)).one
    assert (answer.error_code, [each.error_code for each in answer.members]) == (0, [0])
    assert bench.state() == "PreparingRebalance"
    assert bench.join(a).one.error_code == 0
    assert bench.leave((a, None)).one.error_code == 0
    assert bench.state() == "Empty"


def test_leaving_is_answered_per_member() -> None:
    bench = Bench()
    (a,) = bench.form("a")
    pending = bench.join().one.member_id
    answer = bench.leave((pending, None), ("nobody", None), ("", "no-instance"), (a, "wrong")).one
    assert [each.error_code for each in answer.members] == [
        0,
        ErrorCode.UNKNOWN_MEMBER_ID,
        ErrorCode.UNKNOWN_MEMBER_ID,
        ErrorCode.UNKNOWN_MEMBER_ID,
    ]


@pytest.mark.parametrize(
    ("member_id", "generation", "error"),
    [("nobody", 1, ErrorCode.UNKNOWN_MEMBER_ID), ("a", 0, ErrorCode.ILLEGAL_GENERATION), ("a", 1, ErrorCode.NONE)],
)
def test_heartbeats_are_checked(member_id: str, generation: int, error: ErrorCode) -> None:
    bench = Bench()
    (a,) = bench.form("a")
    assert bench.heartbeat(a if member_id == "a" else member_id, generation) is error


def test_requests_for_groups_that_do_not_exist() -> None:
    bench = Bench()
    assert bench.join("somebody").one.error_code == ErrorCode.UNKNOWN_MEMBER_ID
    assert bench.sync("somebody", 1).one.error_code == ErrorCode.UNKNOWN_MEMBER_ID
    assert bench.heartbeat("somebody", 1) is ErrorCode.UNKNOWN_MEMBER_ID
    assert bench.leave(("somebody", None)).one.members[0].error_code == ErrorCode.UNKNOWN_MEMBER_ID
    assert bench.state() == "Dead"


def test_requests_without_a_group_id() -> None:
    bench = Bench()
    assert bench.join(group_id="").one.error_code == ErrorCode.INVALID_GROUP_ID
    assert bench.sync("a", 1, group_id="").one.error_code == ErrorCode.INVALID_GROUP_ID
    assert bench.heartbeat("a", 1, group_id="") is ErrorCode.INVALID_GROUP_ID
    assert bench.leave(("a", None), group_id="").one.error_code == ErrorCode.INVALID_GROUP_ID


def test_syncs_are_checked() -> None:
    bench = Bench()
    (a,) = bench.form("a")
    assert bench.sync(a, 7).one.error_code == ErrorCode.ILLEGAL_GENERATION
    assert bench.sync("b", 1).one.error_code == ErrorCode.UNKNOWN_MEMBER_ID
    assert bench.sync(a, 1, protocol_name="sticky").one.error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert bench.sync(a, 1, protocol_type="connect").one.error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert bench.sync(a, 1, protocol_name=None, protocol_type=None).one.assignment == b"a"


def test_a_sync_during_the_join_phase_is_sent_back_to_join() -> None:
    bench = Bench()
    (a,) = bench.form("a")
    bench.join(version=3)
    assert bench.sync(a, 1).one.error_code == ErrorCode.REBALANCE_IN_PROGRESS


def test_session_timeouts_have_bounds() -> None:
    bench = Bench(min_session_timeout_ms=6_000, max_session_timeout_ms=20_000)
    assert bench.join(session_ms=5_999).one.error_code == ErrorCode.INVALID_SESSION_TIMEOUT
    assert bench.join(session_ms=20_001).one.error_code == ErrorCode.INVALID_SESSION_TIMEOUT
    assert bench.join(session_ms=6_000).one.error_code == ErrorCode.MEMBER_ID_REQUIRED
    assert bench.state() == "Empty"


def test_protocols_must_have_something_in_common() -> None:
    bench = Bench()
    bench.form("a")
    assert bench.join(protocols={"sticky": b""}).one.error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert bench.join(protocol_type="connect").one.error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert bench.state() == "Stable"


def test_a_first_join_without_protocols_creates_no_group() -> None:
    bench = Bench()
    replies = bench.join(protocol_type="")
    assert replies.one.error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert bench.state() == "Dead"


def test_members_vote_for_a_protocol_that_all_have() -> None:
    bench = Bench()
    a = bench.join(version=3, protocols={"range": b"1", "sticky": b"2"}).one.member_id
    b = bench.join(version=3, protocols={"roundrobin": b"3", "sticky": b"4"})
    answer = bench.join(a, protocols={"range": b"1", "sticky": b"2"}).one
    assert answer.protocol_name == "sticky"
    assert {member.member_id: member.metadata for member in answer.members} == {a: b"2", b.one.member_id: b"4"}


def test_a_full_group_refuses_new_members() -> None:
    bench = Bench(max_size=2)
    a, b = bench.form("a", "b")
    assert bench.join().one.error_code == ErrorCode.GROUP_MAX_SIZE_REACHED
    assert bench.state() == "Stable"
    assert set(bench.group.members) == {a, b}


def test_a_follower_that_rejoins_unchanged_starts_no_rebalance() -> None:
    bench = Bench()
    a, b = bench.form("a", "b")
    generation = bench.group.generation
    answer = bench.join(b).one
    assert (answer.error_code, answer.generation_id, answer.leader) == (0, generation, a)
    assert bench.sync(b, generation).one.assignment == b"b"
    assert bench.state() == "Stable"


def test_the_leader_that_rejoins_starts_a_rebalance() -> None:
    bench = Bench()
    a, b = bench.form("a", "b")
    waiting = bench.join(a)
    assert not waiting
    assert bench.state() == "PreparingRebalance"
    assert bench.join(b).one.generation_id == waiting.one.generation_id


def test_a_join_whose_answer_was_lost_gets_it_again() -> None:
    bench = Bench()
    a = bench.join(version=3).one.member_id
    again = bench.join(a).one
    assert (again.generation_id, [member.member_id for member in again.members]) == (1, [a])
    assert bench.state() == "CompletingRebalance"
    changed = bench.join(a, protocols={"range": subscription("other")}).one
    assert changed.generation_id == 2


def test_a_join_sent_twice_is_answered_twice() -> None:
    bench = Bench()
    a, b = bench.form("a", "b")
    lost = bench.join(a)
    again = bench.join(a)
    assert lost.one.error_code == ErrorCode.REBALANCE_IN_PROGRESS
    bench.join(b)
    assert again.one.error_code == 0


def test_a_leader_that_syncs_twice_is_heard_once() -> None:
    bench = Bench()
    a = bench.join(version=3).one.member_id
    bench.storage.hold = True
    first = bench.sync(a, 1, {a: b"first"})
    second = bench.sync(a, 1, {a: b"second"})
    assert first.one.error_code == ErrorCode.REBALANCE_IN_PROGRESS
    bench.storage.release()
    assert second.one.assignment == b"first"
    assert len(bench.storage.logs[0]) == 2, "the new group, and the first assignment"


def test_assignments_are_given_out_only_when_they_are_committed() -> None:
    bench = Bench()
    a = bench.join(version=3).one.member_id
    bench.storage.hold = True
    waiting = bench.sync(a, 1, {a: b"x"})
    assert not waiting
    assert bench.state() == "CompletingRebalance"
    bench.storage.release()
    assert waiting.one.assignment == b"x"
    assert bench.state() == "Stable"


@pytest.mark.parametrize(
    ("failure", "seen"),
    [
        (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.KAFKA_STORAGE_ERROR, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.UNKNOWN_SERVER_ERROR),
    ],
)
def test_an_assignment_that_cannot_be_stored_is_not_given_out(failure: ErrorCode, seen: ErrorCode) -> None:
    bench = Bench()
    a = bench.join(version=3).one.member_id
    bench.storage.fail = failure
    sync = bench.sync(a, 1, {a: b"x"}).one
    assert (sync.error_code, sync.assignment) == (seen, b"")
    assert bench.state() == "PreparingRebalance"
    bench.storage.fail = None
    assert bench.join(a).one.generation_id == 2


def test_a_group_that_cannot_be_stored_does_not_exist() -> None:
    bench = Bench(initial_rebalance_delay_ms=3_000)
    bench.storage.fail = ErrorCode.KAFKA_STORAGE_ERROR
    waiting = bench.join(version=3)
    assert waiting.one.error_code == ErrorCode.NOT_COORDINATOR
    assert bench.state() == "Dead"


def test_an_assignment_committed_too_late_changes_nothing() -> None:
    bench = Bench()
    a = bench.join(version=3).one.member_id
    bench.storage.hold = True
    waiting = bench.sync(a, 1, {a: b"x"})
    bench.join(version=3)
    assert waiting.one.error_code == ErrorCode.REBALANCE_IN_PROGRESS
    bench.storage.release()
    assert bench.state() == "PreparingRebalance"
    assert bench.group.members[a].assignment == b""


def test_concurrent_joins_end_in_one_generation() -> None:
    bench = Bench(initial_rebalance_delay_ms=100)
    ids = [bench.join(client_id=f"c{number}").one.member_id for number in range(20)]
    waiting: list[Replies] = [bench.join(member_id) for member_id in ids]
    bench.loop.run_for(0.5)
    assert {replies.one.generation_id for replies in waiting} == {1}
    assert {replies.one.error_code for replies in waiting} == {0}
    assert sum(bool(replies.one.members) for replies in waiting) == 1


def test_a_member_that_leaves_while_it_waits_is_answered() -> None:
    bench = Bench()
    a, b = bench.form("a", "b")
    waiting = bench.join(a)
    bench.leave((a, None))
    assert waiting.one.error_code == ErrorCode.UNKNOWN_MEMBER_ID
    assert bench.group.leader == b


def test_group_ids_are_kept_apart() -> None:
    bench = Bench(partitions=7)
    bench.form("a")
    other = bench.join(version=3, group_id="another").one
    assert other.generation_id == 1
    assert bench.state() == "Stable"
    assert bench.state("another") == "CompletingRebalance"
    assert {row["group"] for row in bench.coordinator.snapshot()} == {GROUP, "another"}


def test_member_ids_that_are_never_used_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broadsheet_broker.coordinators.groups.classic.joining.MOST_PENDING_JOINS", 3)
    bench = Bench()
    given = [bench.join().one.member_id for _ in range(5)]
    assert list(bench.group.pending_joins) == given[2:]
    assert bench.join(given[0]).one.error_code == ErrorCode.UNKNOWN_MEMBER_ID
    bench.join(given[4])
    assert list(bench.group.members) == [given[4]]

"""The Raft state machine: what it decides, without files or time."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from broadsheet_broker.raft.leader import Leader
from broadsheet_broker.raft.machine import Raft, RaftError
from broadsheet_broker.raft.messages import (
    UNKNOWN_KEY,
    Answered,
    Appended,
    AppendFetched,
    AppendLeaderChange,
    AppendRefused,
    AppendVoters,
    Asked,
    BeginEpoch,
    Effect,
    ElectionState,
    EndEpoch,
    Fetch,
    FetchAnswer,
    FetchedAppended,
    FetchSnapshot,
    Flushed,
    HighWatermarkAdvanced,
    LeaderChanged,
    LogFailed,
    Message,
    RemoveVoter,
    Reply,
    ReplyRecords,
    ReplySnapshot,
    Send,
    SetTimer,
    ShutDown,
    SnapshotAnswer,
    SnapshotId,
    SnapshotInstalled,
    Started,
    StoreElection,
    StoreSnapshotPiece,
    TimerFired,
    Truncate,
    Vote,
    VoteAnswer,
    VotersChanged,
)
from broadsheet_broker.raft.roles import START, TRANSITIONS, Role
from broadsheet_broker.raft.voters import ReplicaKey, Voter, VoterSet
from broadsheet_broker.wire.errors import ErrorCode
from tests.raft.support import Entry, WorldLog


def voters(*ids: int) -> VoterSet:
    return VoterSet({id: Voter(ReplicaKey(id), {"CONTROLLER": ("localhost", 9090 + id)}) for id in ids})


def log_of(*epochs: int) -> WorldLog:
    log = WorldLog()
    log.entries = [Entry(epoch, None) for epoch in epochs]
    return log


class Driver:
    """Steps a machine and keeps what comes out, by kind."""

    def __init__(self, raft: Raft) -> None:
        self.raft = raft
        self.now = 0.0

    def __call__(self, message: Message, now: float | None = None) -> list[Effect]:
        self.now = self.now if now is None else now
        return self.raft.step(message, self.now)

    def fire(self, now: float) -> list[Effect]:
        return self(TimerFired(), now)


def sent(effects: list[Effect]) -> list[Send]:
    return [effect for effect in effects if isinstance(effect, Send)]


def reply(effects: list[Effect]) -> Any:
    (found,) = [effect.answer for effect in effects if isinstance(effect, Reply | ReplyRecords | ReplySnapshot)]
    return found


def alone(epoch: int = 0, log: WorldLog | None = None) -> tuple[Raft, list[Effect]]:
    raft = Raft(ReplicaKey(1), voters(1), ElectionState(epoch), log or WorldLog(), Random(1))
    return raft, raft.step(Started(), 0.0)


def of_three(stored: ElectionState = ElectionState(), log: WorldLog | None = None) -> tuple[Driver, list[Effect]]:  # noqa: B008
    log = log or WorldLog()
    raft = Raft(ReplicaKey(1), voters(1, 2, 3), stored, log, Random(1), flushed_end=log.end_offset)
    drive = Driver(raft)
    return drive, drive(Started())


def leading() -> tuple[Driver, list[Effect]]:
    """Node 1, elected in epoch 6 on a log of epochs 1, 5 by the vote of node 2."""
    drive, _ = of_three(ElectionState(5), log_of(1, 5))
    asked = {send.node_id: send for send in sent(drive.fire(1000))}
    asked = {send.node_id: send for send in sent(drive(granted(asked[2])))}
    return drive, drive(granted(asked[2]))


def granted(send: Send) -> Answered:
    assert isinstance(send.question, Vote)
    return Answered(send.request_id, VoteAnswer(ErrorCode.NONE, send.question.epoch, None, None, True))


def fetch(replica: int, offset: int, last_epoch: int, *, epoch: int = 6, wait: int = 0) -> Asked:
    return Asked("fetch", Fetch(epoch, ReplicaKey(replica), offset, last_epoch, max_wait_ms=wait))


# A quorum of one.


def test_a_quorum_of_one_elects_itself_and_stores_that_before_anything_else() -> None:
    raft, effects = alone()
    assert effects == [
        StoreElection(ElectionState(1, leader_id=1)),
        AppendLeaderChange(1, 1, (ReplicaKey(1),), (ReplicaKey(1),)),
        LeaderChanged(1, 1),
    ]
    assert raft.role is Role.LEADER and raft.high_watermark == -1


@pytest.mark.parametrize(("stored", "in_log", "next_epoch"), [(4, 4, 5), (0, 7, 8), (9, 2, 10)])
def test_an_epoch_never_comes_back_even_when_the_quorum_state_was_lost(
    stored: int, in_log: int, next_epoch: int
) -> None:
    raft, _ = alone(stored, log_of(in_log))
    assert raft.epoch == next_epoch


def test_nothing_is_committed_before_the_epoch_has_an_entry_of_its_own() -> None:
    raft, _ = alone(1, log_of(*[1] * 50))
    assert raft.step(Flushed(50), 1.0) == []
    assert raft.step(Flushed(51), 2.0) == [HighWatermarkAdvanced(51)]
    assert raft.step(Flushed(51), 3.0) == []
    assert raft.step(Flushed(60), 4.0) == [HighWatermarkAdvanced(60)]


@pytest.mark.parametrize("message", [ShutDown(), LogFailed()])
def test_a_leader_that_stops_or_loses_its_log_leads_no_more(message: ShutDown | LogFailed) -> None:
    raft, _ = alone()
    assert raft.step(message, 1.0) == [LeaderChanged(1, None)]
    assert raft.role is Role.RESIGNED
    assert raft.step(Flushed(10), 2.0) == []


def test_every_role_can_be_left_and_none_leads_without_being_candidate() -> None:
    assert set(TRANSITIONS) == set(Role)
    assert [role for role, following in TRANSITIONS.items() if Role.LEADER in following] == [Role.CANDIDATE]
    assert Role.LEADER not in START and Role.CANDIDATE not in START


def test_other_transitions_are_refused() -> None:
    drive, _ = of_three()
    with pytest.raises(RaftError, match="UNATTACHED cannot become LEADER"):
        drive.raft.become_leader([1, 2])
    with pytest.raises(RaftError, match="UNATTACHED cannot become RESIGNED"):
        drive.raft.become_resigned(())


# Elections.


def test_a_voter_asks_before_it_disturbs_anyone_and_votes_for_itself_durably() -> None:
    drive, effects = of_three(ElectionState(5), log_of(1, 5))
    assert drive.raft.role is Role.UNATTACHED
    asked = sent(drive.fire(1000))
    assert {send.node_id for send in asked} == {2, 3}
    assert drive.raft.role is Role.PROSPECTIVE and drive.raft.epoch == 5
    question = asked[0].question
    assert isinstance(question, Vote) and question.pre_vote
    assert (question.epoch, question.last_epoch, question.end_offset) == (5, 5, 2)
    effects = drive(granted(asked[0]))
    assert effects[0] == StoreElection(ElectionState(6, None, ReplicaKey(1)))
    assert effects[1] == LeaderChanged(6, None)
    votes = [send.question for send in sent(effects)]
    assert all(isinstance(vote, Vote) and not vote.pre_vote and vote.epoch == 6 for vote in votes) and len(votes) == 2


def test_a_majority_makes_a_leader_which_tells_the_others() -> None:
    _, effects = leading()
    assert effects[0] == StoreElection(ElectionState(6, leader_id=1))
    keys = tuple(ReplicaKey(id) for id in (1, 2, 3))
    assert effects[1] == AppendLeaderChange(6, 1, keys, keys[:2])
    assert {type(send.question) for send in sent(effects)} == {BeginEpoch}
    assert not any(isinstance(effect, LeaderChanged) for effect in effects), "its listener has not heard everything yet"


def test_a_refused_candidate_pauses_and_asks_anew() -> None:
    drive, _ = of_three(ElectionState(5), log_of(1, 5))
    asked = {send.node_id: send for send in sent(drive.fire(1000))}
    votes = {send.node_id: send for send in sent(drive(granted(asked[2])))}
    for id in (2, 3):
        drive(Answered(votes[id].request_id, VoteAnswer(ErrorCode.NONE, 6, None)))
    assert drive.raft.role is Role.CANDIDATE
    drive.fire(drive.now + 1000)
    assert drive.raft.role is Role.PROSPECTIVE and drive.raft.epoch == 6


def test_one_vote_for_one_epoch_stored_before_it_is_given() -> None:
    drive, _ = of_three(ElectionState(5), log_of(1, 5))
    effects = drive(Asked("t", Vote(7, ReplicaKey(2), ReplicaKey(1), 5, 2)))
    stored = effects.index(StoreElection(ElectionState(7, None, ReplicaKey(2))))
    assert stored < next(n for n, effect in enumerate(effects) if isinstance(effect, Reply))
    assert reply(effects).granted
    assert not reply(drive(Asked("t", Vote(7, ReplicaKey(3), ReplicaKey(1), 5, 2)))).granted
    assert reply(drive(Asked("t", Vote(7, ReplicaKey(2), ReplicaKey(1), 5, 2)))).granted, "the same one again"


@pytest.mark.parametrize(("last_epoch", "end", "granted"), [(5, 2, True), (5, 1, False), (4, 9, False), (6, 0, True)])
def test_only_who_has_as_much_gets_a_vote(last_epoch: int, end: int, granted: bool) -> None:
    drive, _ = of_three(ElectionState(5), log_of(1, 5))
    assert reply(drive(Asked("t", Vote(7, ReplicaKey(2), UNKNOWN_KEY, last_epoch, end)))).granted is granted


@pytest.mark.parametrize(
    ("vote", "error"),
    [
        (Vote(4, ReplicaKey(2), ReplicaKey(1), 3, 2), ErrorCode.FENCED_LEADER_EPOCH),
        (Vote(6, ReplicaKey(2), ReplicaKey(1), 6, 2), ErrorCode.INVALID_REQUEST),
        (Vote(6, ReplicaKey(2), ReplicaKey(1), -1, 2), ErrorCode.INVALID_REQUEST),
        (Vote(6, ReplicaKey(2), ReplicaKey(9), 5, 2), ErrorCode.INVALID_VOTER_KEY),
    ],
)
def test_votes_that_are_refused(vote: Vote, error: ErrorCode) -> None:
    drive, _ = of_three(ElectionState(5), log_of(1, 5))
    answer = reply(drive(Asked("t", vote)))
    assert answer.error is error and not answer.granted and answer.epoch == 5


def test_a_follower_with_a_living_leader_grants_no_pre_vote() -> None:
    drive, effects = of_three(ElectionState(5, leader_id=2), log_of(1, 5))
    question = Asked("t", Vote(5, ReplicaKey(3), UNKNOWN_KEY, 5, 2, True))
    assert reply(drive(question)).granted, "it has not heard from the leader since it started"
    (first,) = [send for send in sent(effects) if isinstance(send.question, Fetch)]
    drive(Answered(first.request_id, FetchAnswer(ErrorCode.NONE, 5, 2, None, 2)))
    assert not reply(drive(question)).granted
    assert drive.raft.role is Role.FOLLOWER


def test_a_follower_whose_leader_is_dead_does_not_wait_for_the_fetch_timeout() -> None:
    drive, effects = of_three(ElectionState(5, leader_id=2), log_of(1, 5))
    (first,) = [send for send in sent(effects) if isinstance(send.question, Fetch)]
    drive(Answered(first.request_id, None, "refused"))
    drive.fire(101.0)
    assert drive.raft.role is Role.PROSPECTIVE


def test_a_replica_remembers_when_it_heard_which_leader_last() -> None:
    drive, effects = of_three(ElectionState(5, leader_id=2), log_of(1, 5))
    assert drive.raft.leader_heard is None
    (first,) = [send for send in sent(effects) if isinstance(send.question, Fetch)]
    drive(Answered(first.request_id, FetchAnswer(ErrorCode.NONE, 5, 2, None, 2)))
    heard = drive.raft.leader_heard
    assert heard == (2, drive.raft.now_ms)
    drive.fire(3000.0)
    assert drive.raft.leader_heard == heard


def test_the_preferred_successor_tries_at_once_and_the_next_later() -> None:
    drive, _ = of_three(ElectionState(5, leader_id=2), log_of(1, 5))
    drive(Asked("t", EndEpoch(5, 2, (ReplicaKey(1), ReplicaKey(3)))))
    assert drive.raft.role is Role.PROSPECTIVE
    drive, _ = of_three(ElectionState(5, leader_id=2), log_of(1, 5))
    drive(Asked("t", EndEpoch(5, 2, (ReplicaKey(3), ReplicaKey(1)))))
    assert drive.raft.role is Role.FOLLOWER
    drive.fire(501.0)
    assert drive.raft.role is Role.PROSPECTIVE


def test_who_led_an_epoch_before_a_restart_never_leads_or_votes_in_it_again() -> None:
    drive, effects = of_three(ElectionState(5, leader_id=1), log_of(1, 5))
    assert drive.raft.role is Role.RESIGNED
    assert {type(send.question) for send in sent(effects)} == {EndEpoch}
    assert not reply(drive(Asked("t", Vote(5, ReplicaKey(2), ReplicaKey(1), 4, 9)))).granted
    drive.fire(2001.0)
    assert drive.raft.role is Role.UNATTACHED and drive.raft.epoch == 6


def test_an_observer_never_takes_part_in_elections() -> None:
    raft = Raft(ReplicaKey(9), voters(1, 2, 3), ElectionState(), WorldLog(), Random(1))
    drive = Driver(raft)
    (first,) = sent(drive(Started()))
    assert isinstance(first.question, Fetch)
    drive(Answered(first.request_id, FetchAnswer(ErrorCode.NOT_LEADER_OR_FOLLOWER, 3, 2, ("localhost", 9092))))
    assert raft.role is Role.FOLLOWER and raft.leader_id == 2 and raft.epoch == 3
    for now in range(0, 100_000, 1000):
        drive.fire(float(now))
        assert raft.role in (Role.FOLLOWER, Role.UNATTACHED)


# Replication.


def test_what_a_majority_has_is_committed_and_the_listener_hears_of_its_leader_first() -> None:
    drive, _ = leading()
    drive.raft.log.entries.append(Entry(6, "leader"))  # type: ignore[attr-defined]
    assert not [e for e in drive(Flushed(3)) if isinstance(e, HighWatermarkAdvanced)]
    effects = drive(fetch(2, 2, 5))
    assert not [e for e in effects if isinstance(e, HighWatermarkAdvanced)], "entries of earlier epochs do not count"
    effects = drive(fetch(2, 3, 6))
    assert effects[:2] == [LeaderChanged(6, 1), HighWatermarkAdvanced(3)]
    assert reply(effects).high_watermark == 3


def test_observers_do_not_count() -> None:
    drive, _ = leading()
    drive.raft.log.entries.append(Entry(6, "leader"))  # type: ignore[attr-defined]
    drive(Flushed(3))
    for observer in (8, 9):
        assert not [e for e in drive(fetch(observer, 3, 6)) if isinstance(e, HighWatermarkAdvanced)]
    leader = drive.raft.leader
    assert leader is not None and sorted(key.id for key in leader.observers) == [8, 9]


def test_a_fetch_waits_for_records_or_for_a_commit() -> None:
    drive, _ = leading()
    log: Any = drive.raft.log
    log.entries.append(Entry(6, "leader"))
    drive(Flushed(3))
    assert not [e for e in drive(fetch(3, 3, 6, wait=500)) if isinstance(e, Reply | ReplyRecords)]
    log.entries.append(Entry(6, "more"))
    (answer,) = [effect for effect in drive(Appended(4)) if isinstance(effect, ReplyRecords)]
    assert answer.offset == 3
    effects = drive(fetch(3, 4, 6, wait=500))
    assert not [e for e in effects if isinstance(e, Reply | ReplyRecords)]
    effects = drive.fire(drive.now + 500)
    assert [type(effect) for effect in effects if not isinstance(effect, SetTimer | Send)] == [Reply]


@pytest.mark.parametrize(
    ("offset", "last_epoch", "diverging"), [(3, 5, (5, 2)), (2, 4, (1, 1)), (9, 6, (6, 3)), (2, 5, None), (0, 0, None)]
)
def test_a_log_that_diverged_is_told_where(offset: int, last_epoch: int, diverging: tuple[int, int] | None) -> None:
    drive, _ = leading()
    drive.raft.log.entries.append(Entry(6, "leader"))  # type: ignore[attr-defined]
    assert reply(drive(fetch(3, offset, last_epoch))).diverging == diverging


@pytest.mark.parametrize(("epoch", "error"), [(5, ErrorCode.FENCED_LEADER_EPOCH), (7, ErrorCode.UNKNOWN_LEADER_EPOCH)])
def test_fetches_of_other_epochs_are_refused_and_told_who_leads(epoch: int, error: ErrorCode) -> None:
    drive, _ = leading()
    answer = reply(drive(fetch(3, 0, 0, epoch=epoch)))
    assert (answer.error, answer.epoch, answer.leader_id) == (error, 6, 1)


def test_who_lacks_what_is_gone_is_told_of_the_newest_snapshot() -> None:
    drive, _ = leading()
    log: Any = drive.raft.log
    log.entries.append(Entry(6, "leader"))
    log.start_offset, log.snapshots = 2, [SnapshotId(2, 5)]
    assert reply(drive(fetch(3, 0, 0))).snapshot == SnapshotId(2, 5)
    effects = drive(Asked("s", FetchSnapshot(6, ReplicaKey(3), SnapshotId(2, 5), 10)))
    (piece,) = [effect for effect in effects if isinstance(effect, ReplySnapshot)]
    assert piece.position == 10


def test_a_follower_goes_back_to_where_it_agrees_with_the_leader() -> None:
    drive, effects = of_three(ElectionState(5, leader_id=2), log_of(1, 3, 3, 4))
    (first,) = [send for send in sent(effects) if isinstance(send.question, Fetch)]
    answer = FetchAnswer(ErrorCode.NONE, 5, 2, None, 1, diverging=(3, 2))
    assert Truncate(2) in drive(Answered(first.request_id, answer))


def test_a_follower_fetches_on_only_when_what_it_got_is_durable() -> None:
    drive, effects = of_three(ElectionState(5, leader_id=2), log_of(1, 5))
    (first,) = [send for send in sent(effects) if isinstance(send.question, Fetch)]
    records = [Entry(5, "new")]
    effects = drive(Answered(first.request_id, FetchAnswer(ErrorCode.NONE, 5, 2, None, 3, records=records)))
    assert effects[0] == AppendFetched(records, 3) and not sent(effects)
    drive.raft.log.entries += records  # type: ignore[attr-defined]
    effects = drive(FetchedAppended(3, 3))
    assert effects[0] == HighWatermarkAdvanced(3) and not sent(effects)
    (following,) = sent(drive(Flushed(3)))
    assert isinstance(following.question, Fetch) and following.question.offset == 3


def test_a_follower_whose_disk_refuses_records_is_behind_until_it_has_what_is_committed() -> None:
    drive, effects = of_three(ElectionState(5, leader_id=2), log_of(1, 5))
    log = drive.raft.log
    (first,) = [send for send in sent(effects) if isinstance(send.question, Fetch)]
    records = [Entry(5, "new")]
    drive(Answered(first.request_id, FetchAnswer(ErrorCode.NONE, 5, 2, None, 2, records=records)))
    assert not drive.raft.is_behind
    drive(AppendRefused())
    assert drive.raft.is_behind
    (again,) = sent(drive(FetchedAppended(2, -1)))
    assert drive.raft.is_behind, "it is time to try again, and that is all"
    drive(Answered(again.request_id, FetchAnswer(ErrorCode.NONE, 5, 2, None, 4, records=records)))
    log.entries += records  # type: ignore[attr-defined]
    drive(FetchedAppended(3, 4))
    assert drive.raft.is_behind, "the leader has committed more"
    (following,) = sent(drive(Flushed(3)))
    drive(Answered(following.request_id, FetchAnswer(ErrorCode.NONE, 5, 2, None, 4, records=records)))
    log.entries += records  # type: ignore[attr-defined]
    drive(FetchedAppended(4, 4))
    assert not drive.raft.is_behind


def test_a_leader_that_hears_from_no_majority_resigns() -> None:
    drive, _ = leading()
    for now in range(1100, 4000, 100):
        drive(fetch(3, 2, 5), float(now))
        drive.fire(float(now))
    assert drive.raft.role is Role.LEADER
    drive.fire(3900 + 3001.0)
    assert drive.raft.role is Role.RESIGNED


def test_waiting_fetches_are_answered_when_the_leader_is_deposed() -> None:
    drive, _ = leading()
    log: Any = drive.raft.log
    log.entries.append(Entry(6, "leader"))
    assert not [e for e in drive(fetch(3, 3, 6, wait=500)) if isinstance(e, Reply)]
    effects = drive(Asked("vote", Vote(7, ReplicaKey(2), ReplicaKey(1), 6, 3)))
    answers = [effect.answer for effect in effects if isinstance(effect, Reply)]
    assert [answer.error for answer in answers] == [ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NONE]


def test_successors_are_named_by_the_length_of_their_logs() -> None:
    drive, _ = leading()
    drive.raft.log.entries.append(Entry(6, "leader"))  # type: ignore[attr-defined]
    drive(fetch(2, 2, 5))
    drive(fetch(3, 3, 6))
    leader = drive.raft.leader
    assert isinstance(leader, Leader)
    assert [key.id for key in leader.successors()] == [3, 2]


def dynamic_leader() -> Driver:
    """Node 1 leads epoch 6 of voters 1, 2, 3 whose set stands in the log; its first record is committed."""
    log = log_of(1, 5)
    set_of_three = VoterSet(voters(1, 2, 3).voters, dynamic=True)
    raft = Raft(ReplicaKey(1), set_of_three, ElectionState(5), log, Random(1), flushed_end=2)
    drive = Driver(raft)
    drive(Started())
    asked = {send.node_id: send for send in sent(drive.fire(1000))}
    asked = {send.node_id: send for send in sent(drive(granted(asked[2])))}
    drive(granted(asked[2]))
    log.entries.append(Entry(6, "leader"))
    drive(Flushed(3))
    drive(fetch(2, 3, 6))
    return drive


def test_a_fetch_that_commits_the_leaders_own_removal_is_refused_and_not_kept() -> None:
    drive = dynamic_leader()
    log: Any = drive.raft.log
    (removal,) = [e for e in drive(RemoveVoter("order", ReplicaKey(1))) if isinstance(e, AppendVoters)]
    log.entries.append(Entry(6, "voters"))
    drive(VotersChanged(removal.voters))
    drive(Flushed(4))
    drive(fetch(3, 4, 6))
    effects = drive(fetch(2, 4, 6, wait=500))
    assert drive.raft.role is Role.RESIGNED
    answers = {effect.token: effect.answer for effect in effects if isinstance(effect, Reply)}
    assert answers["order"].error == ErrorCode.NONE
    assert answers["fetch"].error == ErrorCode.NOT_LEADER_OR_FOLLOWER


def test_a_snapshot_that_is_being_installed_is_waited_for_whoever_leads_meanwhile() -> None:
    """Its file would be written anew, or records that are not durable pass for durable ones."""
    drive, effects = of_three(ElectionState(5, leader_id=2), log_of(1, 1))
    id = SnapshotId(9, 5)
    (first,) = [send for send in sent(effects) if isinstance(send.question, Fetch)]
    (asked,) = sent(drive(Answered(first.request_id, FetchAnswer(ErrorCode.NONE, 5, 2, None, 9, snapshot=id))))
    piece = SnapshotAnswer(ErrorCode.NONE, 5, 2, None, id, 4, 0, b"data")
    (stored,) = [e for e in drive(Answered(asked.request_id, piece)) if isinstance(e, StoreSnapshotPiece)]
    assert stored.last
    effects = drive(Asked("begin", BeginEpoch(6, 3, UNKNOWN_KEY, {"CONTROLLER": ("localhost", 9093)})))
    assert drive.raft.leader_id == 3 and not sent(effects)
    log: Any = drive.raft.log
    log.entries, log.start_offset, log.snapshots = [Entry(5, None)] * 9, 9, [id]
    (following,) = sent(drive(SnapshotInstalled(id)))
    assert isinstance(following.question, Fetch) and following.question.offset == 9

"""The Raft state machine: what it decides, without files or time."""

from __future__ import annotations

import pytest

from broadsheet_broker.raft.leader import Leader
from broadsheet_broker.raft.machine import Raft, RaftError
from broadsheet_broker.raft.messages import (
    AppendLeaderChange,
    ElectionState,
    Flushed,
    HighWatermarkAdvanced,
    LeaderChanged,
    LogFailed,
    ShutDown,
    Started,
    StoreElection,
)
from broadsheet_broker.raft.roles import TRANSITIONS, Role
from broadsheet_broker.raft.voters import ReplicaKey, Voter, VoterSet


def voters(*ids: int) -> VoterSet:
    return VoterSet({id: Voter(ReplicaKey(id), {"CONTROLLER": ("localhost", 9090 + id)}) for id in ids})


def started(epoch: int = 0, end: int = 0, last_epoch: int = 0) -> tuple[Raft, list[object]]:
    raft = Raft(ReplicaKey(1), voters(1), ElectionState(epoch))
    return raft, list(raft.step(Started(end, last_epoch), 0.0))


def test_a_quorum_of_one_elects_itself_and_stores_that_before_anything_else() -> None:
    raft, effects = started()
    assert effects == [
        StoreElection(ElectionState(1, leader_id=1)),
        AppendLeaderChange(1, 1, (ReplicaKey(1),), (ReplicaKey(1),)),
        LeaderChanged(1, 1),
    ]
    assert raft.role is Role.LEADER and raft.high_watermark is None


@pytest.mark.parametrize(("stored", "in_log", "next_epoch"), [(4, 4, 5), (0, 7, 8), (9, 2, 10)])
def test_an_epoch_never_comes_back_even_when_the_quorum_state_was_lost(
    stored: int, in_log: int, next_epoch: int
) -> None:
    raft, _ = started(stored, 100, in_log)
    assert raft.epoch == next_epoch


def test_nothing_is_committed_before_the_epoch_has_an_entry_of_its_own() -> None:
    raft, _ = started(1, 50, 1)
    assert raft.step(Flushed(50), 1.0) == []
    assert raft.step(Flushed(51), 2.0) == [HighWatermarkAdvanced(51)]
    assert raft.step(Flushed(51), 3.0) == []
    assert raft.step(Flushed(60), 4.0) == [HighWatermarkAdvanced(60)]


@pytest.mark.parametrize("message", [ShutDown(), LogFailed()])
def test_a_leader_that_stops_or_loses_its_log_leads_no_more(message: ShutDown | LogFailed) -> None:
    raft, _ = started()
    assert raft.step(message, 1.0) == [LeaderChanged(1, None)]
    assert raft.role is Role.RESIGNED
    assert raft.step(Flushed(10), 2.0) == []


def test_a_quorum_that_is_not_built_yet_is_refused_in_words() -> None:
    raft = Raft(ReplicaKey(1), voters(1, 2, 3), ElectionState())
    with pytest.raises(RaftError, match=r"quorum of \[1, 2, 3\]"):
        raft.step(Started(0, 0), 0.0)


def test_every_role_can_be_left_and_none_leads_without_being_candidate() -> None:
    assert set(TRANSITIONS) == set(Role)
    assert [role for role, following in TRANSITIONS.items() if Role.LEADER in following] == [Role.CANDIDATE]


def test_the_high_watermark_of_three_is_what_two_have() -> None:
    leader = Leader(1, 5, 10, voters(1, 2, 3))
    assert not leader.voter_reached(1, 20)
    assert not leader.voter_reached(2, 10), "a majority has entries of earlier epochs only"
    assert leader.voter_reached(2, 15) and leader.high_watermark == 15
    assert leader.voter_reached(3, 18) and leader.high_watermark == 18
    assert not leader.voter_reached(3, 12), "a log that is said to be shorter takes nothing back"
    assert leader.high_watermark == 18

"""How a replica answers the questions of others: votes, news of epochs and leaders, and what only a leader answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from broadsheet_broker.raft.messages import (
    AddVoter,
    BeginEpoch,
    ChangeAnswer,
    ElectionState,
    EndEpoch,
    EpochAnswer,
    Fetch,
    FetchSnapshot,
    Question,
    RemoveVoter,
    SnapshotAnswer,
    Vote,
    VoteAnswer,
)
from broadsheet_broker.raft.roles import Role
from broadsheet_broker.raft.unattached import Unattached
from broadsheet_broker.raft.voters import ReplicaKey
from broadsheet_broker.wire.errors import ErrorCode

if TYPE_CHECKING:
    from broadsheet_broker.raft.machine import Raft


def asked(raft: Raft, token: Any, question: Question) -> None:
    """Answer another replica, now or when there is something to answer."""
    if raft.is_broken:
        _refuse(raft, token, question, ErrorCode.BROKER_NOT_AVAILABLE)
    elif isinstance(question, Vote):
        _asked_vote(raft, token, question)
    elif isinstance(question, BeginEpoch | EndEpoch):
        _asked_epoch(raft, token, question)
    else:
        error = _leader_error(raft, question.epoch)
        leader = raft.leader
        if error or leader is None:
            _refuse(raft, token, question, error)
        elif isinstance(question, Fetch):
            leader.asked_fetch(token, question)
        elif isinstance(question, FetchSnapshot):
            leader.asked_snapshot(token, question)
        else:
            leader.changes.update(token, question)


def _leader_error(raft: Raft, epoch: int) -> ErrorCode:
    if epoch < raft.epoch:
        return ErrorCode.FENCED_LEADER_EPOCH
    if epoch > raft.epoch:
        return ErrorCode.UNKNOWN_LEADER_EPOCH
    return ErrorCode.NONE if raft.leader is not None else ErrorCode.NOT_LEADER_OR_FOLLOWER


def _refuse(raft: Raft, token: Any, question: Question, error: ErrorCode) -> None:
    leader_id = raft.election.leader_id
    address = raft.known_leader_address
    if isinstance(question, Vote):
        raft.reply(token, VoteAnswer(error, raft.epoch, leader_id, address))
    elif isinstance(question, Fetch):
        raft.reply(token, raft.fetch_answer(error))
    elif isinstance(question, FetchSnapshot):
        raft.reply(token, SnapshotAnswer(error, raft.epoch, leader_id, address, question.snapshot))
    else:
        raft.reply(token, EpochAnswer(error, raft.epoch, leader_id, address))


def _asked_vote(raft: Raft, token: Any, vote: Vote) -> None:
    error = ErrorCode.NONE
    highest_last_epoch = vote.epoch if vote.pre_vote else vote.epoch - 1
    if not 0 <= vote.last_epoch <= highest_last_epoch or vote.end_offset < 0 or vote.candidate.id < 0:
        error = ErrorCode.INVALID_REQUEST
    elif vote.epoch < raft.epoch:
        error = ErrorCode.FENCED_LEADER_EPOCH
    elif vote.voter.id >= 0 and not vote.voter.matches(raft.local):
        error = ErrorCode.INVALID_VOTER_KEY
    if error:
        _refuse(raft, token, vote, error)
        return
    if vote.epoch > raft.epoch:
        raft.become_unattached(vote.epoch)
    assert raft.state is not None
    up_to_date = (vote.last_epoch, vote.end_offset) >= (raft.log.last_epoch, raft.log.end_offset)
    granted = raft.state.may_grant(vote, up_to_date)
    if granted and not vote.pre_vote and raft.election.voted is None:
        raft.elect(ElectionState(raft.epoch, raft.election.leader_id, vote.candidate))
        if isinstance(raft.state, Unattached):  # the candidate has as good a chance as this replica
            raft.state.election_deadline_ms = raft.now_ms + raft.random_election_timeout()
    leader = raft.election.leader_id
    raft.reply(token, VoteAnswer(ErrorCode.NONE, raft.epoch, leader, raft.known_leader_address, granted))


def _asked_epoch(raft: Raft, token: Any, question: BeginEpoch | EndEpoch) -> None:
    epoch, leader_id = question.epoch, question.leader_id
    known = raft.election.leader_id
    error = ErrorCode.NONE
    if epoch < raft.epoch:
        error = ErrorCode.FENCED_LEADER_EPOCH
    elif leader_id < 0 or leader_id == raft.local.id or (epoch == raft.epoch and known not in (None, leader_id)):
        error = ErrorCode.INVALID_REQUEST
    elif isinstance(question, BeginEpoch) and question.voter.id >= 0 and not question.voter.matches(raft.local):
        error = ErrorCode.INVALID_VOTER_KEY
    if error:
        _refuse(raft, token, question, error)
        return
    if epoch > raft.epoch or raft.role is not Role.FOLLOWER:
        raft.heard_of(epoch, leader_id, next(iter(question.endpoints.values()), None))
    assert raft.state is not None
    if isinstance(question, BeginEpoch):
        raft.state.led_by(leader_id)
    else:
        raft.state.succeed(_succession_delay(raft, question.successors))
    _refuse(raft, token, question, ErrorCode.NONE)


def _succession_delay(raft: Raft, successors: tuple[ReplicaKey, ...]) -> float:
    """The first in line tries at once, the others later, each in time for the one before to have won."""
    count = len(successors)
    for position, key in enumerate(successors):
        if key.matches(raft.local):
            longest = raft.settings.backoff_max_ms
            return min(longest, (longest >> (count - 1)) << (position - 1)) if position else 0.0
    return raft.random.uniform(0, raft.settings.election_timeout_ms / 4)


def change_voters(raft: Raft, order: AddVoter | RemoveVoter) -> None:
    """Carry out an order of an operator, or refuse it on a replica that does not lead."""
    leader = raft.leader
    if leader is None:
        reason = "This controller does not lead the metadata quorum."
        raft.reply(order.token, ChangeAnswer(ErrorCode.NOT_LEADER_OR_FOLLOWER, reason))
    elif isinstance(order, AddVoter):
        leader.changes.add(order)
    else:
        leader.changes.remove(order)

"""Changing who votes, one replica at a time (KIP-853): the leader's part.

A change is a VotersRecord in the log. It is in force from when it is appended, on the leader and on every replica that
fetches it; the operator that ordered it is answered when it is committed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from broadsheet_broker.raft.messages import (
    AddVoter,
    AppendVoters,
    ChangeAnswer,
    EpochAnswer,
    RemoveVoter,
    UpdateVoter,
)
from broadsheet_broker.raft.role_state import NEVER
from broadsheet_broker.raft.voters import VoterSet
from broadsheet_broker.wire.errors import ErrorCode

if TYPE_CHECKING:
    from broadsheet_broker.raft.leader import Leader

_FRESH_MS = 3600_000
"""A new voter must have caught up before it votes, and have fetched within this time."""


class VoterChanges:
    """At most one change is under way."""

    def __init__(self, leader: Leader) -> None:
        self._leader = leader
        self._offset: int | None = None
        """Of the VotersRecord that is not committed yet."""
        self._token: Any = None
        self._waiting: tuple[AddVoter, float] | None = None
        """An added voter that has not caught up yet, and until when that may take."""
        self._leaving = False
        """The change takes this leader's own vote."""

    def poll(self) -> float:
        """An order that waits: carry it out when its replica has caught up, refuse it when its time is over."""
        if self._waiting is None:
            return NEVER
        order, deadline_ms = self._waiting
        if self._has_caught_up(order):
            self._waiting = None
            self._append(self._leader.raft.voters.with_voter(order.voter), order.token, order.ack_when_committed)
        elif self._leader.raft.now_ms >= deadline_ms:
            self._waiting = None
            key = order.voter.key
            reason = f"Aborted add voter operation for node {key.id}: it has not caught up with the leader."
            self._answer(order.token, ErrorCode.REQUEST_TIMED_OUT, reason)
        return NEVER if self._waiting is None else deadline_ms

    def _has_caught_up(self, order: AddVoter) -> bool:
        progress = self._leader.progress_of(order.voter.key)
        if progress is None or progress.last_caught_up_ms < 0:
            return False
        return progress.last_fetch_ms > self._leader.raft.now_ms - _FRESH_MS

    def _refusal(self, what: str) -> ChangeAnswer | None:
        raft = self._leader.raft
        if self._leader.high_watermark is None or self._offset is not None or self._waiting is not None:
            reason = f"Request timed out waiting for leader to handle previous voter change request while {what}."
            return ChangeAnswer(ErrorCode.REQUEST_TIMED_OUT, reason)
        if not raft.voters.dynamic:
            reason = "Cluster doesn't support this operation: it needs kraft.version 1."
            return ChangeAnswer(ErrorCode.UNSUPPORTED_VERSION, reason)
        return None

    def add(self, order: AddVoter) -> None:
        raft, key = self._leader.raft, order.voter.key
        refusal = self._refusal(f"adding voter {key.id}")
        if refusal is None and key.id in raft.voters:
            known = raft.voters.voters[key.id].key
            reason = f"The voter id for {key.id} is already part of the set of voters {raft.voters.ids}."
            if not known.matches(key):
                reason += " Its directory is another one: remove the old voter first."
            refusal = ChangeAnswer(ErrorCode.DUPLICATE_VOTER, reason)
        if refusal is None and not order.voter.endpoints:
            refusal = ChangeAnswer(ErrorCode.INVALID_REQUEST, "Add voter request didn't include any listener.")
        if refusal is not None:
            raft.reply(order.token, refusal)
            return
        self._waiting = order, raft.now_ms + order.timeout_ms
        self.poll()

    def remove(self, order: RemoveVoter) -> None:
        raft, key = self._leader.raft, order.key
        refusal = self._refusal(f"removing voter {key.id}")
        known = raft.voters.voters.get(key.id)
        if refusal is None and (known is None or known.key != key):
            reason = f"Cannot remove voter {key.id} with that directory: it is not in the set of voters."
            refusal = ChangeAnswer(ErrorCode.VOTER_NOT_FOUND, reason)
        if refusal is None and len(raft.voters) == 1:
            refusal = ChangeAnswer(ErrorCode.INVALID_REQUEST, f"Voter {key.id} is the only one; the quorum needs it.")
        if refusal is not None:
            raft.reply(order.token, refusal)
            return
        self._append(raft.voters.without(key.id), order.token, True)
        self._leaving = key.id == raft.local.id

    def update(self, token: Any, question: UpdateVoter) -> None:
        raft, voter = self._leader.raft, question.voter
        error = ErrorCode.NONE
        known = raft.voters.voters.get(voter.key.id)
        if known is None or known.key != voter.key or not raft.voters.dynamic:
            error = ErrorCode.VOTER_NOT_FOUND if raft.voters.dynamic else ErrorCode.UNSUPPORTED_VERSION
        elif self._leader.high_watermark is None or self._offset is not None or self._waiting is not None:
            error = ErrorCode.REQUEST_TIMED_OUT
        elif known.endpoints != voter.endpoints:
            self._append(raft.voters.with_voter(voter), None, True)
        raft.reply(token, EpochAnswer(error, raft.epoch, raft.local.id, raft.own_address))

    def _append(self, voters: VoterSet, token: Any, ack_when_committed: bool) -> None:
        raft = self._leader.raft
        self._offset, self._leaving = raft.log.end_offset, False
        self._token = token if ack_when_committed else None
        raft.emit(AppendVoters(voters))
        if not ack_when_committed:
            self._answer(token, ErrorCode.NONE)

    def committed(self, end_offset: int) -> None:
        if self._offset is None or end_offset <= self._offset:
            return
        token, self._token, self._offset = self._token, None, None
        if token is not None:
            self._answer(token, ErrorCode.NONE)
        if self._leaving:
            self._leader.raft.become_resigned(self._leader.successors())

    def check_log(self) -> None:
        """The disk may have refused the record of a change: then there is none."""
        if self._offset is None or self._offset < self._leader.raft.log.end_offset:
            return
        token, self._token, self._offset, self._leaving = self._token, None, None, False
        if token is not None:
            self._answer(token, ErrorCode.KAFKA_STORAGE_ERROR, "The metadata log could not be written.")

    def leave(self) -> None:
        """Another leader decides now what becomes of a change that is not committed."""
        tokens = [self._token] if self._token is not None else []
        if self._waiting is not None:
            tokens.append(self._waiting[0].token)
        self._token = self._waiting = self._offset = None
        for token in tokens:
            self._answer(
                token, ErrorCode.NOT_LEADER_OR_FOLLOWER, "This controller no longer leads the metadata quorum."
            )

    def _answer(self, token: Any, error: ErrorCode, message: str | None = None) -> None:
        self._leader.raft.reply(token, ChangeAnswer(error, message))

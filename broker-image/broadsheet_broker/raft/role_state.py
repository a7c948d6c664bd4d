"""What every role has."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from broadsheet_broker.raft.messages import (
    EpochAnswer,
    Fetch,
    FetchAnswer,
    Question,
    SnapshotAnswer,
    Vote,
    VoteAnswer,
)
from broadsheet_broker.raft.roles import Role

if TYPE_CHECKING:
    from broadsheet_broker.raft.machine import Raft

NEVER = math.inf
"""A deadline that does not come."""


class RoleState:
    """One replica in one role of one epoch. Created with every transition, so nothing of an old role remains."""

    role: ClassVar[Role]

    def __init__(self, raft: Raft) -> None:
        self.raft = raft

    def enter(self) -> None:
        """The role begins."""

    def leave(self) -> None:
        """The role ends; the next one is not in force yet."""

    def poll(self) -> float:
        """Do what is due, at most one transition among it; returns when something more may be due."""
        return NEVER

    def may_grant(self, vote: Vote, up_to_date: bool) -> bool:
        """Whether the candidate of this epoch gets the vote, or would get it."""
        raise NotImplementedError

    def led_by(self, leader_id: int) -> None:
        """The leader of this epoch, known or new, has spoken."""

    def succeed(self, delay_ms: float) -> None:
        """The leader of this epoch has given it up; after the delay, it is this replica's turn to try."""

    # The log has changed.

    def appended(self, end_offset: int) -> None: ...

    def fetched_appended(self, end_offset: int, high_watermark: int) -> None: ...

    def flushed(self) -> None: ...

    def voters_changed(self) -> None: ...

    # Answers of this epoch, after what they say of epoch and leader is dealt with.

    def vote_answered(self, node_id: int, question: Vote, answer: VoteAnswer) -> None: ...

    def epoch_answered(self, node_id: int, question: Question, answer: EpochAnswer) -> None: ...

    def fetch_answered(self, node_id: int, question: Fetch, answer: FetchAnswer) -> None: ...

    def snapshot_answered(self, node_id: int, answer: SnapshotAnswer) -> None: ...

    def not_answered(self, node_id: int, question: Question, failure: str) -> None:
        """There will be no answer; `failure` is the kind of the PeerError."""

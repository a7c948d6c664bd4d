"""Raft under faults: many seeds of a world of chance, and proof that the world notices what must not be.

More seeds: RAFT_SEEDS=5000 pytest tests/raft/test_raft_world.py
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from broadsheet_broker.raft.follower import Follower
from broadsheet_broker.raft.leader import Leader
from broadsheet_broker.raft.machine import Raft
from broadsheet_broker.raft.messages import Vote
from broadsheet_broker.raft.roles import TRANSITIONS, Role
from broadsheet_broker.raft.unattached import Unattached
from tests.raft.support import Machine, run_seed

pytestmark = pytest.mark.slow

SEEDS = int(os.environ.get("RAFT_SEEDS", "120"))
GROUPS = 8


@pytest.mark.parametrize("group", range(GROUPS))
@pytest.mark.parametrize("size", [3, 5])
def test_nothing_committed_is_lost_and_everything_heals(group: int, size: int) -> None:
    seen: set[tuple[Role, Role]] = set()
    committed = 0
    for seed in range(group, SEEDS // 2, GROUPS):
        world = run_seed(seed * 10 + size, size=size)
        seen |= {(before, after) for before, after in world.transitions if before is not after}
        committed += len(world.committed)
    assert committed > 100
    # A step that goes through several roles (an only voter, an election that is won at once) shows first and last.
    assert all(after in TRANSITIONS[before] or before is Role.UNATTACHED for before, after in seen)


def grants_everybody(self: Unattached, vote: Vote, up_to_date: bool) -> bool:
    return True


def test_a_voter_that_does_not_look_at_logs_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Unattached, "may_grant", grants_everybody)
    assert finds_a_fault()


def test_a_voter_that_forgets_its_vote_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    start = Machine.start

    def forgetful(self: Machine) -> None:
        self.election = replace(self.election, voted=None)
        start(self)

    monkeypatch.setattr(Machine, "start", forgetful)
    assert finds_a_fault()


def test_a_leader_that_counts_what_is_not_durable_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def flushed(self: Leader) -> None:
        self.voters[self.raft.local.id].end_offset = self.raft.log.end_offset
        self._count()

    monkeypatch.setattr(Leader, "flushed", flushed)
    monkeypatch.setattr(Leader, "appended", lambda self, end: (flushed(self), self._answer_fetches()))
    monkeypatch.setattr(Raft, "may_fetch", property(lambda self: True))
    assert finds_a_fault()


def test_a_follower_that_never_goes_back_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Follower, "_common_end", lambda self, epoch, end: self.raft.log.end_offset)
    assert finds_a_fault()


def finds_a_fault(most: int = 200) -> bool:
    for seed in range(most):
        try:
            run_seed(seed, size=3 if seed % 2 else 5)
        except Exception:
            return True
    return False

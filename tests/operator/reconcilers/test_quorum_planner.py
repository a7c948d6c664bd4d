"""Who votes, who is let in, who is let go: tables of plain values."""

from __future__ import annotations

import pytest

from broadsheet_operator.reconcilers.observed import QuorumView, ReplicaView
from broadsheet_operator.reconcilers.quorum import (
    AddVoter,
    RemoveVoter,
    initial_directory,
    next_change,
    unsafe_to_stop,
    wanted_voters,
)

ADDRESSES = {id: (f"broker-{id}", 9093) for id in range(5)}


def replica(id: int, silent: float | None = 0.5, end: int = 100, directory: str = "") -> ReplicaView:
    return ReplicaView(id, directory or f"d{id}", end, silent)


def quorum(voters: list[ReplicaView], observers: list[ReplicaView] | None = None, leader: int = 0) -> QuorumView:
    return QuorumView(leader, 100, tuple(voters), tuple(observers or ()))


@pytest.mark.parametrize(("brokers", "voters"), [(1, 1), (2, 1), (3, 3), (4, 3), (9, 3)])
def test_one_voter_or_three(brokers: int, voters: int) -> None:
    assert wanted_voters(brokers) == tuple(range(voters))


@pytest.mark.parametrize(
    ("voters", "observers", "wanted", "change", "words"),
    [
        ([replica(0)], [], [0], None, ""),
        ([replica(0)], [], [0, 1, 2], None, "waiting until broker 1, 2 has the cluster's metadata"),
        ([replica(0)], [replica(1), replica(2)], [0, 1, 2], AddVoter(1, "d1", "broker-1", 9093), "broker 1 joins"),
        ([replica(0)], [replica(2)], [0, 1, 2], AddVoter(2, "d2", "broker-2", 9093), "broker 2 joins"),
        ([replica(0)], [replica(1, silent=60)], [0, 1, 2], None, "waiting until broker 1, 2"),
        ([replica(0)], [replica(1, end=-2000)], [0, 1, 2], None, "waiting until broker 1, 2"),
        ([replica(0), replica(1), replica(2)], [], [0], RemoveVoter(2, "d2"), "broker 2 leaves"),
        ([replica(0), replica(1)], [], [0], RemoveVoter(1, "d1"), "broker 1 leaves"),
        ([replica(0, 30), replica(1), replica(2)], [], [0], None, "broker 2 keeps its vote"),
    ],
)
def test_voters_change_one_at_a_time(
    voters: list[ReplicaView],
    observers: list[ReplicaView],
    wanted: list[int],
    change: AddVoter | RemoveVoter | None,
    words: str,
) -> None:
    leader = next(v.id for v in voters if v.silent_seconds != 30)
    step = next_change(quorum(voters, observers, leader), wanted, ADDRESSES)
    assert step.change == change
    assert step.words.startswith(words)
    assert bool(step.words) == bool(words)


def test_the_leader_is_the_last_to_lose_its_vote() -> None:
    seen = quorum([replica(0), replica(1), replica(2)], leader=2)
    step = next_change(seen, [0], ADDRESSES)
    assert step.change == RemoveVoter(1, "d1")


def test_a_voter_with_another_volume_goes_before_it_comes_back() -> None:
    back = replica(1, directory="new")
    seen = quorum([replica(0), replica(1, silent=60), replica(2)], [back])
    assert next_change(seen, [0, 1, 2], ADDRESSES).change == RemoveVoter(1, "d1", "its volume is another one now")
    seen = quorum([replica(0), replica(2)], [back])
    assert next_change(seen, [0, 1, 2], ADDRESSES).change == AddVoter(1, "new", "broker-1", 9093)


def test_a_voter_that_is_only_away_keeps_its_vote() -> None:
    seen = quorum([replica(0), replica(1, silent=600), replica(2)])
    assert next_change(seen, [0, 1, 2], ADDRESSES).change is None
    moved = quorum([replica(0), replica(1, silent=2), replica(2)], [replica(1, directory="new")])
    assert next_change(moved, [0, 1, 2], ADDRESSES).change is None, "both are heard of: wait until one is not"


def test_no_voter_goes_while_the_others_are_no_majority() -> None:
    seen = quorum([replica(0), replica(1, silent=60), replica(2, silent=60)], [replica(1, directory="new")])
    step = next_change(seen, [0, 1, 2], ADDRESSES)
    assert step.change is None
    assert step.words == "broker 1 keeps its vote: the metadata quorum would have no majority without it"


@pytest.mark.parametrize(
    ("voters", "unsafe"),
    [
        ([replica(0)], {}),
        ([replica(0), replica(1), replica(2)], {}),
        ([replica(0), replica(1, silent=60), replica(2)], {0: "broker 1 is not up to date", 2: "broker 1"}),
        ([replica(0), replica(1, end=-5000), replica(2)], {0: "broker 1 is not up to date", 2: "broker 1"}),
        ([replica(0), replica(1)], {0: "it has 2 voters only", 1: "it has 2 voters only"}),
    ],
)
def test_the_quorum_keeps_its_majority(voters: list[ReplicaView], unsafe: dict[int, str]) -> None:
    found = unsafe_to_stop(quorum(voters))
    assert found.keys() == unsafe.keys()
    for id, words in unsafe.items():
        assert "the metadata quorum would lose its majority" in found[id]
        assert words in found[id]


def test_first_directories_follow_from_the_cluster_and_are_no_options() -> None:
    ids = {initial_directory(cluster, broker) for cluster in ("a", "b") for broker in range(50)}
    assert len(ids) == 100
    assert initial_directory("a", 0) == initial_directory("a", 0)
    assert all(len(id) == 22 and not id.startswith("-") for id in ids)

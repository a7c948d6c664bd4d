"""One change of a partition: elections, the last member of an ISR, eligible leader replicas, reassignments."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from broadsheet_broker.controller.partition_change import RECOVERING, Election, Rules, Target, change_partition
from broadsheet_broker.metadata.delta import merge_partition
from broadsheet_broker.metadata.image import NO_LEADER, PartitionImage

TOPIC = uuid.UUID(int=77)
DIRECTORY = uuid.UUID(int=900)
NEW_DIRECTORY = uuid.UUID(int=901)


def partition(
    replicas: tuple[int, ...] = (1, 2, 3),
    isr: tuple[int, ...] | None = None,
    leader: int = 1,
    *,
    adding: tuple[int, ...] = (),
    removing: tuple[int, ...] = (),
    elr: tuple[int, ...] = (),
    last: tuple[int, ...] = (),
) -> PartitionImage:
    return PartitionImage(
        replicas=replicas,
        directories=(DIRECTORY,) * len(replicas),
        isr=replicas if isr is None else isr,
        removing_replicas=removing,
        adding_replicas=adding,
        elr=elr,
        last_known_elr=last,
        leader=leader,
        leader_recovery_state=0,
        leader_epoch=5,
        partition_epoch=9,
    )


def change(
    before: PartitionImage, target: Target, up: Collection[int], rules: Rules | None = None, **more: Any
) -> PartitionImage:
    record = change_partition(
        TOPIC,
        0,
        before,
        target,
        rules or Rules(),
        lambda id: id in up,
        directory_of=lambda id: NEW_DIRECTORY,
        **more,
    )
    return before if record is None else merge_partition(before, record)


def test_a_leader_that_goes_is_followed_by_the_next_in_sync_replica() -> None:
    after = change(partition(isr=(1, 3)), Target(isr=[3]), {2, 3})
    assert (after.leader, after.isr, after.leader_epoch) == (3, (3,), 6)


def test_nothing_to_change_makes_no_record() -> None:
    assert change_partition(TOPIC, 0, partition(), Target(), Rules(), lambda id: True) is None


def test_the_last_member_stays_in_the_isr_and_no_other_replica_leads() -> None:
    after = change(partition(isr=(1,)), Target(isr=[]), {2, 3})
    assert (after.leader, after.isr) == (NO_LEADER, (1,))
    again = change(after, Target(), {1, 2, 3})
    assert (again.leader, again.isr, again.leader_recovery_state) == (1, (1,), 0)


def test_an_unclean_election_happens_only_where_it_is_allowed() -> None:
    after = change(partition(isr=(1,)), Target(isr=[]), {2, 3}, Rules(unclean=True))
    assert (after.leader, after.isr, after.leader_recovery_state) == (2, (2,), RECOVERING)
    asked = change(partition(isr=(1,), leader=NO_LEADER), Target(), {3}, election=Election.UNCLEAN)
    assert (asked.leader, asked.isr) == (3, (3,))


def test_a_preferred_election_moves_the_leader_only_into_the_isr() -> None:
    assert change(partition(leader=2), Target(), {1, 2, 3}, election=Election.PREFERRED).leader == 1
    assert change(partition(isr=(2, 3), leader=2), Target(), {1, 2, 3}, election=Election.PREFERRED).leader == 2


ELR = Rules(min_isr=2, eligible_leader_replicas=True)


def test_a_replica_that_leaves_below_min_isr_is_eligible_until_it_stops_uncleanly() -> None:
    one = change(partition(isr=(1, 2)), Target(isr=[1]), {1, 3}, ELR)
    assert (one.isr, one.elr, one.leader) == ((1,), (2,), 1)
    none = change(one, Target(isr=[]), {3}, ELR)
    assert (none.isr, set(none.elr), none.leader, none.last_known_elr) == ((), {1, 2}, NO_LEADER, (1,))
    assert change(none, Target(), {3}, ELR).leader == NO_LEADER, "3 does not have every committed record"
    clean = change(none, Target(), {2, 3}, ELR)
    assert (clean.leader, clean.isr, clean.elr, clean.last_known_elr) == (2, (2,), (1,), ())
    lost = change(none, Target(isr=[], lost_tail=[2]), {3}, ELR)
    assert lost.elr == (1,)
    lost = change(lost, Target(isr=[], lost_tail=[1]), {3}, ELR)
    assert (lost.elr, lost.last_known_elr) == ((), (1,))
    back = change(lost, Target(), {1}, ELR)
    assert (back.leader, back.isr, back.leader_recovery_state) == (1, (1,), RECOVERING), (
        "the last leader, but not clean"
    )


def test_an_isr_of_min_isr_needs_no_eligible_replicas() -> None:
    after = change(partition(isr=(1,), elr=(2,)), Target(isr=[1, 3]), {1, 3}, ELR)
    assert (after.isr, after.elr) == ((1, 3), ())


def test_a_reassignment_completes_when_all_new_replicas_are_in_sync() -> None:
    begun = change(partition((1, 2)), Target(replicas=[3, 2, 1], adding=[3], removing=[1]), {1, 2, 3})
    assert (begun.replicas, begun.adding_replicas, begun.removing_replicas) == ((3, 2, 1), (3,), (1,))
    assert begun.directories == (NEW_DIRECTORY, DIRECTORY, DIRECTORY)
    done = change(begun, Target(isr=[1, 2, 3]), {1, 2, 3})
    assert (done.replicas, done.isr, done.leader) == ((3, 2), (2, 3), 3)
    assert not done.is_reassigning and done.directories == (NEW_DIRECTORY, DIRECTORY)
    assert done.leader_epoch > begun.leader_epoch


def test_a_cancelled_reassignment_leaves_only_replicas_in_the_isr() -> None:
    """Only the new replica was in sync, unclean elections are allowed, and no other broker is up."""
    begun = partition((3, 1, 2), isr=(3,), leader=3, adding=(3,))
    after = change(begun, Target(isr=[], replicas=[1, 2], adding=[], removing=[]), {3}, Rules(unclean=True))
    assert (after.replicas, after.isr, after.leader) == ((1, 2), (1,), NO_LEADER)


def test_a_removal_alone_is_done_at_once_with_a_new_leader_epoch() -> None:
    after = change(partition((1, 2, 3)), Target(replicas=[1, 2, 3], removing=[3]), {1, 2, 3})
    assert (after.replicas, after.isr, after.leader, after.leader_epoch) == ((1, 2), (1, 2), 1, 6)


ids = st.lists(st.integers(1, 6), unique=True, min_size=1, max_size=5)


@given(st.data(), ids, st.booleans(), st.booleans(), st.integers(1, 4))
def test_whatever_happens_a_leader_is_up_and_in_sync(
    data: st.DataObject, replicas: list[int], unclean: bool, elr: bool, min_isr: int
) -> None:
    isr = tuple(data.draw(st.lists(st.sampled_from(replicas), unique=True, min_size=1)))
    state = partition(tuple(replicas), isr, isr[0])
    rules = Rules(unclean, min_isr, elr)
    for _ in range(5):
        up = data.draw(st.sets(st.integers(1, 6)))
        stay = [id for id in state.isr if id in up]
        before, state = state, change(state, Target(isr=stay), up, rules)
        assert state.leader == NO_LEADER or (state.leader in up and state.leader in state.isr)
        assert set(state.isr) <= set(state.replicas) and not set(state.isr) & set(state.elr)
        assert state.isr or elr, "without eligible leader replicas the last member stays"
        if state.leader != before.leader:
            assert state.leader_epoch == before.leader_epoch + 1
        if not unclean and not elr and state.leader != NO_LEADER:
            assert state.leader in before.isr

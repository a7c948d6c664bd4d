"""The checker finds each anomaly in a history that has it, and nothing in histories that only look suspicious."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.history.checker import MOST_PER_KIND, check
from tests.support.history.operations import (
    Commit,
    Final,
    History,
    Loss,
    Outcome,
    Poll,
    ReadCommit,
    Seek,
    Send,
    Transaction,
)

ORDERS = ("orders", 0)
OK, FAILED, UNKNOWN = Outcome.OK, Outcome.FAILED, Outcome.UNKNOWN


def send(number: int, offset: int = -1, outcome: Outcome = OK, **more: Any) -> Send:
    """Number 7 has the value "7", is sent at second 7 and answered half a second later."""
    values: dict[str, Any] = {"producer": "p", "partition": ORDERS, "acks": -1, "value": str(number)} | more
    return Send(number=number, outcome=outcome, invoked=number, completed=number + 0.5, offset=offset, **values)


def poll(offset: int, value: object, when: float = 100.0, consumer: str = "c", **more: Any) -> Poll:
    return Poll(consumer, when, ORDERS, offset, str(value), **more)


def final(*records: tuple[int, object], start: int = 0) -> Final:
    end = records[-1][0] + 1 if records else start
    return Final(ORDERS, start, end, [(offset, str(value)) for offset, value in records])


def kinds(history: History) -> list[str]:
    return [anomaly.kind for anomaly in check(history)]


# What must be found.


def test_lost_write() -> None:
    history = History(sends=[send(1, 0), send(2, 1)], finals=[final((0, 1))])
    assert kinds(history) == ["lost write"]


def test_lost_write_with_weak_acks_counts_where_they_promise_durability() -> None:
    history = History(sends=[send(1, 0, acks=1)], finals=[final()])
    assert kinds(history) == []
    history.durable_acks = frozenset({-1, 1})
    assert kinds(history) == ["lost write"]


def test_lost_write_in_the_middle_although_a_loss_of_power_may_take_the_end() -> None:
    sends = [send(1, 0), send(2, 1), send(3, 2)]
    assert kinds(History(sends=sends, losses=[Loss(10)], finals=[final((0, 1), (2, 3))])) == ["lost write"]


def test_lost_write_acknowledged_after_the_loss_of_power() -> None:
    assert kinds(History(sends=[send(1, 0), send(20, 1)], losses=[Loss(10)], finals=[final((0, 1))])) == ["lost write"]


def test_aborted_read_of_a_refused_send() -> None:
    assert kinds(History(sends=[send(1, outcome=FAILED)], reads=[poll(0, 1)])) == ["aborted read"]


def test_aborted_read_of_an_aborted_transaction() -> None:
    history = History(
        sends=[send(1, 0, transaction="t")], transactions=[Transaction("t", FAILED, 9.0)], reads=[poll(0, 1)]
    )
    assert kinds(history) == ["aborted read"]


def test_aborted_read_of_what_nobody_sent() -> None:
    assert kinds(History(finals=[final((0, "where from?"))])) == ["aborted read"]


def test_inconsistent_offsets_between_consumers() -> None:
    sends = [send(1, outcome=UNKNOWN), send(2, outcome=UNKNOWN)]
    assert kinds(History(sends=sends, reads=[poll(0, 1), poll(0, 2, consumer="d")])) == ["inconsistent offsets"]


def test_inconsistent_offsets_between_an_acknowledgement_and_the_log() -> None:
    sends = [send(1, 0, ordered=False), send(2, 1)]
    found = kinds(History(sends=sends, finals=[final((0, 2), (1, 1))]))
    assert "inconsistent offsets" in found


def test_duplicate_of_an_idempotent_producer() -> None:
    assert kinds(History(sends=[send(1, 0)], finals=[final((0, 1), (1, 1))])) == ["duplicate"]


def test_poll_skip() -> None:
    sends = [send(n, n - 1) for n in (1, 2, 3)]
    log = final((0, 1), (1, 2), (2, 3))
    history = History(sends=sends, reads=[poll(0, 1), poll(2, 3), poll(1, 2, consumer="d")], finals=[log])
    assert kinds(history) == ["poll skip"]


def test_poll_skip_right_after_a_seek() -> None:
    sends = [send(n, n - 1) for n in (1, 2)]
    reads = [Seek("c", 1.0, ORDERS, 0), poll(1, 2), poll(0, 1, consumer="d")]
    assert kinds(History(sends=sends, reads=reads, finals=[final((0, 1), (1, 2))])) == ["poll skip"]


def test_non_monotonic_poll() -> None:
    history = History(sends=[send(1, 0), send(2, 1)], reads=[poll(0, 1), poll(1, 2), poll(0, 1)])
    assert kinds(history) == ["non-monotonic poll"]


def test_non_monotonic_poll_of_the_same_record_twice() -> None:
    assert kinds(History(sends=[send(1, 0)], reads=[poll(0, 1), poll(0, 1)])) == ["non-monotonic poll"]


def test_non_monotonic_send() -> None:
    history = History(sends=[send(1, 1), send(2, 0)], finals=[final((0, 2), (1, 1))])
    assert kinds(history) == ["non-monotonic send"]


def test_unseen_at_the_end() -> None:
    sends = [send(1, 0), send(2, 1)]
    history = History(sends=sends, reads=[Seek("c", 0.0, ORDERS, 0), poll(0, 1)], finals=[final((0, 1), (1, 2))])
    assert kinds(history) == ["unseen at the end"]


def test_circular_information_flow() -> None:
    history = History(
        sends=[send(1, 0, transaction="a"), send(2, 1, transaction="b"), send(3, 2, transaction="c")],
        reads=[
            poll(0, 1, consumer="b", transaction="b"),
            poll(1, 2, consumer="c", transaction="c"),
            poll(2, 3, consumer="a", transaction="a"),
        ],
        transactions=[Transaction(name, OK, 9.0) for name in "abc"],
    )
    assert kinds(history) == ["circular information flow"]


def test_lost_commit_that_was_replaced() -> None:
    commits = [Commit("g", ORDERS, 5, OK, 1.0, 2.0), Commit("g", ORDERS, 9, OK, 3.0, 4.0)]
    assert kinds(History(commits=commits, committed=[ReadCommit("g", ORDERS, 5, 5.0, 6.0)])) == ["lost commit"]


def test_lost_commit_of_the_only_one() -> None:
    commits = [Commit("g", ORDERS, 5, OK, 1.0, 2.0)]
    assert kinds(History(commits=commits, committed=[ReadCommit("g", ORDERS, -1, 5.0, 6.0)])) == ["lost commit"]


def test_lost_commit_for_an_offset_that_nobody_committed() -> None:
    assert kinds(History(committed=[ReadCommit("g", ORDERS, 3, 5.0, 6.0)])) == ["lost commit"]


# What is normal.


def test_gaps_between_offsets_are_normal() -> None:
    sends = [send(1, 0), send(2, 5)]
    assert not check(History(sends=sends, reads=[poll(0, 1), poll(5, 2)], finals=[final((0, 1), (5, 2))]))


def test_sends_of_unknown_outcome_may_be_written_or_not() -> None:
    sends = [send(1, outcome=UNKNOWN), send(2, outcome=UNKNOWN)]
    assert not check(History(sends=sends, reads=[poll(0, 2)], finals=[final((0, 2))]))


def test_duplicates_and_another_order_are_normal_without_idempotence() -> None:
    sends = [send(1, 2, ordered=False), send(2, 0, ordered=False)]
    log = final((0, 2), (1, 2), (2, 1))
    assert not check(History(sends=sends, reads=[poll(0, 2), poll(1, 2), poll(2, 1)], finals=[log]))


def test_cycles_of_writes_alone_are_normal() -> None:
    """G0: two transactions write to two partitions in opposite orders."""
    other = ("orders", 1)
    sends = [
        send(1, 0, transaction="a", value="a0"),
        send(1, 1, transaction="a", value="a1", partition=other),
        send(1, 1, transaction="b", value="b0", producer="q"),
        send(1, 0, transaction="b", value="b1", partition=other, producer="q"),
    ]
    logs = [final((0, "a0"), (1, "b0")), Final(other, 0, 2, [(0, "b1"), (1, "a1")])]
    transactions = [Transaction("a", OK, 9.0), Transaction("b", OK, 9.0)]
    assert not check(History(sends=sends, transactions=transactions, finals=logs))


def test_what_retention_deleted_is_not_lost() -> None:
    assert not check(History(sends=[send(1, 0), send(2, 1)], finals=[final((1, 2), start=1)]))


def test_consumers_may_go_back_and_forth_by_seeking() -> None:
    sends = [send(n, n - 1) for n in (1, 2, 3)]
    log = final((0, 1), (1, 2), (2, 3))
    seek = [Seek("c", 1.0, ORDERS, 0), Seek("c", 1.0, ORDERS, 2)]
    reads = [poll(0, 1), poll(1, 2), seek[0], poll(0, 1), seek[1], poll(2, 3)]
    assert not check(History(sends=sends, reads=reads, finals=[log]))


def test_a_loss_of_power_may_take_the_newest_and_give_their_offsets_again() -> None:
    sends = [send(1, 0), send(2, 1), send(20, 1)]
    reads = [poll(0, 1, 5.0), poll(1, 2, 6.0), Seek("c", 12.0, ORDERS, 1, "truncated"), poll(1, 20, 21.0)]
    assert not check(History(sends=sends, reads=reads, losses=[Loss(10)], finals=[final((0, 1), (1, 20))]))


def test_an_acknowledgement_on_its_way_during_a_loss_may_be_void() -> None:
    sends = [send(9, 0)._replace(completed=11.0), send(20, 0)]
    assert not check(History(sends=sends, losses=[Loss(10)], finals=[final((0, 20))]))


def test_commits_without_known_outcome_may_count_or_not() -> None:
    commits = [Commit("g", ORDERS, 5, OK, 1.0, 2.0), Commit("g", ORDERS, 9, UNKNOWN, 3.0, 4.0)]
    reads = [ReadCommit("g", ORDERS, offset, 5.0, 6.0) for offset in (5, 9)]
    assert not check(History(commits=commits, committed=reads))


def test_commits_at_the_same_time_may_take_effect_in_any_order() -> None:
    commits = [Commit("g", ORDERS, 5, OK, 1.0, 4.0), Commit("g", ORDERS, 9, OK, 2.0, 3.0)]
    assert not check(History(commits=commits, committed=[ReadCommit("g", ORDERS, 5, 5.0, 6.0)]))


def test_transactions_that_read_each_other_but_one_was_aborted_make_no_circle() -> None:
    history = History(
        sends=[send(1, 0, transaction="a")],
        reads=[poll(0, 1, consumer="b", transaction="b")],
        transactions=[Transaction("a", OK, 9.0), Transaction("b", FAILED, 9.0)],
    )
    assert not check(history)


# And how.


def test_many_of_one_kind_are_told_in_a_few_lines() -> None:
    found = check(History(sends=[send(n, n) for n in range(1000)], finals=[final()]))
    assert len(found) == MOST_PER_KIND + 1
    assert found[-1].text == f"... and {1000 - MOST_PER_KIND} more"


@pytest.mark.parametrize("losses", [0, 3])
def test_a_hundred_thousand_operations_take_seconds(losses: int) -> None:
    count = 50_000
    sends = [send(n, n) for n in range(count)]
    reads: list[Poll | Seek] = [poll(n, n, n + 0.7) for n in range(count)]
    commits = [Commit("g", ORDERS, n, OK, n, n + 0.5) for n in range(5000)]
    committed = [ReadCommit("g", ORDERS, n, n + 0.6, n + 0.7) for n in range(5000)]
    history = History(sends=sends, reads=reads, commits=commits, committed=committed)
    history.finals = [final(*((n, n) for n in range(count)))]
    history.losses = [Loss(count * (n + 1) / 7 + 0.9) for n in range(losses)]
    began = time.process_time()
    assert check(history) == []
    assert time.process_time() - began < 10

"""Each record is counted once, in whatever order acknowledgements, arrivals and deadlines come."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from broadsheet_operator.canary.ledger import MOST_UNANSWERED, MOST_UNREAD, REMEMBERED, Fact, Kind, Ledger

RECORDS = 4
EVENTS = st.one_of(
    st.tuples(st.sampled_from(["sent", "acked", "given up", "arrived", "again"]), st.integers(0, RECORDS - 1)),
    st.tuples(st.sampled_from(["read to", "ends at", "begins at"]), st.integers(0, RECORDS + 1)),
    st.tuples(st.sampled_from(["wait", "stood still", "forget"]), st.just(0)),
)


@given(st.lists(EVENTS, max_size=60))
def test_whatever_happens_each_record_is_counted_once(events: list[tuple[str, int]]) -> None:
    ledger, now = Ledger(30.0), 0.0
    sent: set[int] = set()
    arrivals: Counter[int] = Counter()
    counted: dict[Kind, int] = Counter()
    for what, value in events:
        now += 0.1
        facts: list[Fact] = []
        if what == "sent" and value not in sent:
            ledger.sent(value, 1, now)
            sent.add(value)
        elif what == "acked" and value in sent:
            facts = ledger.acknowledged(value, 2, offset=value, now=now)
        elif what == "given up" and value in sent:
            facts = ledger.given_up(value)
        elif what == "arrived" and value in sent:
            arrivals[value] += 1
            facts = ledger.arrived(value, len(arrivals) + arrivals[value], now)
        elif what == "again" and value in ledger.open and not ledger.open[value].counted:
            ledger.repeat(value, 2, may_be_stored=True)
        elif what == "read to":
            facts = ledger.read_to(value, asked_at=now)
        elif what == "ends at":
            facts = ledger.ends_at(value)
        elif what == "begins at":
            ledger.begins_at(value)
        elif what == "wait":
            now += 31.0
        elif what == "stood still":
            ledger.stood_still(5.0)
            now += 5.0
        elif what == "forget":
            ledger.forget_all()
        for fact in facts:
            counted[fact.kind] += 1
            assert fact.seconds is None or fact.seconds >= 0
        assert len(ledger) <= RECORDS
    produced, failed = counted[Kind.PRODUCED], counted[Kind.FAILED]
    assert produced + failed <= len(sent)
    assert counted[Kind.CONSUMED] <= sum(n > 0 for n in arrivals.values())
    # A record can be lost once for each time that the log was cut, and found again after each.
    cuts = sum(what == "ends at" for what, _ in events)
    assert counted[Kind.LATE] <= counted[Kind.LOST] <= produced * (1 + cuts)
    assert counted[Kind.LOST] - counted[Kind.LATE] <= produced
    assert counted[Kind.DUPLICATED] <= sum(max(0, n - 1) for n in arrivals.values())


@given(st.permutations(range(20)), st.permutations(range(20)), st.integers(0, 20))
def test_acknowledgements_and_arrivals_in_any_order_lose_nothing(
    acks: list[int], arrivals: list[int], turn: int
) -> None:
    ledger = Ledger(30.0)
    facts: list[Fact] = []
    for number in range(20):
        ledger.sent(number, 1, 0.0)
    for index in range(20):
        steps = [lambda n: ledger.acknowledged(n, 1, n, 1.0), lambda n: ledger.arrived(n, n, 1.0)]
        numbers = [acks[index], arrivals[index]]
        order = (0, 1) if index < turn else (1, 0)
        for step in order:
            facts += steps[step](numbers[step])
    facts += ledger.read_to(20, asked_at=100.0)
    assert Counter(f.kind for f in facts) == {Kind.PRODUCED: 20, Kind.CONSUMED: 20}
    assert not ledger.open


def acked(offset: int = 7) -> Ledger:
    ledger = Ledger(30.0)
    ledger.sent(0, 1, 0.0)
    assert ledger.acknowledged(0, 1, offset, 0.5) == [Fact(Kind.PRODUCED, 1, 0.5)]
    return ledger


def test_a_record_that_was_read_past_is_lost_at_once() -> None:
    assert acked().read_to(8, asked_at=0.6) == [Fact(Kind.LOST, 1)]


def test_a_record_that_does_not_come_is_lost_by_a_fetch_after_the_deadline_only() -> None:
    ledger = acked()
    assert ledger.read_to(7, asked_at=30.4) == []
    assert ledger.read_to(7, asked_at=30.5) == [Fact(Kind.LOST, 1)]
    assert ledger.read_to(7, asked_at=99.0) == [], "it is counted once"
    assert [f.kind for f in ledger.arrived(0, 7, 100.0)] == [Kind.LATE, Kind.CONSUMED]
    assert [f.kind for f in ledger.arrived(0, 8, 101.0)] == [Kind.DUPLICATED]
    assert ledger.arrived(0, 7, 102.0) == [], "read again where it was"


def test_a_record_that_was_cut_off_is_lost_and_one_that_expired_is_not() -> None:
    assert acked(7).ends_at(7) == [Fact(Kind.LOST, 1)]
    ledger = acked(7)
    assert ledger.begins_at(8) == 1
    assert ledger.read_to(20, asked_at=99.0) == []


def test_a_record_that_was_read_and_then_cut_off_is_lost_and_late_when_it_is_there_again() -> None:
    """As with a volume that was put back from a snapshot: readers that come later do not find it."""
    ledger = acked(7)
    assert [f.kind for f in ledger.arrived(0, 7, 0.6)] == [Kind.CONSUMED]
    assert ledger.ends_at(8) == []
    assert ledger.ends_at(7) == [Fact(Kind.LOST, 1)]
    assert ledger.ends_at(7) == [], "it is counted once"
    assert [f.kind for f in ledger.arrived(0, 9, 50.0)] == [Kind.LATE], "it was counted as consumed before"
    assert [f.kind for f in ledger.ends_at(9)] == [Kind.LOST]


def test_a_record_that_nobody_promised_is_not_lost_when_it_is_cut_off() -> None:
    ledger = Ledger(30.0)
    ledger.sent(0, 1, 0.0)
    ledger.given_up(0)
    assert [f.kind for f in ledger.arrived(0, 7, 0.6)] == [Kind.CONSUMED]
    assert ledger.ends_at(7) == []


def test_the_second_one_of_a_record_that_was_sent_twice_is_nobodys_duplicate() -> None:
    ledger = Ledger(30.0)
    ledger.sent(0, 1, 0.0)
    ledger.repeat(0, 2, may_be_stored=True)
    ledger.acknowledged(0, 2, 7, 0.1)
    assert [f.kind for f in ledger.arrived(0, 7, 0.2)] == [Kind.CONSUMED]
    assert ledger.arrived(0, 8, 0.3) == []
    assert [f.kind for f in ledger.arrived(0, 9, 0.4)] == [Kind.DUPLICATED]


def test_a_record_that_failed_and_arrives_is_consumed_and_never_lost() -> None:
    ledger = Ledger(30.0)
    ledger.sent(0, 1, 0.0)
    assert ledger.given_up(0) == [Fact(Kind.FAILED, 1)]
    assert ledger.acknowledged(0, 1, 7, 11.0) == []
    assert ledger.read_to(99, asked_at=99.0) == []
    assert [f.kind for f in ledger.arrived(0, 7, 12.0)] == [Kind.CONSUMED]


def test_latency_says_nothing_when_the_canary_stood_still() -> None:
    ledger = Ledger(30.0)
    ledger.sent(0, 1, 0.0)
    ledger.stood_still(3600.0)
    assert ledger.acknowledged(0, 1, 7, 3600.2) == [Fact(Kind.PRODUCED, 1, None)]
    assert ledger.read_to(7, asked_at=3610.0) == []


def test_memory_has_a_bound() -> None:
    ledger = Ledger(30.0)
    number = 0
    while ledger.room:
        ledger.sent(number, 1, 0.0)
        number += 1
    assert number == MOST_UNANSWERED
    while ledger.room or ledger.unanswered:
        for open_number in list(ledger.open):
            ledger.acknowledged(open_number, 1, open_number, 0.0)
        if ledger.room:
            ledger.sent(number, 1, 0.0)
            number += 1
    assert len(ledger.open) == MOST_UNREAD
    ledger.read_to(10**6, asked_at=1.0)
    for more in range(number, number + 3 * REMEMBERED):
        ledger.sent(more, 1, 0.0)
        ledger.given_up(more)
    assert len(ledger) == REMEMBERED

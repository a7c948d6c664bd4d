"""Matches what was sent to a partition with what was acknowledged and read, and decides what is lost. Pure.

A record is *lost* when it was acknowledged and the reader has evidence that it is not there: it read on past its
offset, the log ends before it, or a Fetch that began after the deadline did not have it. While the partition cannot be
read there is no evidence and nothing is lost, however long that takes. A lost record that arrives after all is *late*.
One that was read and is cut off afterwards is lost, too: readers that come later do not find it.

Memory is bounded: `room` says how many more records may be sent.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

MOST_UNANSWERED = 10
"""Records of a partition that may wait for their acknowledgement."""
MOST_UNREAD = 300
"""Records of a partition that may be acknowledged and not read yet."""
REMEMBERED = 500
"""Records of a partition whose end is remembered, to recognise one that arrives again or late."""


class Kind(Enum):
    """What became of a record."""

    PRODUCED = "produced"
    FAILED = "failed"
    CONSUMED = "consumed"
    LOST = "lost"
    LATE = "late"
    DUPLICATED = "duplicated"


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that is counted."""

    kind: Kind
    broker: int
    seconds: float | None = None
    """Since the record was sent; None where that says nothing about the broker."""


@dataclass(slots=True)
class Entry:
    """A record on its way."""

    number: int
    broker: int
    """Where it was sent first, then where it was acknowledged."""
    sent_at: float
    acked_at: float | None = None
    offset: int | None = None
    seen: int | None = None
    """The offset at which it was read."""
    counted: bool = False
    """It was counted as produced or failed."""
    copies: int = 0
    """How often it was sent again although it may have been stored."""
    measured: bool = True
    """False: the canary itself stood still meanwhile, so its latency says nothing."""


@dataclass(slots=True)
class Past:
    """A record whose end is known."""

    broker: int
    promised: bool = False
    """It was acknowledged."""
    lost: bool = False
    seen: int | None = None
    """The offset at which it was read; None again when the log was cut before it."""
    consumed: bool = False
    """It was counted as consumed."""
    copies: int = 0


class Ledger:
    """The records of one partition in one incarnation of the topic."""

    def __init__(self, lost_after: float) -> None:
        """`lost_after`: seconds from the acknowledgement to the deadline of the reader."""
        self._lost_after = lost_after
        self.open: dict[int, Entry] = {}
        """By number, in the order of sending."""
        self._past: OrderedDict[int, Past] = OrderedDict()

    @property
    def unanswered(self) -> int:
        """Records that wait for an acknowledgement."""
        return sum(not e.counted for e in self.open.values())

    @property
    def room(self) -> bool:
        """Whether another record may be sent."""
        return self.unanswered < MOST_UNANSWERED and len(self.open) < MOST_UNREAD

    def __len__(self) -> int:
        return len(self.open) + len(self._past)

    def sent(self, number: int, broker: int, now: float) -> None:
        """A record is on its way."""
        self.open[number] = Entry(number, broker, now)

    def repeat(self, number: int, broker: int, *, may_be_stored: bool) -> None:
        """It is sent again, perhaps to another broker."""
        entry = self.open[number]
        entry.broker = broker
        entry.copies += may_be_stored

    def acknowledged(self, number: int, broker: int, offset: int, now: float) -> list[Fact]:
        """It was acknowledged. One that was given up before stays so."""
        entry = self.open.get(number)
        if entry is None or entry.acked_at is not None:
            return []
        entry.acked_at, entry.offset = now, offset
        entry.broker, entry.counted = broker, True
        fact = Fact(Kind.PRODUCED, broker, now - entry.sent_at if entry.measured else None)
        self._close_if_done(entry)
        return [fact]

    def given_up(self, number: int) -> list[Fact]:
        """It was not acknowledged in time, or refused for good."""
        entry = self.open.get(number)
        if entry is None or entry.counted:
            return []
        entry.counted = True
        self._close(entry, lost=False)  # nobody promised it; it may arrive or not
        return [Fact(Kind.FAILED, entry.broker)]

    def arrived(self, number: int, offset: int, now: float) -> list[Fact]:
        """It was read at this offset. The same offset read again, after a log was cut, is no news."""
        entry = self.open.get(number)
        if entry is not None and entry.seen is None:
            entry.seen = offset
            fact = Fact(Kind.CONSUMED, entry.broker, now - entry.sent_at if entry.measured else None)
            self._close_if_done(entry)
            return [fact]
        past = self._past.get(number)
        if entry is not None:
            return self._again(entry, offset)
        if past is None:
            return []  # from so long ago that nothing is known of it
        if past.seen is not None:
            return self._again(past, offset)
        kinds = ([Kind.LATE] if past.lost else []) + ([] if past.consumed else [Kind.CONSUMED])
        past.seen, past.lost, past.consumed = offset, False, True
        return [Fact(kind, past.broker) for kind in kinds]

    def _again(self, record: Entry | Past, offset: int) -> list[Fact]:
        if record.seen == offset:
            return []
        if record.copies:
            record.copies -= 1  # this one is the canary's own
            return []
        return [Fact(Kind.DUPLICATED, record.broker)]

    def read_to(self, position: int, asked_at: float) -> list[Fact]:
        """The reader has everything below `position`; the Fetch began at `asked_at`."""
        return self._lose(
            lambda e: (
                e.offset is not None
                and e.acked_at is not None
                and (e.offset < position or asked_at >= e.acked_at + self._lost_after)
            )
        )

    def ends_at(self, end: int) -> list[Fact]:
        """The log was cut: what was acknowledged from `end` on is gone, whether or not it was read before."""
        facts = self._lose(lambda e: e.offset is not None and e.offset >= end)
        for past in self._past.values():
            if past.promised and past.seen is not None and past.seen >= end:
                past.seen, past.lost = None, True
                facts.append(Fact(Kind.LOST, past.broker))
        return facts

    def begins_at(self, start: int) -> int:
        """Retention has deleted what is below `start`. Records of it that were not read are forgotten: how many."""
        return self._forget(lambda e: e.offset is not None and e.offset < start)

    def forget_all(self) -> int:
        """The topic is another one: what is not read is nobody's loss. How many records were open."""
        self._past.clear()
        return self._forget(lambda entry: True)

    def stood_still(self, seconds: float) -> None:
        """The canary itself did not run for so long: that is nobody's latency, and no deadline passed."""
        for entry in self.open.values():
            entry.sent_at += seconds
            entry.measured = False
            if entry.acked_at is not None:
                entry.acked_at += seconds

    # -- the end of a record -------------------------------------------------------------------------------------------

    def _lose(self, is_lost: Callable[[Entry], bool]) -> list[Fact]:
        found = [e for e in self.open.values() if e.counted and e.seen is None and is_lost(e)]
        for entry in found:
            self._close(entry, lost=True)
        return [Fact(Kind.LOST, entry.broker) for entry in found]

    def _forget(self, is_gone: Callable[[Entry], bool]) -> int:
        found = [e for e in self.open.values() if e.counted and e.seen is None and is_gone(e)]
        for entry in found:
            del self.open[entry.number]
        return len(found)

    def _close_if_done(self, entry: Entry) -> None:
        if entry.seen is not None and entry.counted:
            self._close(entry, lost=False)

    def _close(self, entry: Entry, *, lost: bool) -> None:
        del self.open[entry.number]
        promised, consumed = entry.acked_at is not None, entry.seen is not None
        self._past[entry.number] = Past(entry.broker, promised, lost, entry.seen, consumed, entry.copies)
        while len(self._past) > REMEMBERED:
            self._past.popitem(last=False)

"""The canary as a state machine: events and the time go in, requests come out. Pure.

It writes one record per interval to each partition of its topic, so to each broker that leads one, and reads all
partitions by itself, without a group. A record counts for the broker that acknowledged it, and for the one that was
tried last if none did. A producer's own retries are part of what a client sees: a record is sent again, to a new leader
if there is one, until `deliver_within` is over.

Reading begins at the end of each log before the first record is written to it, so nothing that was written by others or
before is waited for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from broadsheet_operator.canary.ledger import Kind, Ledger
from broadsheet_operator.canary.messages import (
    Acknowledged,
    Answer,
    Effect,
    Event,
    FindEnd,
    Found,
    Look,
    Looked,
    NotConnected,
    NotFound,
    NotLooked,
    NotRead,
    Outcome,
    PartitionRead,
    Read,
    Refused,
    Send,
    number_of,
)
from broadsheet_operator.canary.tally import WINDOW_SECONDS, Tallies

LOOK_SECONDS = 5.0
"""How often the topic and the brokers are looked at when all is well."""
HURRY_SECONDS = 0.2
"""The least time between two looks."""
SETTLE_SECONDS = 2.0
"""A log that ends before what was read may be that of a recreated topic. Brokers learn of that one after the other, so
only metadata that is younger by this much tells which it is."""
LOOK_AGAIN_SECONDS = 0.5
"""The pause after a look without an answer; another broker is asked then."""
BLIND_SECONDS = 10.0
"""Looks may stay without an answer for so long before that is called trouble."""
RETRY_SECONDS, LONGEST_RETRY_SECONDS = 0.1, 2.0
"""The pause before a record is sent again, or a partition read again; for a record it doubles."""
STOOD_STILL_SECONDS = 3.0
"""A turn that comes so much too late means that this process did not run."""
MOST_AT_REST_SECONDS = 0.5
"""The longest pause between two turns."""
OUT_OF_RANGE = "OFFSET_OUT_OF_RANGE"
MOVED = frozenset(
    (
        "FENCED_LEADER_EPOCH",
        "INCONSISTENT_TOPIC_ID",
        "LEADER_NOT_AVAILABLE",
        "NOT_LEADER_FOR_PARTITION",
        "REPLICA_NOT_AVAILABLE",
        "UNKNOWN_LEADER_EPOCH",
        "UNKNOWN_TOPIC_ID",
        "UNKNOWN_TOPIC_OR_PARTITION",
    )
)
"""Errors after which the metadata is old."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Times in seconds."""

    interval: float = 1.0
    """Between two records of a partition."""
    deliver_within: float = 10.0
    """A record that is not acknowledged by then counts as failed."""
    lost_after: float = 30.0
    """A record that was acknowledged, and is not in a Fetch that begins this long after, is lost."""


@dataclass(slots=True)
class Partition:
    """A partition of the topic."""

    ledger: Ledger
    send_at: float
    leader: int | None = None
    last_leader: int | None = None
    preferred: int | None = None
    position: int | None = None
    """The offset to read next; None until the end of the log was found."""
    from_start: bool = False
    """The log is new and is read from its start: records on their way may be in it before its end is known."""
    finding: bool = False
    """The end of the log is being asked for."""
    find_at: float = 0.0
    reading: int | None = None
    """The broker that is being asked for its records."""
    cut_at: float | None = None
    """When the position was found behind the end of the log: records are gone, or the topic is another one."""
    next_number: int = 0
    on_the_way: dict[int, int] = field(default_factory=dict)
    """Records that a broker has not answered yet: by number the broker."""
    again: dict[int, tuple[float, bool]] = field(default_factory=dict)
    """Records to be sent again: when, and whether there may be two of them then."""
    tries: dict[int, int] = field(default_factory=dict)
    """How often a record was refused."""
    deadlines: dict[int, float] = field(default_factory=dict)


class Canary:
    """The state machine."""

    def __init__(self, session: str, pace: Pace, now: float) -> None:
        """`session`: marks this run's records; a blank would end it."""
        self.session = session
        self.pace = pace
        self.tallies = Tallies()
        self.partitions: dict[int, Partition] = {}
        self.topic_id: str | None = None
        self.brokers: frozenset[int] = frozenset()
        self.trouble = ""
        """Why the topic cannot be used; empty while it can."""
        self.looked_at: float | None = None
        self.notes: list[str] = []
        """What is worth a log line; the caller takes them."""
        self.turned_at = now
        self._looking = False
        self._look_at = now
        self._read_at: dict[int, float] = {}
        """Brokers that did not answer a Fetch: when they are asked again."""
        self._asked: set[int] = set()
        """Brokers that have a Fetch to answer."""

    # -- what others ask -----------------------------------------------------------------------------------------------

    @property
    def expected(self) -> frozenset[int]:
        """Brokers that should take records: the preferred leaders, and those that lead now."""
        found = {p.preferred for p in self.partitions.values()} | {p.leader for p in self.partitions.values()}
        return frozenset(broker for broker in found if broker is not None)

    def leads(self, broker: int) -> bool:
        """Whether a broker leads a partition of the topic."""
        return any(p.leader == broker for p in self.partitions.values())

    def is_available(self, broker: int, now: float) -> bool:
        """Whether a broker leads a partition and has acknowledged a record a moment ago."""
        tally = self.tallies.brokers.get(broker)
        if tally is None or tally.last_success is None or not self.leads(broker):
            return False
        return now - tally.last_success <= max(3 * self.pace.interval, 5.0)

    def next_turn(self, now: float) -> float:
        """Seconds until `turn` is to be called at the latest."""
        due = [p.send_at for p in self.partitions.values()]
        due += [at for p in self.partitions.values() if p.leader is not None for at, _ in p.again.values()]
        due += [min(p.deadlines.values()) for p in self.partitions.values() if p.deadlines]
        due += [at for at in self._read_at.values() if at > now]
        due += [self._look_at] if not self._looking else []
        return max(0.0, min([*due, now + MOST_AT_REST_SECONDS]) - now)

    # -- time ----------------------------------------------------------------------------------------------------------

    def turn(self, now: float) -> list[Effect]:
        """Do what is due."""
        self._notice_pauses(now)
        effects: list[Effect] = []
        if not self._looking and now >= self._look_at:
            self._looking = True
            effects.append(Look())
        for index, partition in self.partitions.items():
            self._give_up(partition, now)
            effects += self._find(index, partition, now)
            effects += self._send(index, partition, now)
        effects += self._reads(now)
        for tally in self.tallies.brokers.values():
            tally.forget_before(now - WINDOW_SECONDS)
        return effects

    def _notice_pauses(self, now: float) -> None:
        seconds = now - self.turned_at - MOST_AT_REST_SECONDS
        self.turned_at = now
        if seconds <= STOOD_STILL_SECONDS:
            return
        self.notes.append(f"this process did not run for {seconds:.1f} s; records on their way are not measured")
        for partition in self.partitions.values():
            partition.ledger.stood_still(seconds)
            partition.deadlines = {number: at + seconds for number, at in partition.deadlines.items()}

    def _give_up(self, partition: Partition, now: float) -> None:
        for number in [number for number, at in partition.deadlines.items() if now >= at]:
            broker = partition.ledger.open[number].broker
            tally = self.tallies.of(broker, now)
            tally.trouble = tally.trouble or f"no acknowledgement within {self.pace.deliver_within:g} s"
            self._finish(partition, number)
            self.tallies.add(partition.ledger.given_up(number), now)
            self._hurry(now)

    def _find(self, index: int, partition: Partition, now: float) -> list[Effect]:
        if partition.position is not None or partition.finding or partition.leader is None or now < partition.find_at:
            return []
        if partition.cut_at is not None and (self.looked_at or 0.0) < partition.cut_at + SETTLE_SECONDS:
            self._look_at = min(self._look_at, partition.cut_at + SETTLE_SECONDS)
            return []
        partition.finding = True
        return [FindEnd(partition.leader, index)]

    def _send(self, index: int, partition: Partition, now: float) -> list[Effect]:
        effects: list[Effect] = []
        if partition.leader is not None:
            for number in [number for number, (at, _) in partition.again.items() if now >= at]:
                _, may_be_stored = partition.again.pop(number)
                partition.ledger.repeat(number, partition.leader, may_be_stored=may_be_stored)
                partition.on_the_way[number] = partition.leader
                effects.append(Send(partition.leader, index, number))
        if now < partition.send_at:
            return effects
        # No burst makes up for what was not sent.
        partition.send_at = max(partition.send_at + self.pace.interval, now)
        broker = partition.leader if partition.leader is not None else partition.last_leader
        if partition.position is None or broker is None or not partition.ledger.room:
            return effects
        number = partition.next_number
        partition.next_number += 1
        partition.ledger.sent(number, broker, now)
        partition.deadlines[number] = now + self.pace.deliver_within
        if partition.leader is None:
            self.tallies.of(broker, now).trouble = f"partition {index} has no leader"
            partition.again[number] = (now, False)
        else:
            partition.on_the_way[number] = partition.leader
            effects.append(Send(partition.leader, index, number))
        return effects

    def _reads(self, now: float) -> list[Effect]:
        offsets: dict[int, dict[int, int]] = {}
        for index, p in self.partitions.items():
            if p.leader is None or p.position is None or p.leader in self._asked or p.reading is not None:
                continue
            if now >= self._read_at.get(p.leader, 0.0):
                offsets.setdefault(p.leader, {})[index] = p.position
                p.reading = p.leader
        self._asked |= offsets.keys()
        return [Read(node, found) for node, found in offsets.items()]

    def _hurry(self, now: float) -> None:
        """Look at the metadata soon."""
        earliest = HURRY_SECONDS + (self.looked_at if self.looked_at is not None else now - HURRY_SECONDS)
        self._look_at = min(self._look_at, max(now, earliest))

    # -- events --------------------------------------------------------------------------------------------------------

    def take(self, event: Event, now: float) -> None:
        """Take in what happened. What follows from it comes with the next turn, which is to be soon."""
        self._notice_pauses(now)
        match event:
            case Looked():
                self._looked(event)
            case NotLooked():
                self._looking, self._look_at = False, now + LOOK_AGAIN_SECONDS
                if self.looked_at is None or now - self.looked_at > BLIND_SECONDS:
                    self.trouble = event.words
            case Found():
                self._found(event)
            case NotFound():
                partition = self.partitions.get(event.partition)
                if partition is not None:
                    partition.finding, partition.find_at = False, now + RETRY_SECONDS
                    self._hurry(now)
            case Acknowledged():
                self._acknowledged(event)
            case Refused():
                self._refused(event)
            case Answer():
                self._answer(event)
            case NotRead():
                self._not_read(event)
            case NotConnected():
                self.tallies.of(event.node, now).connect_errors += 1
                self.tallies.of(event.node, now).trouble = event.words
                self._hurry(now)

    def _looked(self, event: Looked) -> None:
        self._looking, self.looked_at = False, event.at
        self._look_at = event.at + LOOK_SECONDS
        if event.topic_id is None:
            self.trouble = "the topic does not exist"
            self._look_at = event.at + 1.0
            for partition in self.partitions.values():
                partition.leader = partition.position = partition.reading = None
                partition.cut_at, partition.from_start = None, True
                partition.ledger.forget_all()
            return
        self.trouble = ""
        if self.topic_id is not None and event.topic_id != self.topic_id:
            self._recreated(event)
        self.topic_id, self.brokers = event.topic_id, event.brokers
        for index in self.partitions.keys() - event.partitions.keys():
            del self.partitions[index]
        count = len(event.partitions)
        for index, place in event.partitions.items():
            if index not in self.partitions:
                # Spread over the interval, so that brokers are not all asked at once.
                first = event.at + self.pace.interval * (index % count) / count
                self.partitions[index] = Partition(Ledger(self.pace.lost_after), first)
            partition = self.partitions[index]
            if partition.reading is not None and partition.reading != place.leader:
                partition.reading = None  # what the former leader still answers is ignored
            partition.leader, partition.preferred = place.leader, place.preferred
            partition.last_leader = place.leader if place.leader is not None else partition.last_leader
            if partition.last_leader is None:
                partition.last_leader = place.preferred
            if place.leader is None:
                self._look_at = min(self._look_at, event.at + 1.0)
        for broker in self.expected:
            self.tallies.of(broker, event.at)
        self.tallies.keep_only(self.expected | event.brokers)

    def _recreated(self, event: Looked) -> None:
        self.tallies.recreated += 1
        unread = 0
        for partition in self.partitions.values():
            unread += partition.ledger.forget_all()
            partition.position = partition.reading = None
            partition.cut_at, partition.from_start = None, True
        self.notes.append(
            f"the topic was deleted and created again (id {event.topic_id}); {unread} records that were not read went "
            "with it and are not counted as lost"
        )

    def _found(self, event: Found) -> None:
        partition = self.partitions.get(event.partition)
        if partition is None:
            return
        partition.finding = False
        partition.position, partition.from_start = event.start if partition.from_start else event.end, False
        if partition.cut_at is not None:
            # What was written since the cut has offsets that were read before: all of the log is read again.
            partition.cut_at, partition.position = None, event.start
            self._skipped(event.partition, partition, event)

    def _skipped(self, index: int, partition: Partition, event: Found) -> None:
        """The position was not in the log: either its beginning was deleted, or its end was cut off."""
        expired = partition.ledger.begins_at(event.start)
        if expired:
            self.notes.append(f"partition {index}: {expired} records expired before they were read")
        gone = partition.ledger.ends_at(event.end)
        if gone:
            self.notes.append(
                f"partition {index}: the log ends at {event.end}, {len(gone)} acknowledged records are lost"
            )
        self.tallies.add(gone, event.at)

    def _acknowledged(self, event: Acknowledged) -> None:
        partition = self.partitions.get(event.partition)
        if partition is None or event.number not in partition.on_the_way:
            return
        self._finish(partition, event.number)
        self.tallies.add(partition.ledger.acknowledged(event.number, event.node, event.offset, event.at), event.at)

    def _refused(self, event: Refused) -> None:
        partition = self.partitions.get(event.partition)
        self.tallies.of(event.node, event.at).trouble = event.words
        if partition is None or event.number not in partition.on_the_way:
            return
        self._hurry(event.at)
        if event.outcome is Outcome.FINAL:
            self._finish(partition, event.number)
            self.tallies.add(partition.ledger.given_up(event.number), event.at)
            return
        del partition.on_the_way[event.number]
        tries = partition.tries[event.number] = partition.tries.get(event.number, 0) + 1
        pause = min(RETRY_SECONDS * 2.0 ** (tries - 1), LONGEST_RETRY_SECONDS)
        partition.again[event.number] = event.at + pause, event.outcome is Outcome.UNKNOWN

    def _finish(self, partition: Partition, number: int) -> None:
        partition.on_the_way.pop(number, None)
        partition.again.pop(number, None)
        partition.tries.pop(number, None)
        partition.deadlines.pop(number, None)

    def _answer(self, event: Answer) -> None:
        self._asked.discard(event.node)
        self._read_at.pop(event.node, None)
        for index, read in event.partitions.items():
            partition = self.partitions.get(index)
            if partition is None or partition.reading != event.node or partition.position is None:
                continue  # it has another leader now, or the topic is another one
            partition.reading = None
            if read.error:
                self._read_failed(index, partition, read.error, event)
            else:
                self._took(index, partition, read, event)

    def _took(self, index: int, partition: Partition, read: PartitionRead, event: Answer) -> None:
        assert partition.position is not None
        facts = []
        for offset, value in read.records:
            number = number_of(value, self.session, index)
            if offset >= partition.position and number is not None:
                facts += partition.ledger.arrived(number, offset, event.at)
        if read.next_offset is not None:
            partition.position = max(partition.position, read.next_offset)
        expired = partition.ledger.begins_at(read.start)
        if expired:
            self.notes.append(f"partition {index}: {expired} records expired before they were read")
        facts += partition.ledger.read_to(partition.position, event.asked_at)
        self.tallies.add(facts, event.at)
        for kind, words in ((Kind.LOST, "were acknowledged and are not there"), (Kind.DUPLICATED, "came twice")):
            count = sum(fact.kind is kind for fact in facts)
            if count:
                self.notes.append(f"partition {index}: {count} records {words}; read up to {partition.position}")

    def _read_failed(self, index: int, partition: Partition, error: str, event: Answer) -> None:
        self._read_at[event.node] = event.at + RETRY_SECONDS
        self._hurry(event.at)
        if error == OUT_OF_RANGE:
            partition.cut_at, partition.position = event.at, None
            self.notes.append(f"partition {index}: offset out of range; its log is read again")
        elif error not in MOVED:
            self.tallies.of(event.node, event.at).trouble = f"partition {index} cannot be read: {error}"

    def _not_read(self, event: NotRead) -> None:
        self._asked.discard(event.node)
        self._read_at[event.node] = event.at + 0.5
        self._hurry(event.at)
        for partition in self.partitions.values():
            if partition.reading == event.node:
                partition.reading = None
        self.tallies.of(event.node, event.at).trouble = event.words

"""A cluster in memory and a canary on it, under a virtual clock: hours of it pass in a second."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from broadsheet_operator.canary.ledger import Kind
from broadsheet_operator.canary.machine import Canary, Pace
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
    PartitionPlace,
    PartitionRead,
    Read,
    Refused,
    Send,
    payload,
)
from broadsheet_operator.canary.verdict import Judge

SESSION = "run"


@dataclass(frozen=True)
class Waited:
    """A Fetch has waited long enough."""

    effect: Read
    since: float


@dataclass
class Log:
    """A partition's log, the same on all replicas."""

    preferred: int
    leader: int | None
    start: int = 0
    records: list[bytes] = field(default_factory=list)

    @property
    def end(self) -> int:
        return self.start + len(self.records)


class World:
    """Brokers that answer after `delay` seconds, or after `attempt` seconds say that they did not answer."""

    def __init__(self, brokers: int = 3, pace: Pace | None = None, delay: float = 0.004) -> None:
        self.now = 1000.0
        self.delay = delay
        self.attempt = 5.0
        self.topic_id: str | None = "first"
        self.metadata_lag = 0.0
        """Seconds for which metadata shows the topic as it was before it was made again."""
        self._shown: tuple[str | None, float] = None, 0.0
        self.logs = {n: Log(n, n) for n in range(brokers)}
        self.down: set[int] = set()
        """Brokers that refuse connections."""
        self.paused: set[int] = set()
        """Brokers that take bytes and answer nothing."""
        self.swallow: Callable[[int, int], bool] = lambda partition, number: False
        """Whether an acknowledged record is not stored."""
        self.refusal: tuple[Outcome, str] | None = None
        self.canary = Canary(SESSION, pace or Pace(), self.now)
        self.judge = Judge("canary", 1.0)
        self.sent = 0
        self._events: list[tuple[float, int, Event | Waited]] = []
        self._waiting: dict[int, tuple[Read, float]] = {}
        """Fetches that wait for records."""
        self._order = itertools.count()

    # -- what the test asks --------------------------------------------------------------------------------------------

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass; True when `until` has come true."""
        end = self.now + seconds
        judge_at = self.now
        while self.now < end:
            if until():
                return True
            if self.now >= judge_at:
                self.judge.judge(self.canary, self.now)
                judge_at = self.now + 5.0
            step = max(self.canary.next_turn(self.now), 0.001)
            next_event = self._events[0][0] if self._events else end
            if self._events and next_event <= self.now + step and next_event <= end:
                self.now = max(self.now, next_event)
                _, _, event = heapq.heappop(self._events)
                if isinstance(event, Waited):
                    self._end_wait(event)
                else:
                    self.canary.take(event, self.now)
                    self._carry_out(self.canary.turn(self.now))
            else:
                self.now = min(end, self.now + step)
                self._carry_out(self.canary.turn(self.now))
        return until()

    def total(self, kind: Kind) -> int:
        return sum(t.totals[kind] for t in self.canary.tallies.brokers.values())

    def of(self, broker: int, kind: Kind) -> int:
        return self.canary.tallies.brokers[broker].totals[kind]

    def fail_over(self, broker: int) -> None:
        """Other brokers lead what this one led."""
        others = [n for n in self.logs if n not in self.down | self.paused | {broker}]
        for log in self.logs.values():
            if log.leader == broker:
                log.leader = others[0] if others else None

    def give_back(self) -> None:
        """Preferred leaders lead again."""
        for log in self.logs.values():
            if log.preferred not in self.down | self.paused:
                log.leader = log.preferred

    def recreate(self) -> None:
        self._shown = self.topic_id, self.now + self.metadata_lag
        self.topic_id = f"{self.topic_id}+"
        self.logs = {n: Log(log.preferred, log.preferred) for n, log in self.logs.items()}

    # -- the brokers ---------------------------------------------------------------------------------------------------

    def post(self, event: Event | Waited, after: float) -> None:
        heapq.heappush(self._events, (self.now + after, next(self._order), event))

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Look():
                    self._look()
                case FindEnd():
                    self._find(effect)
                case Send():
                    self.sent += 1
                    self._send(effect)
                case Read():
                    self._read(effect)

    def _look(self) -> None:
        alive = frozenset(self.logs) - self.down - self.paused
        at = self.now + self.delay
        if not alive:
            self.post(NotLooked(at, "no broker answers"), self.delay)
        elif self.topic_id is None:
            self.post(Looked(at, None, {}, alive), self.delay)
        else:
            places = {n: PartitionPlace(log.leader, log.preferred) for n, log in self.logs.items()}
            former, until = self._shown
            self.post(Looked(at, former if self.now < until else self.topic_id, places, alive), self.delay)

    def _find(self, effect: FindEnd) -> None:
        log = self.logs[effect.partition]
        if effect.node in self.down | self.paused or log.leader != effect.node:
            self.post(NotFound(self.now + self.delay, effect.partition, "not there"), self.delay)
        else:
            self.post(Found(self.now + self.delay, effect.partition, log.start, log.end), self.delay)

    def _send(self, effect: Send) -> None:
        at, node, log = self.now + self.delay, effect.node, self.logs[effect.partition]
        mark = (node, effect.partition, effect.number)
        if node in self.down:
            self.post(NotConnected(at, node, f"cannot connect to broker {node}"), self.delay)
            self.post(Refused(at, *mark, Outcome.NOT_STORED, f"cannot connect to broker {node}"), self.delay)
        elif node in self.paused:
            self.post(Refused(self.now + self.attempt, *mark, Outcome.UNKNOWN, "timed out"), self.attempt)
        elif log.leader != node or self.topic_id is None:
            self.post(Refused(at, *mark, Outcome.NOT_STORED, "NOT_LEADER_FOR_PARTITION"), self.delay)
        elif self.refusal is not None:
            self.post(Refused(at, *mark, *self.refusal), self.delay)
        else:
            self.post(Acknowledged(at, *mark, log.end), self.delay)
            value = payload(SESSION, effect.partition, effect.number)
            log.records.append(b"another" if self.swallow(effect.partition, effect.number) else value)
            self._wake(node)

    def _read(self, effect: Read) -> None:
        if effect.node in self.down:
            self.post(NotRead(self.now + self.delay, effect.node, "cannot connect"), self.delay)
        elif effect.node in self.paused:
            self.post(NotRead(self.now + self.attempt, effect.node, "timed out"), self.attempt)
        elif any(
            self.logs[p].end > offset or self._error(p, offset, effect.node) for p, offset in effect.offsets.items()
        ):
            self._answer(effect, self.now)
        else:
            self._waiting[effect.node] = effect, self.now
            self.post(Waited(effect, self.now), 2.0)

    def _error(self, partition: int, offset: int, node: int) -> str:
        log = self.logs[partition]
        if log.leader != node:
            return "NOT_LEADER_FOR_PARTITION"
        return "" if log.start <= offset <= log.end else "OFFSET_OUT_OF_RANGE"

    def _end_wait(self, waited: Waited) -> None:
        node = waited.effect.node
        if self._waiting.get(node) != (waited.effect, waited.since):
            return
        del self._waiting[node]
        if node in self.down | self.paused:
            self.post(NotRead(self.now + self.delay, node, "the connection was closed"), self.delay)
        else:
            self._answer(waited.effect, waited.since)

    def _wake(self, node: int) -> None:
        if node in self._waiting:
            self._answer(*self._waiting.pop(node))

    def _answer(self, effect: Read, asked_at: float) -> None:
        partitions = {}
        for partition, offset in effect.offsets.items():
            log = self.logs[partition]
            error = self._error(partition, offset, effect.node)
            if error:
                partitions[partition] = PartitionRead(error=error)
                continue
            values = log.records[offset - log.start :]
            records = tuple((offset + n, value) for n, value in enumerate(values))
            partitions[partition] = PartitionRead(log.start, records, log.end if values else None)
        self.post(Answer(self.now + self.delay, effect.node, asked_at, partitions), self.delay)

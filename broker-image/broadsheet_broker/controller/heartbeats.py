"""What the active controller knows of the brokers beside the log: the last heartbeat of each, and its metadata offset.

None of this is stored: a new active controller gives every broker a fresh session when its reign begins. The exception
is the node that led the quorum before and stopped answering: its session began with the last fetch that it answered.
Otherwise the loss of a broker that is also the active controller would leave its partitions without a leader for an
election and a whole session.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum, auto
from typing import Final

from broadsheet_broker.metadata.image import BrokerInfo
from broadsheet_broker.wire.messages.broker_heartbeat_request import BrokerHeartbeatRequest


class State(Enum):
    """The state that a heartbeat leads to (org.apache.kafka.controller.BrokerControlState)."""

    FENCED = auto()
    """Registered, and leads nothing: it starts, asked to be fenced, or its session ended."""
    UNFENCED = auto()
    """Active: it may lead and be in sync."""
    CONTROLLED_SHUTDOWN = auto()
    """It asked to stop. Others take over what it leads, and it joins no ISR."""
    SHUTDOWN_NOW = auto()
    """It is fenced and may stop."""


TRANSITIONS: Final[Mapping[State, frozenset[State]]] = {
    State.FENCED: frozenset({State.FENCED, State.UNFENCED, State.SHUTDOWN_NOW}),
    State.UNFENCED: frozenset({State.UNFENCED, State.FENCED, State.CONTROLLED_SHUTDOWN, State.SHUTDOWN_NOW}),
    State.CONTROLLED_SHUTDOWN: frozenset({State.CONTROLLED_SHUTDOWN, State.SHUTDOWN_NOW}),
    State.SHUTDOWN_NOW: frozenset(),
}
"""What a heartbeat may lead to. The end of a session, a dead process and a new registration always lead to FENCED.

* To UNFENCED: the broker has published its own registration, and that it was fenced.
* To SHUTDOWN_NOW: a fenced broker asks to stop; or a controlled shutdown is complete, because the broker leads nothing
  and every other active broker has published who leads instead.
"""


def least_session(timeout: float, interval: float) -> float:
    """The shortest silence, in seconds, after which a broker may be fenced, from broker.session.timeout.ms and
    broker.heartbeat.interval.ms (in seconds): half a session, in which one heartbeat may be lost."""
    return min(timeout, max(timeout / 2, 2 * interval))


class _Session:
    __slots__ = ("beats", "epoch", "heard", "offset", "shutdown_offset")

    def __init__(self, epoch: int, now: float) -> None:
        self.epoch = epoch
        self.heard = now
        self.beats = 0
        self.offset = -1
        """Of the last record that it has published."""
        self.shutdown_offset: int | None = None
        """The offset that every other broker must have published before this one may stop."""


class Sessions:
    """Heartbeats of one reign of an active controller. Times are monotonic seconds."""

    def __init__(self, timeout: float, interval: float = 0.0) -> None:
        """`timeout`: broker.session.timeout.ms, `interval`: broker.heartbeat.interval.ms, both in seconds."""
        self._timeout = timeout
        self._least = least_session(timeout, interval)
        self._sessions: dict[int, _Session] = {}
        self._fenced_at: dict[int, int] = {}

    def begin(
        self,
        brokers: Iterable[BrokerInfo],
        now: float,
        former: tuple[int, float] | None = None,
        *,
        offset: int = -1,
    ) -> None:
        """Every broker that takes part has a whole session from now on, but the former leader of the quorum: `former`
        is its id when it was heard last. It keeps at least the shortest session. `offset`: of the last committed
        record, since nobody knows when the brokers that are fenced were."""
        brokers = list(brokers)
        self._fenced_at = {broker.id: offset for broker in brokers if broker.fenced}
        self._sessions = {broker.id: _Session(broker.epoch, now) for broker in brokers if not broker.fenced}
        session = None if former is None else self._sessions.get(former[0])
        if session is not None and former is not None:
            session.heard = max(min(former[1], now), now - self._timeout + self._least)

    def heard(self, broker_id: int, epoch: int, now: float, offset: int = -1) -> None:
        session = self._sessions.get(broker_id)
        if session is None or session.epoch != epoch:
            session = self._sessions[broker_id] = _Session(epoch, now)
        session.heard = now
        session.beats += 1
        session.offset = max(session.offset, offset)

    def forget(self, broker_id: int) -> None:
        self._sessions.pop(broker_id, None)

    def fenced(self, broker_id: int, offset: int) -> None:
        """A broker was fenced, and what it led was given to others, with the records up to that offset."""
        self.forget(broker_id)
        self._fenced_at[broker_id] = offset

    def has_caught_up(self, broker: BrokerInfo, offset: int) -> bool:
        """Whether a broker that has published everything up to `offset` knows of its registration and that it was
        fenced. One that does not know would go on leading what others lead once it hears that it takes part."""
        return offset >= max(broker.epoch, self._fenced_at.get(broker.id, -1))

    def is_valid(self, broker_id: int, now: float) -> bool:
        session = self._sessions.get(broker_id)
        return session is not None and now - session.heard <= self._timeout

    def beats(self, broker_id: int) -> int:
        """The number of heartbeats in a broker's session. A time would not do: two events can have the same."""
        session = self._sessions.get(broker_id)
        return 0 if session is None else session.beats

    def silent(self, now: float) -> list[int]:
        """Brokers whose last heartbeat is longer ago than broker.session.timeout.ms."""
        return [id for id, session in self._sessions.items() if now - session.heard > self._timeout]

    def excuse(self, seconds: float) -> None:
        """This node did not run for this many seconds: no broker could reach it, so all sessions last longer."""
        for session in self._sessions.values():
            session.heard += seconds

    def begin_shutdown(self, broker_id: int, offset: int) -> None:
        """The leaderships of a broker moved away with the record at that offset."""
        session = self._sessions.get(broker_id)
        if session is not None:
            session.shutdown_offset = offset

    def all_know_of_shutdown(self, broker_id: int, active: Iterable[int]) -> bool:
        """Whether every other active broker has published who leads instead."""
        session = self._sessions.get(broker_id)
        if session is None or session.shutdown_offset is None:
            return True
        known = (self._sessions.get(id) for id in active if id != broker_id)
        return all(other is None or other.offset >= session.shutdown_offset for other in known)


def next_state(
    broker: BrokerInfo, request: BrokerHeartbeatRequest, *, leads_any: bool, all_know: bool, caught_up: bool
) -> State:
    """The next state of a broker: by what its heartbeat asks for, and by how much of the metadata it has."""
    if broker.fenced:
        if request.want_shut_down:
            return State.SHUTDOWN_NOW
        return State.FENCED if request.want_fence or not caught_up else State.UNFENCED
    if broker.in_controlled_shutdown:
        return State.CONTROLLED_SHUTDOWN if leads_any or not all_know else State.SHUTDOWN_NOW
    if request.want_fence:
        return State.SHUTDOWN_NOW if request.want_shut_down else State.FENCED
    return State.CONTROLLED_SHUTDOWN if request.want_shut_down else State.UNFENCED

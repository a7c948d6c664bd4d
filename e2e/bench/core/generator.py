"""Puts load on brokers with prebuilt requests, at about 0.3 s of CPU per GB: one thread, raw sockets, no decoding.

A closed loop keeps a number of requests in flight on each connection, and so finds what a broker can do at most. An
open loop sends each request when it is due, whatever has become of those before it; its latencies count from then, so
that a broker that stalls cannot slow down the clock that it is measured with (coordinated omission).
"""

from __future__ import annotations

import select
import socket
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from e2e.bench.core.answers import cutter
from e2e.bench.core.frames import Ring

READ_BYTES = 256 << 10
CONNECT_S = 30.0
LAST_ANSWERS_S = 20.0
OPEN_CONNECTIONS = 500
"""Of an open loop: select(2) wakes within microseconds, but takes no more than 1,024 files."""

_inbox = memoryview(bytearray(READ_BYTES))


class LostAnswersError(RuntimeError):
    """Requests that were not answered in time, or whose connection was closed by the broker."""


class Lane:
    """One connection: sends the frames of a ring in order and counts the answers."""

    __slots__ = ("_answers", "_cursor", "_unsent", "acknowledged", "dues", "given", "held", "name", "ring", "sock")

    def __init__(self, address: tuple[str, int], ring: Ring, first: int = 0, name: str = "") -> None:
        """`first` is the frame of the ring to begin with."""
        self.ring = ring
        self.name = name or f"{ring.topic}-{ring.partition}"
        self._answers = cutter(ring, first)
        self._cursor = first % ring.frames * ring.frame_bytes
        self._unsent = 0
        self.given = self.acknowledged = self.held = 0
        self.dues: deque[float] = deque()
        self.sock = socket.create_connection(address, CONNECT_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)

    @property
    def blocked(self) -> bool:
        """Whether the socket took less than it was given."""
        return self._unsent > 0

    @property
    def in_flight(self) -> int:
        return self.given - self.acknowledged

    def give(self, frames: int) -> bool:
        """Send this many more frames; False if the socket does not take all of them now."""
        self.given += frames
        self._unsent += frames * self.ring.frame_bytes
        return self.flush()

    def flush(self) -> bool:
        """Go on sending; False if the socket is still full."""
        data, end, send = self.ring.data, len(self.ring.data), self.sock.send
        while self._unsent:
            try:
                sent = send(data[self._cursor : min(end, self._cursor + self._unsent)])
            except BlockingIOError:
                return False
            except ConnectionError as error:
                raise self._lost() from error
            self._unsent -= sent
            self._cursor += sent
            if self._cursor == end:
                self._cursor = 0
        return True

    def receive(self) -> int:
        """The number of answers that one read completes."""
        try:
            size = self.sock.recv_into(_inbox)
        except BlockingIOError:
            return 0
        except ConnectionError as error:
            raise self._lost() from error
        if not size:
            raise self._lost()
        count = self._answers.take(_inbox[:size])
        self.acknowledged += count
        return count

    def _lost(self) -> LostAnswersError:
        return LostAnswersError(f"{self.name}: the broker closed the connection, {self.in_flight} answers are missing")

    def close(self) -> None:
        self.sock.close()


@dataclass
class Measured:
    """What a run of load brought in its window."""

    seconds: float = 0.0
    answers: int = 0
    payload_bytes: int = 0
    own_cpu_s: float = 0.0
    """Of the generator."""
    latencies_s: Sequence[float] = field(default_factory=list)
    """From the time when a request was due, of an open loop."""


class Window:
    """The time of a run that counts. `opened` and `closed` are called at its ends, to read gauges."""

    def __init__(
        self,
        warm_s: float,
        seconds: float,
        max_bytes: float = float("inf"),
        opened: Callable[[], None] = lambda: None,
        closed: Callable[[], None] = lambda: None,
    ) -> None:
        self.warm_s, self.seconds, self.max_bytes = warm_s, seconds, max_bytes
        self._opened, self._closed = opened, closed
        self._lanes: Sequence[Lane] = ()
        self._begins = self._ends = float("inf")
        self._answers = self._bytes = 0
        self._cpu = self._since = 0.0
        self.measured = Measured()

    def start(self, lanes: Sequence[Lane], now: float) -> None:
        self._lanes = lanes
        self._begins, self._ends = now + self.warm_s, now + self.warm_s + self.seconds

    def _totals(self) -> tuple[int, int]:
        acknowledged = sum(lane.acknowledged for lane in self._lanes)
        return acknowledged, sum(lane.acknowledged * lane.ring.payload_bytes for lane in self._lanes)

    def over(self, now: float, done: bool = False) -> bool:
        """Whether the run has lasted, or written, as long as it may; takes the figures when it begins and ends."""
        if now >= self._begins:
            self._begins = float("inf")
            self._opened()
            self._answers, self._bytes = self._totals()
            self._since, self._cpu = time.perf_counter(), time.process_time()
            return False
        if not done and now < self._ends and self._totals()[1] < self.max_bytes:
            return False
        answers, taken = self._totals()
        self.measured = Measured(
            time.perf_counter() - self._since,
            answers - self._answers,
            taken - self._bytes,
            time.process_time() - self._cpu,
        )
        self._closed()
        return True


def closed_loop(lanes: Sequence[Lane], depth: int, window: Window, total: int | None = None) -> Measured:
    """Keep `depth` requests in flight on each connection until the window is over, then wait for all answers.

    With `total`, each connection sends this many requests and the window ends with their last answer.
    """
    poll = select.epoll()
    by_file = {lane.sock.fileno(): lane for lane in lanes}
    share = max(1, depth // 4)  # answers are made good for in groups, so that a send carries several requests
    window.start(lanes, time.perf_counter())
    window.over(time.perf_counter())
    checked = 0.0
    try:
        for file, lane in by_file.items():
            poll.register(file, _interest(lane.give(min(depth, total or depth))))
        while True:
            for file, event in poll.poll(0.1):
                lane = by_file[file]
                if event & ~select.EPOLLOUT:
                    lane.held += lane.receive()
                    more = lane.held if total is None else min(lane.held, total - lane.given)
                    if more >= share or (more and total is not None):
                        lane.held = 0
                        if not lane.give(more):
                            poll.modify(file, select.EPOLLIN | select.EPOLLOUT)
                if event & select.EPOLLOUT and lane.flush():
                    poll.modify(file, select.EPOLLIN)
            now = time.perf_counter()
            if now - checked > 0.005:
                checked = now
                if window.over(now, total is not None and all(lane.acknowledged >= total for lane in lanes)):
                    break
        collect(lanes)
    finally:
        poll.close()
    return window.measured


def _interest(all_sent: bool) -> int:
    return select.EPOLLIN if all_sent else select.EPOLLIN | select.EPOLLOUT


def open_loop(lanes: Sequence[Lane], rate: float, window: Window) -> Measured:
    """Send `rate` requests per second, one connection after the other, each when it is due; latencies count from then.

    Requests that were due before the window began are not counted.
    """
    if len(lanes) > OPEN_CONNECTIONS:
        raise ValueError(f"an open loop has at most {OPEN_CONNECTIONS} connections, not {len(lanes)}")
    latencies = array("d")
    by_sock = {lane.sock: lane for lane in lanes}
    start = time.perf_counter() + 0.01
    counted_from = start + window.warm_s
    window.start(lanes, start)
    number, due = 0, start
    while True:
        now = time.perf_counter()
        while due <= now:
            lane = lanes[number % len(lanes)]
            lane.dues.append(due)
            lane.give(1)
            number += 1
            due = start + number / rate
        if window.over(now):
            break
        full = [lane.sock for lane in lanes if lane.blocked]
        readable, writable, _ = select.select(by_sock, full, [], max(0.0, due - time.perf_counter()))
        for sock in writable:
            by_sock[sock].flush()
        for sock in readable:
            _note(by_sock[sock], counted_from, latencies)
    collect(lanes, lambda lane: _note(lane, counted_from, latencies))
    window.measured.latencies_s = latencies
    return window.measured


def _note(lane: Lane, counted_from: float, latencies: array[float]) -> None:
    count = lane.receive()
    now, dues = time.perf_counter(), lane.dues
    for _ in range(count):
        due = dues.popleft()
        if due >= counted_from:
            latencies.append(now - due)


def collect(lanes: Sequence[Lane], receive: Callable[[Lane], object] = Lane.receive) -> None:
    """Send what was begun and wait for every answer; LostAnswersError if one does not come."""
    waiting = {lane.sock.fileno(): lane for lane in lanes if lane.in_flight}
    end = time.monotonic() + LAST_ANSWERS_S
    poll = select.poll()
    while waiting:
        if time.monotonic() > end:
            missing = ", ".join(f"{lane.in_flight} on {lane.name}" for lane in list(waiting.values())[:5])
            raise LostAnswersError(f"requests without an answer after {LAST_ANSWERS_S:g} s: {missing}")
        for file, lane in waiting.items():
            poll.register(file, select.POLLIN | (select.POLLOUT if lane.blocked else 0))
        for file, event in poll.poll(200):
            lane = waiting[file]
            if event & select.POLLOUT:
                lane.flush()
            if event & ~select.POLLOUT:
                receive(lane)
            if not lane.in_flight:
                poll.unregister(waiting.pop(file).sock)

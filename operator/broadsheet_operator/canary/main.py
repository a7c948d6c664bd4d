"""`broadsheet canary`: writes and reads records over every broker until a signal, and reports over HTTP.

One thread runs the state machine; kafka-python's thread moves bytes; each scrape has a thread of its own.
"""

from __future__ import annotations

import argparse
import logging
import queue
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from broadsheet_operator import log_lines
from broadsheet_operator.api import canary_limits
from broadsheet_operator.canary.endpoint import JSON, TEXT, Address, Endpoint
from broadsheet_operator.canary.machine import Canary, Pace
from broadsheet_operator.canary.messages import Effect, Event
from broadsheet_operator.canary.metrics import families
from broadsheet_operator.canary.verdict import Judge

T = TypeVar("T")
logger = logging.getLogger(__name__)

JUDGE_SECONDS = 5.0
HANGING_SECONDS = 30.0
"""/healthz fails when no turn has ended for so long."""
DEFAULT_TOPIC = "__broadsheet_canary"


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="broadsheet canary",
        description="Write and read records over every broker, and report latency, losses and availability.",
    )
    options.add_argument("--bootstrap-servers", required=True, metavar="HOST:PORT,...", help="some of its brokers")
    options.add_argument(
        "--topic",
        type=_checked(canary_limits.topic_name),
        default=DEFAULT_TOPIC,
        help=f"its own topic (default: {DEFAULT_TOPIC})",
    )
    options.add_argument(
        "--topic-management",
        choices=["self", "none"],
        default="self",
        help="who creates the topic and keeps a partition on each broker; none: the operator does (default: self)",
    )
    options.add_argument(
        "--interval",
        type=_checked(canary_limits.interval_ms),
        default="1s",
        metavar="TIME",
        help="between two records of a broker, 100ms to 1h (default: 1s)",
    )
    options.add_argument(
        "--max-latency",
        type=_checked(canary_limits.latency_ms),
        default="1s",
        metavar="TIME",
        help="what 99 %% of the records may take end to end, 1ms to 5s (default: 1s)",
    )
    options.add_argument(
        "--http",
        type=_checked(Address.parse),
        default="localhost:9404",
        metavar="HOST:PORT",
        help="address of /healthz, /readyz, /metrics and /status; [::]: all addresses of IPv4 and IPv6; port 0: a free "
        "one (default: localhost:9404)",
    )
    options.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    options.add_argument(
        "--log-format", default="text", choices=log_lines.FORMATS, help="json: one JSON object per line (default: text)"
    )
    return options


def _checked(read: Callable[[str], T]) -> Callable[[str], T]:
    """An option's type for argparse, of a function whose ValueError says what is allowed."""

    def value(text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None

    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT."""
    options = parser().parse_args(arguments)
    log_lines.configure(options.log_level, options.log_format)
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # what does not answer is in metrics and in /status
    address: Address = options.http
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    process = Process(
        options.bootstrap_servers.split(","),
        options.topic,
        Pace(interval=options.interval / 1000),
        options.max_latency / 1000,
        manages_topic=options.topic_management == "self",
    )
    try:
        endpoint = Endpoint(address, process.pages())
    except OSError as error:
        logger.critical("cannot listen on %s: %s; set --http to another address", address, error)
        return 1
    logger.info("started, serving http://%s/metrics", address._replace(port=endpoint.port))
    try:
        process.run(stop)
    finally:
        endpoint.close()
    logger.info("stopped")
    return 0


class Process:
    """The state machine at work."""

    def __init__(
        self, servers: Sequence[str], topic: str, pace: Pace, max_latency: float, *, manages_topic: bool
    ) -> None:
        self._servers = servers
        self._topic = topic
        self._manages_topic = manages_topic
        self._pace = pace
        self._max_latency = max_latency
        self.canary = Canary(secrets.token_hex(8), pace, time.monotonic())
        self._judge = Judge(topic, max_latency)
        self._lock = threading.Lock()
        """Held in a turn and while a page is made."""
        self._turned_at = time.time()
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._io_is_alive: Callable[[], bool] = lambda: True

    def run(self, stop: threading.Event) -> None:
        """Run until `stop`."""
        from broadsheet_operator.canary.network import Network

        attempt = self._pace.deliver_within / 2
        network = Network(self._servers, self._topic, self.canary.session, self._events.put, attempt)
        self._io_is_alive = lambda: network.is_alive
        keeper = self._keeper(stop)
        judge_at = 0.0
        try:
            while not stop.is_set():
                effects = self._turn()
                network.carry_out(effects)
                if time.monotonic() >= judge_at:
                    judge_at = time.monotonic() + JUDGE_SECONDS
                    self._form_verdict()
        finally:
            network.close()
            if keeper is not None:
                keeper.join(5)

    def _turn(self) -> list[Effect]:
        """Wait for the next event, or until something is due; the requests that follow."""
        try:
            events = [self._events.get(timeout=max(0.001, self.canary.next_turn(time.monotonic())))]
        except queue.Empty:
            events = []
        while not self._events.empty():
            events.append(self._events.get())
        with self._lock:
            for event in events:
                self.canary.take(event, time.monotonic())
            effects = self.canary.turn(time.monotonic())
            notes, self.canary.notes = self.canary.notes, []
        self._turned_at = time.time()
        for note in notes:
            logger.warning("%s: %s", self._topic, note)
        return effects

    def _form_verdict(self) -> None:
        before = self._judge.health
        with self._lock:
            after = self._judge.judge(self.canary, time.monotonic())
        if (before.healthy, before.reason, before.message) != (after.healthy, after.reason, after.message):
            level = logging.WARNING if after.healthy is False else logging.INFO
            logger.log(level, "%s: %s", after.reason, after.message)

    def _keeper(self, stop: threading.Event) -> threading.Thread | None:
        """Keeps the topic as it should be, where nobody else does."""
        if not self._manages_topic:
            return None
        from broadsheet_operator.canary.keeping import keep_topic

        thread = threading.Thread(target=keep_topic, args=(self._servers, self._topic, stop), name="topic", daemon=True)
        thread.start()
        return thread

    # -- pages ---------------------------------------------------------------------------------------------------------

    def pages(self) -> dict[str, Callable[[], tuple[int, str, bytes]]]:
        """What is served over HTTP."""
        return {"/healthz": self._healthz, "/readyz": self._healthz, "/metrics": self._metrics, "/status": self._status}

    def _healthz(self) -> tuple[int, str, bytes]:
        """The brokers' troubles are not this process's: it is well as long as it turns."""
        silent = time.time() - self._turned_at
        if silent > HANGING_SECONDS or not self._io_is_alive():
            return 503, TEXT, f"the canary has done nothing for {silent:.0f} s\n".encode()
        return 200, TEXT, b"ok\n"

    def _status(self) -> tuple[int, str, bytes]:
        return 200, JSON, self._judge.health.to_json().encode() + b"\n"

    def _metrics(self) -> tuple[int, str, bytes]:
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.process_collector import ProcessCollector

        with self._lock:
            made = list(families(self.canary, self._judge.health, time.monotonic(), self._turned_at, self._max_latency))
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(_Once(made))  # type: ignore[arg-type]
        return 200, "text/plain; version=0.0.4; charset=utf-8", generate_latest(registry)


class _Once:
    """A prometheus_client collector of metrics that are made already."""

    def __init__(self, made: Sequence[object]) -> None:
        self._made = made

    def describe(self) -> Sequence[object]:
        return []

    def collect(self) -> Sequence[object]:
        return self._made


if __name__ == "__main__":
    sys.exit(main())

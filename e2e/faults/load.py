"""Producers and consumer groups that go on whatever happens, and the history of what they were told.

with Load(cluster.bootstrap, "orders", partitions=6) as load:
    began = time.monotonic()
    ...                                      # a fault
    load.wait_served(since=began)            # every partition has taken a record sent after it
load.verify(cluster.bootstrap)
"""

from __future__ import annotations

import itertools
import statistics
import threading
from collections import Counter
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from tests.support.history.checker import check
from tests.support.history.confluent import RecordingConsumer, RecordingProducer, read_finals
from tests.support.history.operations import History, Outcome
from tests.support.waiting import wait_until

# A client that gives up on a silent broker within two seconds instead of a minute, and asks again soon.
HASTY = {
    "socket.timeout.ms": 2000,
    "socket.connection.setup.timeout.ms": 1000,
    "reconnect.backoff.ms": 10,
    "reconnect.backoff.max.ms": 100,
    "retry.backoff.ms": 20,
    "retry.backoff.max.ms": 100,
    "topic.metadata.refresh.fast.interval.ms": 50,
}
PRODUCER = HASTY | {"request.timeout.ms": 2000, "linger.ms": 2}
CONSUMER = HASTY | {"session.timeout.ms": 6000, "heartbeat.interval.ms": 500, "fetch.wait.max.ms": 100}


def seconds(values: Iterable[float]) -> str:
    """Median and maximum of measured times, in words."""
    found = sorted(values)
    return f"median {statistics.median(found):.2f} s, max {found[-1]:.2f} s of {len(found)}"


class Load:
    """`producers` of each kind (idempotent and not, all with acks=all), and `groups` of `members` each that commit."""

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        partitions: int,
        *,
        producers: int = 1,
        groups: int = 1,
        members: int = 2,
        pause_s: float = 0.004,
        padding: int = 100,
        patience_s: float = 60.0,
        in_flight: int = 5,
    ) -> None:
        """Each producer waits `pause_s` after each record, of `padding` bytes and its name, and gives a record up after
        `patience_s`: from then on not even an idempotent one knows what it has written before (it begins a new epoch).
        Likewise with more than one request in `in_flight` when a broker answers NOT_ENOUGH_REPLICAS for a while: the
        request behind the refused one may be out of order, and librdkafka then begins a new epoch, too.
        """
        self.bootstrap = bootstrap
        self.topic = topic
        self.partitions = partitions
        self.history = History()
        self._pause_s = pause_s
        self._padding = "x" * padding
        self._settings = {
            "message.timeout.ms": int(patience_s * 1000),
            "max.in.flight.requests.per.connection": in_flight,
        }
        self._stop = threading.Event()
        self._drained = threading.Event()
        self._failures: list[BaseException] = []
        self._writers = [
            threading.Thread(target=self._guard, args=(self._write, f"{kind}-{number}", kind == "idempotent"))
            for kind in ("idempotent", "plain")
            for number in range(producers)
        ]
        self._readers = [
            threading.Thread(target=self._guard, args=(self._read, f"group-{group}", f"member-{group}-{number}"))
            for group in range(groups)
            for number in range(members)
        ]

    def _guard(self, work: Any, *arguments: Any) -> None:
        try:
            work(*arguments)
        except BaseException as error:
            self._failures.append(error)
            raise

    def _write(self, name: str, idempotent: bool) -> None:
        config: dict[str, object] = {**PRODUCER, **self._settings, "acks": "all", "enable_idempotence": idempotent}
        with RecordingProducer(self.bootstrap, self.history, name, self.topic, **config) as producer:
            number = 0
            while not self._stop.wait(self._pause_s):
                producer.send(number % self.partitions, self._padding)
                number += 1

    def _read(self, group: str, name: str) -> None:
        consumer = RecordingConsumer(self.bootstrap, self.history, name, self.topic, **{**CONSUMER, "group_id": group})
        consumer.subscribe()
        while not self._drained.is_set():
            if consumer.poll(0.2):
                consumer.commit()
        consumer.close()

    def __enter__(self) -> Self:
        for thread in (*self._writers, *self._readers):
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._writers:
            thread.join()
        if error is not None:
            self._drained.set()
            for thread in self._readers:
                thread.join()

    # What came of it.

    def served(self, since: float) -> dict[int, float]:
        """For each partition that took a record sent after `since`, when the first of them was acknowledged."""
        found: dict[int, float] = {}
        for send in list(self.history.sends):
            if send.outcome is Outcome.OK and send.invoked >= since:
                index = send.partition[1]
                found[index] = min(send.completed, found.get(index, send.completed))
        return found

    def wait_served(self, since: float, deadline_s: float = 60.0) -> dict[int, float]:
        """Seconds from `since` until each partition acknowledged a record sent after it."""

        def everywhere() -> bool:
            assert not self._failures, self._failures
            return len(self.served(since)) == self.partitions

        try:
            wait_until(everywhere, "every partition to take records", deadline_s, 0.02)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; only {sorted(self.served(since))} do") from None
        return {index: at - since for index, at in self.served(since).items()}

    def longest_gap(self, since: float, until: float) -> float:
        """The longest time in which one partition acknowledged nothing, in seconds."""
        worst = 0.0
        for index in range(self.partitions):
            times = [since, until]
            times += [
                send.completed
                for send in list(self.history.sends)
                if send.outcome is Outcome.OK and send.partition[1] == index and since < send.completed < until
            ]
            times.sort()
            worst = max(worst, *(after - before for before, after in itertools.pairwise(times)))
        return worst

    def verify(self, deadline_s: float = 60.0) -> str:
        """Read everything, let the groups come to the end, and look for what must never happen; figures in words."""
        finals = read_finals(self.bootstrap, self.topic, self.partitions)
        self.history.finals += finals
        written = {(final.partition, offset) for final in finals for offset, _ in final.records}

        def all_read() -> bool:
            assert not self._failures, self._failures
            seen = {(read.partition, read.offset) for read in list(self.history.reads) if hasattr(read, "value")}
            return written <= seen

        try:
            if self._readers:
                wait_until(all_read, "the groups to read to the end", deadline_s, 0.1)
        finally:
            self._drained.set()
            for thread in self._readers:
                thread.join()
        assert not self._failures, self._failures
        anomalies = check(self.history)
        assert not anomalies, "\n".join(str(anomaly) for anomaly in anomalies)
        return self.figures()

    def figures(self) -> str:
        outcomes = Counter(send.outcome for send in self.history.sends)
        values = Counter(value for final in self.history.finals for _, value in final.records)
        twice = sum(count - 1 for count in values.values())
        by_idempotent = sum(c - 1 for value, c in values.items() if value.startswith("idempotent"))
        return (
            f"{len(self.history.sends)} records sent, {outcomes[Outcome.OK]} acknowledged, 0 of them lost; "
            f"{outcomes[Outcome.UNKNOWN]} without an answer; {len(values)} in the log, {twice} twice by retries "
            f"({by_idempotent} of idempotent producers); {len(self.history.commits)} commits, "
            f"{len(self.history.committed)} places asked for"
        )

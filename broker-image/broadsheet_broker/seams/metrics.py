"""What a broker counts about itself.

Hot paths increment plain integers in slotted objects (`counters.bytes_in += n`, some 30 ns); nothing is formatted,
locked or sampled until `/metrics` is requested. Gauges and everything that a room can work out on demand are
callbacks, called at that moment. Names are those that Kafka's JMX exporter rules give (dashboards hold on to them);
what Kafka does not have begins with `broadsheet_`.

How rooms use it::

    topic = environment.metrics.topic("orders")          # keep the object, or look it up: one dict access
    topic.bytes_in += len(records)

    environment.metrics.gauge("kafka_server_replicamanager_leadercount", "Partitions led here.", lambda: len(leaders))
    uncleaned = environment.metrics.counter("kafka_log_...", "What it counts.")
    uncleaned.value += 1
    environment.metrics.collector(lambda: [Family("kafka_log_log_size", "gauge", "Bytes of a log.", samples)])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from broadsheet_broker.seams.counters import (
    BUCKETS_SECONDS,
    PHASE_BUCKETS_SECONDS,
    Counter,
    Labels,
    Latency,
    RequestTimes,
    TopicCounters,
)

__all__ = [
    "BUCKETS_SECONDS",
    "PHASE_BUCKETS_SECONDS",
    "Collector",
    "Counter",
    "Family",
    "KnownLabels",
    "Labels",
    "Latency",
    "Metrics",
    "RequestTimes",
    "TopicCounters",
    "label_text",
]


class KnownLabels(tuple[tuple[str, str], ...]):
    """Labels that are written again and again, with their text: writing them costs more than all else of a sample."""

    text: str
    """`{topic="orders",partition="0"}`"""

    def __new__(cls, *labels: tuple[str, str]) -> KnownLabels:
        made = super().__new__(cls, labels)
        made.text = label_text(labels)
        return made


def label_text(labels: Labels) -> str:
    """Labels as Prometheus's text format has them; empty for none."""
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels) + "}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


class Family(NamedTuple):
    """All samples of one metric name, as Prometheus wants them together."""

    name: str
    kind: str
    """`counter`, `gauge` or `histogram`."""
    help: str
    samples: Sequence[tuple[Labels, float]]
    """For a histogram the label values already carry `le`; see `Latency.samples`."""
    suffixes: Sequence[str] | None = None
    """One per sample where the sample's name differs from the family's (`_bucket`, `_sum`, `_count`)."""


Collector = Callable[[], Iterable[Family | None]]
"""None: a moment at which the event loop may do something else, since a scrape of thousands of series takes long."""


class Metrics:
    """The counters of one broker."""

    __slots__ = ("_collectors", "_counters", "_gauges", "_retired_topics", "requests", "topics")

    def __init__(self) -> None:
        self.topics: dict[str, TopicCounters] = {}
        self.requests: dict[str, RequestTimes] = {}
        """Request name (`Produce`) -> where the time of these requests went."""
        self._retired_topics = TopicCounters()
        self._counters: dict[str, tuple[str, dict[Labels, Counter]]] = {}
        self._gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        self._collectors: list[Collector] = []

    def topic(self, name: str) -> TopicCounters:
        """The counters of a topic; made on first use."""
        counters = self.topics.get(name)
        if counters is None:
            counters = self.topics[name] = TopicCounters()
        return counters

    def forget_topic(self, name: str) -> None:
        """Drop the series of a deleted topic; the broker's totals keep what it counted."""
        counters = self.topics.pop(name, None)
        if counters is not None:
            self._retired_topics.add(counters)

    def topic_totals(self) -> TopicCounters:
        """Sums over all topics there are and were."""
        totals = TopicCounters()
        totals.add(self._retired_topics)
        for counters in self.topics.values():
            totals.add(counters)
        return totals

    def request_times(self, request: str) -> RequestTimes:
        """The histograms of one API; made on first use."""
        times = self.requests.get(request)
        if times is None:
            times = self.requests[request] = RequestTimes()
        return times

    def counter(self, name: str, help: str, labels: Labels = ()) -> Counter:
        """A counter by name (which ends in `_total`) and labels; the same object on every call."""
        _, children = self._counters.setdefault(name, (help, {}))
        return children.setdefault(labels, Counter())

    def gauge(self, name: str, help: str, value: Callable[[], float]) -> None:
        """A number asked for at scrape time. A later registration of the same name replaces the earlier one."""
        self._gauges[name] = (help, value)

    def collector(self, collect: Collector) -> None:
        """Families asked for at scrape time: whatever has labels."""
        self._collectors.append(collect)

    def families(self) -> Iterable[Family]:
        """Everything there is to export, in a stable order of registration."""
        return (family for family in self.families_in_steps() if family is not None)

    def families_in_steps(self) -> Iterable[Family | None]:
        """The same, with None between two of them where the event loop may do something else."""
        yield from self._topic_families()
        for name, (help, children) in self._counters.items():
            yield Family(name, "counter", help, [(labels, child.value) for labels, child in children.items()])
        for name, (help, value) in self._gauges.items():
            yield Family(name, "gauge", help, [((), value())])
        yield from self._request_families()
        for collect in self._collectors:
            yield from collect()

    def _topic_families(self) -> Iterable[Family]:
        totals = self.topic_totals()
        for slot, name, help in _TOPIC_FAMILIES:
            samples: list[tuple[Labels, float]] = [((), getattr(totals, slot))]
            samples += [((("topic", topic),), getattr(counters, slot)) for topic, counters in self.topics.items()]
            yield Family(f"kafka_server_brokertopicmetrics_{name}_total", "counter", help, samples)

    def _request_families(self) -> Iterable[Family]:
        counts = [((("request", request),), times.count) for request, times in self.requests.items()]
        yield Family("kafka_network_requestmetrics_requests_total", "counter", "Requests answered, by API.", counts)
        # An API that was never used need not fill dozens of lines of every scrape.
        used = [(request, times) for request, times in self.requests.items() if times.count]
        yield _histogram(
            "broadsheet_request_seconds",
            "Seconds from the last byte of a request until its answer is written, by API; long polls include their "
            "waiting.",
            [((("request", request),), times.total) for request, times in used],
        )
        yield _histogram(
            "broadsheet_request_phase_seconds",
            "Seconds of a request by API and phase: queue until it is handled, local while it is handled, remote while "
            "it waits for replicas, other nodes or new records, response until its answer is written.",
            [
                ((("request", request), ("phase", phase)), latency)
                for request, times in used
                for phase, latency in times.phases()
            ],
        )


def _histogram(name: str, help: str, rows: Iterable[tuple[Labels, Latency]]) -> Family:
    samples: list[tuple[Labels, float]] = []
    suffixes: list[str] = []
    for labels, latency in rows:
        more, more_suffixes = latency.samples(labels)
        samples += more
        suffixes += more_suffixes
    return Family(name, "histogram", help, samples, suffixes)


_TOPIC_FAMILIES = (
    ("messages_in", "messagesin", "Records appended by producers."),
    ("bytes_in", "bytesin", "Bytes of record batches appended by producers."),
    ("bytes_out", "bytesout", "Bytes of record batches sent to consumers."),
    ("produce_requests", "totalproducerequests", "Writes to a partition, successful or not."),
    ("fetch_requests", "totalfetchrequests", "Reads of a partition, successful or not."),
    ("failed_produce_requests", "failedproducerequests", "Writes to a partition that were refused or failed."),
    ("failed_fetch_requests", "failedfetchrequests", "Reads of a partition that were refused or failed."),
)

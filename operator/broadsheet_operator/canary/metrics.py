"""The canary's metrics, made when they are asked for from what the state machine has counted.

`METRICS` declares all of them, for the scrape and for the catalogue (tools/metrics.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import Any, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from broadsheet_operator.canary.ledger import Kind
from broadsheet_operator.canary.machine import Canary
from broadsheet_operator.canary.tally import BUCKETS, Histogram, Tally
from broadsheet_operator.reconcilers.canary_health import CanaryHealth

BROKER = ("broker",)


class Declared(NamedTuple):
    """A metric: what Prometheus is told of it."""

    type: str
    """`gauge`, `counter` or `histogram`; the name of a counter ends in `_total`."""
    help: str
    labels: tuple[str, ...] = ()


METRICS: dict[str, Declared] = {
    "broadsheet_canary_records_produced_total": Declared(
        "counter", "Records that a broker acknowledged within the canary's time limit.", BROKER
    ),
    "broadsheet_canary_records_failed_total": Declared(
        "counter", "Records that were not acknowledged in time; the broker is the one that was tried last.", BROKER
    ),
    "broadsheet_canary_records_consumed_total": Declared("counter", "Records that were read back.", BROKER),
    "broadsheet_canary_records_lost_total": Declared(
        "counter", "Acknowledged records that were not found; one that arrives later counts as late, too.", BROKER
    ),
    "broadsheet_canary_records_late_total": Declared(
        "counter", "Records that were counted as lost and arrived afterwards.", BROKER
    ),
    "broadsheet_canary_records_duplicated_total": Declared(
        "counter", "Records that were read twice although they were sent once.", BROKER
    ),
    "broadsheet_canary_produce_latency_seconds": Declared(
        "histogram", "Seconds from sending a record to its acknowledgement by all replicas in sync.", BROKER
    ),
    "broadsheet_canary_end_to_end_latency_seconds": Declared(
        "histogram", "Seconds from sending a record to reading it.", BROKER
    ),
    "broadsheet_canary_broker_available": Declared(
        "gauge", "1 while a broker leads a partition of the canary's topic and acknowledges records.", BROKER
    ),
    "broadsheet_canary_connect_errors_total": Declared("counter", "Connections that could not be made.", BROKER),
    "broadsheet_canary_topic_recreated_total": Declared(
        "counter", "Times that the canary's topic was deleted and created again."
    ),
    "broadsheet_canary_healthy": Declared(
        "gauge", "1 while records pass through every broker within the limits, 0 while not; absent at the start."
    ),
    "broadsheet_canary_max_latency_seconds": Declared("gauge", "What 99 % of the records may take end to end."),
    "broadsheet_canary_last_round_timestamp_seconds": Declared(
        "gauge", "Unix time at which the canary last did its work."
    ),
}  # fmt: skip
"""Everything that is exported, by name."""

_COUNTED = {
    "broadsheet_canary_records_produced_total": Kind.PRODUCED,
    "broadsheet_canary_records_failed_total": Kind.FAILED,
    "broadsheet_canary_records_consumed_total": Kind.CONSUMED,
    "broadsheet_canary_records_lost_total": Kind.LOST,
    "broadsheet_canary_records_late_total": Kind.LATE,
    "broadsheet_canary_records_duplicated_total": Kind.DUPLICATED,
}
_FAMILIES: dict[str, Any] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


def families(
    canary: Canary, health: CanaryHealth, now: float, unix_time: float, max_latency: float
) -> Iterable[object]:
    """The metrics of this moment, for prometheus_client. `now`: monotonic; `unix_time`: of the last turn."""
    made = {name: _FAMILIES[m.type](name, m.help, labels=m.labels) for name, m in METRICS.items()}
    expected = canary.expected
    for broker, tally in sorted(canary.tallies.brokers.items()):
        if broker in expected:
            _add_broker(made, str(broker), tally, available=canary.is_available(broker, now))
    made["broadsheet_canary_topic_recreated_total"].add_metric([], canary.tallies.recreated)
    made["broadsheet_canary_max_latency_seconds"].add_metric([], max_latency)
    made["broadsheet_canary_last_round_timestamp_seconds"].add_metric([], unix_time)
    if health.healthy is not None:
        made["broadsheet_canary_healthy"].add_metric([], float(health.healthy))
    return made.values()


def _add_broker(made: dict[str, Any], broker: str, tally: Tally, *, available: bool) -> None:
    for name, kind in _COUNTED.items():
        made[name].add_metric([broker], tally.totals[kind])
    made["broadsheet_canary_connect_errors_total"].add_metric([broker], tally.connect_errors)
    made["broadsheet_canary_broker_available"].add_metric([broker], float(available))
    for name, histogram in (("produce", tally.produce), ("end_to_end", tally.end_to_end)):
        family = made[f"broadsheet_canary_{name}_latency_seconds"]
        family.add_metric([broker], _buckets(histogram), sum_value=histogram.sum)


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*map(str, BUCKETS), "+Inf"]
    return [(bound, float(count)) for bound, count in zip(bounds, accumulate(histogram.counts), strict=True)]

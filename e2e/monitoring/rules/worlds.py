"""Series for unit tests of alerts: a cluster that is well, and what happens to it, minute by minute.

A series is written as what changes when: `at(1, (10, 0), (12, 1))` is 1, from minute 10 on 0, from minute 12 on 1. GONE
is no sample, as of a process that cannot be scraped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from tools.dashboards.engines import IDLE, METADATA_ERRORS

GONE = "stale"
Series = dict[str, str]
Value = float | str
AT = 'namespace="paper",cluster="news"'
OPERATOR = 'job="broadsheet-operator",pod="operator-0"'
CANARY = f'{AT},job="broadsheet-canary",pod="news-canary-0"'
PODS = (0, 1, 2)
OF_BROADSHEET = ("broadsheet_metadata_is_behind", "broadsheet_log_directory_")
"""Series that its brokers export, and those of Apache Kafka do not."""
FOR_EVER = 10_000
"""As the end of a gap: until the end of the series."""


class Clock:
    """How long the series of the world that is being made are; most cases need few hours."""

    minutes = 200


def at(first: Value, *changes: tuple[int, Value]) -> str:
    """A gauge: its first value, and from which minute on it has another one."""
    steps = [(0, first), *((min(minute, Clock.minutes), value) for minute, value in changes), (Clock.minutes, first)]
    spans = ((end - begin, value) for (begin, value), (end, _) in pairwise(steps))
    return " ".join(_repeat(value, count) for count, value in spans if count > 0)


def _repeat(value: Value, count: int) -> str:
    """GONE is marked once, as a scrape that fails does it; then there is nothing."""
    return " ".join([GONE, *["_"] * (count - 1)]) if value == GONE else f"{value}+0x{count - 1}"


def counter(per_minute: float, *changes: tuple[int, float]) -> str:
    """A counter: how much it grows per minute, and from which minute on it grows otherwise."""
    steps = [(0, per_minute), *((min(minute, Clock.minutes), more) for minute, more in changes), (Clock.minutes, 0.0)]
    parts, total = [], 0.0
    for (begin, growth), (end, _) in pairwise(steps):
        if end > begin:
            parts.append(f"{total:g}+{growth:g}x{end - begin - 1}")
            total += growth * (end - begin)
    return " ".join(parts)


def broker(name: str, number: int, **labels: str) -> str:
    """A series of a broker."""
    more = "".join(f',{key}="{value}"' for key, value in labels.items())
    return f'{name}{{{AT},job="broadsheet-broker",pod="news-brokers-{number}"{more}}}'


def operators(name: str, labels: str = "") -> str:
    """A series of the operator, about the cluster unless it has other labels."""
    return f"{name}{{{OPERATOR},{labels or AT}}}"


def operators_disk(name: str, number: int) -> str:
    """What the operator says of the disk of a broker: the pod is the broker's."""
    labels = f'{AT},job="broadsheet-operator",pod="news-brokers-{number}",directory="/data"'
    return f"broadsheet_log_directory_{name}_bytes{{{labels}}}"


def well(brokers: int = 3) -> Series:
    """Everything that alerts read, of a cluster that is well; its operator, a group and a canary."""
    series: Series = {}
    for number in range(brokers):
        leads = int(number == 0)
        gauges = {
            "up": 1,
            "kafka_server_replicamanager_leadercount": 10,
            "kafka_server_replicamanager_underreplicatedpartitions": 0,
            "kafka_server_replicamanager_underminisrpartitioncount": 0,
            "kafka_controller_kafkacontroller_activecontrollercount": leads,
            "kafka_controller_kafkacontroller_offlinepartitionscount": 0,
            "kafka_controller_kafkacontroller_fencedbrokercount": 0,
            "kafka_controller_controllerstats_uncleanleaderelections_total": 0,
            "kafka_server_raftmetrics_current_leader": 0,
            "kafka_server_raftmetrics_number_of_voters": brokers,
            "broadsheet_metadata_is_behind": 0,
            "kafka_log_logmanager_offlinelogdirectorycount": 0,
            "kafka_network_socketserver_networkprocessoravgidle_percent": 0.8,
            "process_start_time_seconds": 100,
        }
        series |= {broker(name, number): at(value) for name, value in gauges.items()}
        for name in ("underreplicated", "underminisr"):
            series[broker(f"kafka_cluster_partition_{name}", number, topic="orders", partition=str(number))] = at(0)
        for state, value in (("leader", leads), ("follower", 1 - leads)):
            if value:
                series[broker("kafka_server_raftmetrics_current_state", number, current_state=state)] = at(1)
        for name, value in (("available", 60), ("capacity", 100)):
            series[broker(f"broadsheet_log_directory_{name}_bytes", number, directory="/data")] = at(value)
        for name in ("log_end_offset", "high_watermark"):
            series[broker(f"kafka_server_raftmetrics_{name}", number)] = counter(10)
        series[broker("kafka_server_brokertopicmetrics_messagesin_total", number, topic="orders")] = counter(0)
    return series | _operators(brokers) | _canary()


def apache_kafka(world: Series, brokers: int = 3) -> Series:
    """The same with brokers of Apache Kafka: what only they export, and what the operator exports for them."""
    found = {series: values for series, values in world.items() if not series.startswith(OF_BROADSHEET)}
    for number in range(brokers):
        found |= {broker(name, number): at(0) for name in METADATA_ERRORS}
        for name in IDLE:
            found[broker(name, number)] = at(0.8)
        for name, value in (("available", 60), ("capacity", 100)):
            found[operators_disk(name, number)] = at(value)
    return found


def _operators(brokers: int) -> Series:
    group = f'{AT},consumergroup="billing"'
    return {
        f'up{{{OPERATOR},namespace="broadsheet"}}': at(1),
        operators("broadsheet_operator_leading", 'namespace="broadsheet"'): at(1),
        operators("broadsheet_operator_last_resync_timestamp_seconds", 'namespace="broadsheet"'): counter(60),
        operators("broadsheet_operator_resync_interval_seconds", 'namespace="broadsheet"'): at(60),
        operators("broadsheet_cluster_reachable"): at(1),
        operators("broadsheet_cluster_brokers"): at(brokers),
        operators("broadsheet_cluster_ready_brokers"): at(brokers),
        operators("broadsheet_cluster_rolling"): at(0),
        operators("broadsheet_broker_restarts_total", f'{AT},reason="PodHasOldRevision"'): counter(0),
        ready("Cluster", "news"): at(1),
        ready("Topic", "orders"): at(1),
        reconciliations("success"): counter(10),
        reconciliations("failed"): counter(0),
        operators("broadsheet_lag_wanted"): at(1),
        operators("broadsheet_lag_groups", f'{AT},result="exported"'): at(1),
        operators("broadsheet_lag_groups", f'{AT},result="left_out"'): at(0),
        operators("broadsheet_lag_groups", f'{AT},result="failed"'): at(0),
        operators("kafka_consumergroup_members", group): at(2),
        operators("kafka_consumergroup_group_max_lag_seconds", group): at(1),
        operators("broadsheet_consumergroup_verdict", f'{group},verdict="OK"'): at(1),
    }


def _canary() -> Series:
    series = {
        f"up{{{CANARY}}}": at(1),
        f"broadsheet_canary_last_round_timestamp_seconds{{{CANARY}}}": counter(60),
        f"broadsheet_canary_max_latency_seconds{{{CANARY}}}": at(1),
    }
    for number in PODS:
        labels = f'{CANARY},broker="{number}"'
        series[f"broadsheet_canary_broker_available{{{labels}}}"] = at(1)
        series[f"broadsheet_canary_records_produced_total{{{labels}}}"] = counter(60)
        series[f"broadsheet_canary_records_failed_total{{{labels}}}"] = counter(0)
        series[f"broadsheet_canary_records_lost_total{{{labels}}}"] = counter(0)
        series[f"broadsheet_canary_records_late_total{{{labels}}}"] = counter(0)
        name = "broadsheet_canary_end_to_end_latency_seconds_bucket"
        for limit in ("0.1", "1.0", "5.0", "+Inf"):
            series[f'{name}{{{labels},le="{limit}"}}'] = counter(60)
    return series


def ready(kind: str, name: str) -> str:
    return operators("broadsheet_resource_ready", f'{AT},kind="{kind}",name="{name}"')


def condition(kind: str, name: str, type: str, reason: str) -> str:
    labels = f'{AT},kind="{kind}",name="{name}",condition="{type}",reason="{reason}"'
    return operators("broadsheet_resource_condition", labels)


def reconciliations(result: str) -> str:
    return operators("broadsheet_reconciliations_total", f'namespace="broadsheet",kind="Topic",result="{result}"')


def of(world: Series, name: str, *, pod: int | None = None, **labels: str) -> list[str]:
    """Keys of a world's series: of a metric, of one pod, with labels."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    if pod is not None:
        wanted.append(f'pod="news-brokers-{pod}"')
    found = [key for key in world if key.startswith(f"{name}{{") and all(part in key for part in wanted)]
    assert found, f"no series of {name} with {labels} in this world"
    return found


def change(world: Series, name: str, value: str, *, pod: int | None = None, **labels: str) -> None:
    """Have all series of a metric that match take another course."""
    for key in of(world, name, pod=pod, **labels):
        world[key] = value


def broker_is_away(world: Series, number: int, *times: tuple[int, int]) -> None:
    """No series of this broker from a minute to another one but `up`, which is 0; it counts from 0 when it is back."""
    for key in [key for key in world if f'pod="news-brokers-{number}"' in key]:
        world[key] = with_gaps(world[key], *times)
    change(world, "up", at(1, *(s for begin, end in times for s in ((begin, 0), (end, 1)))), pod=number)


def with_gaps(series: str, *times: tuple[int, int]) -> str:
    """A gauge or counter without changes, of which no sample is there at some times; it goes on as it would have."""
    found = re.fullmatch(r"([\d.]+)\+([\d.]+)x(\d+)", series)
    assert found, f"not a plain series: {series}"
    first, growth, last = float(found[1]), float(found[2]), int(found[3])
    parts, minute = [], 0
    for begin, end in (*times, (last + 1, last + 1)):
        if begin > minute:
            parts.append(f"{first + growth * minute:g}+{growth:g}x{begin - minute - 1}")
        end = min(end, last + 1)
        if end > begin:
            parts.append(_repeat(GONE, end - begin))
        minute = end
    return " ".join(parts)


def test_file(rules: str, worlds: Iterable[tuple[str, Series, Mapping[int, Iterable[str]]]]) -> dict[str, Any]:
    """A file for `promtool test rules`: in each world, exactly these alerts fire at these minutes."""
    tests = []
    for name, series, expected in worlds:
        asked = [
            {
                "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in sorted(alerts)],
            }
            for minute, alerts in sorted(expected.items())
        ]
        inputs = [{"series": key, "values": values} for key, values in series.items()]
        tests.append({"name": name, "interval": "1m", "input_series": inputs, "promql_expr_test": asked})
    return {"rule_files": [rules], "evaluation_interval": "1m", "tests": tests}

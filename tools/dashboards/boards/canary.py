"""The canary: what a client that writes and reads on every broker sees."""

from __future__ import annotations

from tools.dashboards.board import SELECTED as S
from tools.dashboards.board import Board, Section
from tools.dashboards.panels import Query, bars, lines, stat_panel, states

RATE = "[$__rate_interval]"
BY_CLUSTER = "by (namespace, cluster)"
CLUSTER = "{{namespace}}/{{cluster}}"
BROKER = "{{namespace}}/{{cluster}} broker {{broker}}"
FAILED = f"sum(increase(broadsheet_canary_records_failed_total{{{S}}}[$__range]))"
PRODUCED = f"sum(increase(broadsheet_canary_records_produced_total{{{S}}}[$__range]))"
LOST = f"sum {BY_CLUSTER} (increase(broadsheet_canary_records_lost_total{{{S}}}[$__range]))"
LATE = f"sum {BY_CLUSTER} (increase(broadsheet_canary_records_late_total{{{S}}}[$__range]))"
END_TO_END = "broadsheet_canary_end_to_end_latency_seconds_bucket"
PRODUCE = "broadsheet_canary_produce_latency_seconds_bucket"


def quantile(part: float, metric: str, by: str = "le") -> str:
    return f"histogram_quantile({part}, sum by ({by}) (rate({metric}{{{S}}}{RATE})))"


WELL = (
    stat_panel(
        "Objective: written",
        f"1 - {FAILED} / ({PRODUCED} + {FAILED})",
        """Share of the canary's records that were acknowledged, over the time range of this page. 99.9 % allows
        43 minutes a month.""",
        unit="percentunit",
        yellow=0.999,
        red=0.99,
        low_is_bad=True,
        decimals=3,
        alerts=["CanaryBrokerUnavailable"],
    ),
    stat_panel(
        "Objective: within 1 s",
        f'sum(increase({END_TO_END}{{{S}, le="1.0"}}[$__range])) '
        f'/ sum(increase({END_TO_END}{{{S}, le="+Inf"}}[$__range]))',
        "Share of the canary's records that were read within a second, over the time range of this page.",
        unit="percentunit",
        yellow=0.999,
        red=0.99,
        low_is_bad=True,
        decimals=3,
        alerts=["CanaryLatencyHigh"],
    ),
    stat_panel(
        "Records lost",
        f"sum(clamp_min({LOST} - {LATE}, 0))",
        """Records that were acknowledged and did not come back, over the time range of this page; those that came late
        are not among them. It must be 0.""",
        red=1,
        decimals=0,
        alerts=["CanaryRecordsLost"],
    ),
    stat_panel(
        "Brokers that do not serve",
        f"sum(broadsheet_canary_broker_available{{{S}}} == bool 0)",
        """Brokers on which the canary cannot write now. "no data": no canary is scraped; a Cluster asks for one
        with spec.canary.""",
        red=1,
        alerts=["CanaryBrokerUnavailable"],
    ),
    stat_panel(
        "End to end, p99",
        quantile(0.99, END_TO_END),
        "From the call of the producer to the record at the consumer, 99 of 100 records.",
        unit="s",
        yellow=0.5,
        red=1,
        alerts=["CanaryLatencyHigh"],
    ),
    stat_panel(
        "Duplicates",
        f"sum(increase(broadsheet_canary_records_duplicated_total{{{S}}}[$__range]))",
        "Records that came more than once, over the time range of this page. Some after a failover are normal.",
        yellow=1,
        decimals=0,
    ),
)
WRONG = (
    states(
        "Which broker does not serve, and since when?",
        Query(
            f"min by (namespace, cluster, broker) (broadsheet_canary_broker_available{{{S}}})",
            BROKER,
            texts={1: ("serves", "green"), 0: ("does not serve", "red")},
        ),
        what="""Whether the canary can write to a partition that each broker leads. In a planned change each
        broker is red in its turn, for seconds.""",
        alerts=["CanaryBrokerUnavailable"],
    ),
    lines(
        "What went wrong?",
        Query(
            f"sum by (namespace, cluster) (rate(broadsheet_canary_records_failed_total{{{S}}}{RATE}))",
            "not written {{namespace}}/{{cluster}}",
        ),
        Query(
            f"sum by (namespace, cluster) (rate(broadsheet_canary_records_lost_total{{{S}}}{RATE}))",
            "lost {{namespace}}/{{cluster}}",
        ),
        Query(
            f"sum by (namespace, cluster) (rate(broadsheet_canary_records_late_total{{{S}}}{RATE}))",
            "late {{namespace}}/{{cluster}}",
        ),
        Query(
            f"sum by (namespace, cluster) (rate(broadsheet_canary_records_duplicated_total{{{S}}}{RATE}))",
            "twice {{namespace}}/{{cluster}}",
        ),
        Query(
            f"sum by (namespace, cluster) (rate(broadsheet_canary_connect_errors_total{{{S}}}{RATE}))",
            "no connection {{namespace}}/{{cluster}}",
        ),
        what="Failures per second, by kind. A late record was counted as lost and arrived afterwards.",
        unit="cps",
        alerts=["CanaryRecordsLost", "CanaryBrokerUnavailable"],
    ),
)
SLOW = (
    lines(
        "How long does a record take?",
        *(Query(quantile(part, END_TO_END), name) for part, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))),
        what="From the call of the producer to the record at the consumer.",
        unit="s",
        yellow=0.5,
        red=1,
        colours={"p50": "green", "p95": "yellow", "p99": "orange"},
        alerts=["CanaryLatencyHigh"],
        width=8,
    ),
    lines(
        "Which broker is slow?",
        Query(quantile(0.99, END_TO_END, "le, namespace, cluster, broker"), BROKER),
        what="99th percentile of the whole way, by the broker that leads the partition.",
        unit="s",
        alerts=["CanaryLatencyHigh"],
        width=8,
    ),
    lines(
        "Is it slow to write?",
        Query(quantile(0.99, PRODUCE, "le, namespace, cluster, broker"), BROKER),
        what="""99th percentile until the acknowledgement, by broker. Slow writes and slow ways: disk or
        replication. Only slow ways: the consumer or its coordinator.""",
        unit="s",
        width=8,
    ),
    lines(
        "Does it work?",
        Query(f"sum {BY_CLUSTER} (rate(broadsheet_canary_records_produced_total{{{S}}}{RATE}))", f"writes {CLUSTER}"),
        Query(f"sum {BY_CLUSTER} (rate(broadsheet_canary_records_consumed_total{{{S}}}{RATE}))", f"reads {CLUSTER}"),
        what="Records per second. Both are the same and steady; a gap is a canary that does not run.",
        unit="cps",
        alerts=["CanaryRecordsLost"],
        width=12,
    ),
    bars(
        "Which brokers have no connection?",
        Query(
            f"sum by (namespace, cluster, broker) "
            f"(increase(broadsheet_canary_connect_errors_total{{{S}}}[$__range])) > 0",
            BROKER,
        ),
        what="Failed connections over the time range of this page, by broker.",
        width=12,
    ),
)
BOARD = Board(
    "canary",
    "Canary",
    "What does a client see that writes and reads on every broker?",
    [
        Section("Is it well?", WELL),
        Section("What is wrong, and since when?", WRONG),
        Section("Is it slow?", SLOW),
    ],
)

"""The operator: does one lead, does it reconcile, which resources are not Ready and why?"""

from __future__ import annotations

from tools.dashboards.board import SELECTED as S
from tools.dashboards.board import Board, Section, uid
from tools.dashboards.panels import Query, bars, lines, stat_panel, states, table_panel

RATE = "[$__rate_interval]"
SINCE_RESYNC = "time() - max(broadsheet_operator_last_resync_timestamp_seconds)"
PROCESS = 'job="broadsheet-operator"'
RESOURCE = {"kind": "Kind", "namespace": "Namespace", "name": "Name", "cluster": "Cluster", "reason": "Reason"}
WELL = (
    stat_panel(
        "Operators that lead",
        "sum(broadsheet_operator_leading)",
        """One operator leads and the others stand by. 0 for some seconds is a change of leader. "no data": no
        operator is scraped.""",
        red=1,
        low_is_bad=True,
        width=3,
        alerts=["OperatorNotReconciling"],
    ),
    stat_panel(
        "Last full pass",
        SINCE_RESYNC,
        "Time since everything was reconciled again. It is at most resyncSeconds of the chart, a minute by default.",
        unit="s",
        yellow=300,
        red=900,
        width=3,
        alerts=["OperatorNotReconciling"],
    ),
    stat_panel(
        "Failed reconciliations",
        f'sum(rate(broadsheet_reconciliations_total{{result="failed"}}{RATE})) '
        f"or 0 * sum(rate(broadsheet_reconciliations_total{RATE}))",
        "Reconciliations per second that ended with an error. The operator tries again, each time later.",
        unit="ops",
        yellow=0.01,
        red=1,
        width=3,
        alerts=["ReconciliationsFail"],
    ),
    stat_panel(
        "Reconciliation, p99",
        f"histogram_quantile(0.99, sum by (le) (rate(broadsheet_reconciliation_seconds_bucket{RATE})))",
        "99 of 100 reconciliations take at most this long.",
        unit="s",
        yellow=10,
        red=60,
        width=3,
    ),
    stat_panel(
        "Resources",
        "sum(broadsheet_resources)",
        "Clusters, Topics and ConsumerGroups that the operator looks after.",
        width=3,
    ),
    stat_panel(
        "Not Ready",
        'sum(broadsheet_resources{ready!="True"}) or 0 * sum(broadsheet_resources)',
        "Resources whose condition Ready is not True. The table below says which and why.",
        yellow=1,
        red=10,
        width=3,
        alerts=["KafkaNotReady", "KafkaTopicNotReady"],
    ),
    stat_panel(
        "Stalled",
        f'sum(broadsheet_resource_condition{{condition="Stalled", {S}}}) or 0 * sum(broadsheet_resources)',
        "Resources that wait for a person: without a change of the resource, the operator does not go on.",
        red=1,
        width=3,
        alerts=["ResourceStalled"],
    ),
    stat_panel(
        "Paused clusters",
        f"sum(broadsheet_cluster_paused{{{S}}})",
        "Clusters that the operator leaves alone since somebody asked for it.",
        yellow=1,
        width=3,
    ),
)
WRONG = (
    table_panel(
        "Which resources are not Ready, and why?",
        Query(
            f'max by (kind, namespace, name, cluster, reason) (broadsheet_resource_condition{{condition="Ready", {S}}}'
            f" unless on (kind, namespace, name) broadsheet_resource_ready{{{S}}} == 1)",
            "Ready",
            texts={1: ("False", "red")},
        ),
        labels=RESOURCE,
        links={"cluster": uid("overview")},
        what="""The reason of the condition Ready. The page of conditions and reasons in the documentation says
        what each means and what to do; kubectl describe has the whole message.""",
        nothing="All resources are Ready",
        alerts=["KafkaNotReady", "KafkaTopicNotReady"],
        width=14,
    ),
    states(
        "Which resources wait for a person, and since when?",
        Query(
            f'max by (kind, namespace, name) (broadsheet_resource_condition{{condition="Stalled", {S}}})',
            "{{kind}} {{namespace}}/{{name}}",
            texts={1: ("Stalled", "red")},
        ),
        what="Resources with the condition Stalled. Nothing is drawn while there is none.",
        alerts=["ResourceStalled"],
        width=10,
    ),
    lines(
        "How many resources are not Ready?",
        Query(
            'sum by (kind) (broadsheet_resources{ready!="True"}) or 0 * sum by (kind) (broadsheet_resources)',
            "{{kind}}",
        ),
        what="By kind. A step of all kinds at once is a Cluster that is not reachable; one kind is a change of it.",
        steps=True,
        alerts=["KafkaTopicNotReady"],
        width=8,
    ),
    states(
        "Does one operator lead?",
        Query(
            "max by (pod) (broadsheet_operator_leading)",
            "{{pod}}",
            texts={1: ("leads", "green"), 0: ("stands by", "blue")},
        ),
        what="One green bar at each time. Leaders that change often: the API server is slow or the operator restarts.",
        alerts=["OperatorNotReconciling"],
        width=8,
    ),
    states(
        "What is it doing to clusters?",
        Query(
            f"max by (namespace, cluster) (broadsheet_cluster_rolling{{{S}}}) "
            f"+ 2 * max by (namespace, cluster) (broadsheet_cluster_paused{{{S}}})",
            "{{namespace}}/{{cluster}}",
            texts={
                0: ("at rest", "green"),
                1: ("rolling change", "blue"),
                2: ("paused", "yellow"),
                3: ("paused in a change", "orange"),
            },
        ),
        what="""Blue is a rolling change or a drain. If it is blue for hours, the status of the Cluster says
        which partition it waits for.""",
        alerts=["ChangeTakesTooLong"],
        width=8,
    ),
)
WORK = (
    lines(
        "How much does it reconcile?",
        Query(f"sum by (kind, result) (rate(broadsheet_reconciliations_total{RATE}))", "{{kind}} {{result}}"),
        what="Reconciliations per second by kind and result. A flood of one kind is a loop, ours or another program's.",
        unit="ops",
        alerts=["ReconciliationsFail"],
        width=8,
    ),
    lines(
        "How long does it take?",
        Query(
            f"histogram_quantile(0.99, sum by (le, kind) (rate(broadsheet_reconciliation_seconds_bucket{RATE})))",
            "{{kind}}",
        ),
        what="99th percentile by kind. Slow Clusters: the API server. Slow Topics and ConsumerGroups: the brokers.",
        unit="s",
        width=8,
    ),
    lines(
        "What does it write to the API server?",
        Query(f"sum(rate(broadsheet_operator_status_writes_total{RATE}))", "statuses"),
        what="Statuses per second. At rest it is zero: a status is written only when it changes.",
        unit="wps",
        width=8,
    ),
    bars(
        "Which brokers did it restart in the last day, and why?",
        Query(
            f"sum by (namespace, cluster, reason) (increase(broadsheet_broker_restarts_total{{{S}}}[1d])) > 0",
            "{{namespace}}/{{cluster}}: {{reason}}",
        ),
        what="Restarts of brokers by reason. Reasons have the names of Strimzi where it has them.",
    ),
    lines(
        "How busy is it?",
        Query(f"sum by (pod) (rate(process_cpu_seconds_total{{{PROCESS}}}{RATE}))", "{{pod}}"),
        what="Cores that each operator uses.",
        unit="percentunit",
        width=8,
    ),
    lines(
        "How much memory does it hold?",
        Query(f"max by (pod) (process_resident_memory_bytes{{{PROCESS}}})", "{{pod}}"),
        what="""Resident memory. It grows with the number of resources; its limit is resources.limits.memory of
        the chart.""",
        unit="bytes",
        width=8,
    ),
)
BOARD = Board(
    "operator",
    "Operator",
    "Does one operator lead? Does it reconcile? Which resources are not Ready, and why?",
    [
        Section("Is it well?", WELL),
        Section("What is wrong, and since when?", WRONG),
        Section("What does it do?", WORK),
    ],
)

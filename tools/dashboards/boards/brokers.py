"""Brokers: is each up, what is it busy with, where does the time of a request go, how long does the disk last?"""

from __future__ import annotations

from tools.dashboards.board import SELECTED, Board, Section, chosen
from tools.dashboards.engines import PHASES, busy, phase_seconds, refused, request_seconds
from tools.dashboards.panels import IN, OUT, Query, bars, lines, stat_panel, states, table_panel

S = f'{SELECTED}, pod=~"$pod"'
RATE = "[$__rate_interval]"
POD = "{{namespace}}/{{pod}}"
USED = f"1 - broadsheet_log_directory_available_bytes{{{S}}} / broadsheet_log_directory_capacity_bytes{{{S}}}"
WELL = (
    stat_panel(
        "Brokers that answer",
        f"count(max by (namespace, cluster, pod) (kafka_server_replicamanager_leadercount{{{S}}}))",
        "Brokers whose metrics Prometheus has now. Compare with the declared brokers on the overview.",
        width=3,
    ),
    stat_panel(
        "Not scraped",
        f'sum(up{{{S}, job="broadsheet-broker"}} == bool 0)',
        """Pods that Prometheus knows and that do not answer. "no data" means that Prometheus has no broker as a
        target: check the PodMonitor or the scrape configuration.""",
        red=1,
        width=3,
        alerts=["ScrapeProblem", "BrokerDown"],
    ),
    stat_panel(
        "Fenced",
        f"max(kafka_controller_kafkacontroller_fencedbrokercount{{{SELECTED}}})",
        """Brokers that are registered and that the controller keeps out: stopped, silent, or not ready. The
        largest count over the selected clusters.""",
        red=1,
        width=3,
        alerts=["BrokerDown"],
    ),
    stat_panel(
        "Busiest broker",
        f"max({busy(S)})",
        """Share of its one core that the busiest broker uses; of Apache Kafka, of its network threads or of its
        request handlers, whichever have less time left.""",
        unit="percentunit",
        yellow=0.8,
        red=0.95,
        width=3,
        alerts=["BrokerOverloaded"],
    ),
    stat_panel(
        "Fullest disk",
        f"max({USED})",
        "Used share of the fullest log directory.",
        unit="percentunit",
        yellow=0.75,
        red=0.85,
        width=3,
        alerts=["KafkaRunningOutOfSpace", "KafkaOutOfSpace"],
    ),
    stat_panel(
        "Failed log directories",
        f"sum(kafka_log_logmanager_offlinelogdirectorycount{{{S}}})",
        "Log directories that cannot be used: their replicas are offline.",
        red=1,
        width=3,
        alerts=["OfflineLogDirectoryCount"],
    ),
    stat_panel(
        "Produce, p99",
        f"""max({request_seconds(f'{S}, request="Produce"', RATE)})""",
        """99 of 100 writes are answered within this time, replication included, in the slowest cluster. Of Apache
        Kafka, by the slowest broker.""",
        unit="s",
        yellow=0.25,
        red=1,
        width=3,
    ),
    stat_panel(
        "Refused writes",
        f"sum({refused('Produce', S, RATE)})",
        "Writes per second that were refused or failed. The topics dashboard says of which topics.",
        unit="reqps",
        yellow=0.1,
        red=10,
        width=3,
    ),
)
WHICH = (
    states(
        "Which broker was down, and when?",
        Query(
            f'min by (namespace, pod) (up{{{S}, job="broadsheet-broker"}})',
            POD,
            texts={1: ("up", "green"), 0: ("down", "red")},
        ),
        what="""Whether Prometheus could scrape each pod. Red: it is there and does not answer. A gap: there was
        no pod at all.""",
        alerts=["BrokerDown", "ScrapeProblem"],
        width=9,
    ),
    table_panel(
        "What does each broker hold?",
        Query(
            f"time() - max by (namespace, pod) (process_start_time_seconds{{{S}}} and on (pod, namespace) "
            f"kafka_server_replicamanager_leadercount{{{S}}})",
            "Up for",
            "s",
        ),
        Query(f"max by (namespace, pod) (kafka_server_replicamanager_leadercount{{{S}}})", "Leaders"),
        Query(f"max by (namespace, pod) (kafka_server_replicamanager_partitioncount{{{S}}})", "Replicas"),
        Query(
            f"max by (namespace, pod) (kafka_server_replicamanager_underreplicatedpartitions{{{S}}})",
            "< replicas",
            red=1,
        ),
        Query(f"max by (namespace, pod) (kafka_server_replicamanager_offlinereplicacount{{{S}}})", "Offline", red=1),
        Query(f"sum by (namespace, pod) (kafka_server_socket_server_metrics_connection_count{{{S}}})", "Connections"),
        Query(f"max by (namespace, pod) ({USED})", "Disk used", "percentunit", red=0.85),
        labels={"namespace": "Namespace", "pod": "Broker"},
        what="""One row per broker. Leaders that are not spread evenly make one broker busy; a broker with no
        leaders has just started, or is being drained.""",
        sort="Leaders",
        width=15,
    ),
    lines(
        "Why were brokers restarted?",
        Query(
            f"sum by (namespace, cluster, reason) (increase(broadsheet_broker_restarts_total{{{SELECTED}}}{RATE}))",
            "{{namespace}}/{{cluster}}: {{reason}}",
        ),
        what="""Restarts that the operator made, by reason. A restart that is on the graph beside it and not here
        was not the operator's: a crash, an eviction or a lost node.""",
        steps=True,
        alerts=["BrokerRestartsOften"],
    ),
    lines(
        "How long has each broker been up?",
        Query(
            f"time() - max by (namespace, pod) (process_start_time_seconds{{{S}}} and on (pod, namespace) "
            f"kafka_server_replicamanager_leadercount{{{S}}})",
            POD,
        ),
        what="A saw: each fall to zero is a restart.",
        unit="s",
        alerts=["BrokerRestartsOften"],
    ),
)
REQUESTS = (
    lines(
        "Where does the time of a request go?",
        *(Query(f"""max({phase_seconds(phase, f'{S}, request=~"$request"', RATE)})""", phase) for phase in PHASES),
        what="""99th percentile by phase, of the request chosen above, in the slowest cluster. queue: the broker is
        busy. local: its disk or the request is slow. remote: a write waits for its followers, a read for records.
        response: the client or its network is slow. Of Apache Kafka, the highest of all brokers and chosen
        requests.""",
        unit="s",
        colours={"queue": "orange", "local": "blue", "remote": "purple", "response": "green"},
        alerts=["BrokerOverloaded"],
    ),
    lines(
        "Which broker answers slowly?",
        Query(
            request_seconds(f'{S}, request=~"$request"', RATE, "by (namespace, pod)"),
            POD,
        ),
        what="99th percentile of the whole time of the request chosen above, by broker. Reads include their waiting.",
        unit="s",
    ),
    lines(
        "Which requests are made?",
        Query(
            f"topk(10, sum by (request) (rate(kafka_network_requestmetrics_requests_total{{{S}}}{RATE})) > 0)",
            "{{request}}",
        ),
        what="""The ten most frequent requests. A flood of Metadata or FindCoordinator is a client that does not
        connect.""",
        unit="reqps",
        stacked=True,
    ),
    lines(
        "Which broker is busy?",
        Query(busy(S), POD),
        what="""Share of its one core that each broker uses; of Apache Kafka, of its busiest kind of threads. If one
        stands out, leaders are not spread evenly.""",
        unit="percentunit",
        yellow=0.8,
        red=0.95,
        highest=1,
        alerts=["BrokerOverloaded"],
    ),
    lines(
        "How many clients are connected?",
        Query(f"sum by (listener) (kafka_server_socket_server_metrics_connection_count{{{S}}})", "{{listener}}"),
        what="Open connections by listener. A step up without more traffic is a client that reconnects.",
        stacked=True,
        width=8,
    ),
    lines(
        "Are clients turned away?",
        Query(f"sum by (namespace, pod) (rate(broadsheet_connections_refused_total{{{S}}}{RATE}))", f"limit {POD}"),
        Query(f"sum by (namespace, pod) (rate(broadsheet_connections_rejected_total{{{S}}}{RATE}))", f"invalid {POD}"),
        Query(
            "sum by (namespace, pod) "
            f"(rate(kafka_server_socket_server_metrics_failed_authentication_total{{{S}}}{RATE}))",
            f"not authenticated {POD}",
        ),
        what="""Connections per second that were above a limit, or closed because of an invalid request. The
        second is often a client that speaks TLS to a listener without it. Apache Kafka counts neither, and only
        clients that fail to authenticate.""",
        width=8,
    ),
    lines(
        "Do requests pile up?",
        Query(f"broadsheet_request_queue_bytes{{{S}}}", POD),
        Query(f"kafka_network_requestchannel_requestqueuesize{{{S}}}", f"requests {POD}", "none"),
        what="""Bytes of requests that are not answered yet; of Apache Kafka, requests that wait for a handler. At
        its limit a broker stops reading from its clients.""",
        unit="bytes",
        width=8,
    ),
)
REPLICATION = (
    lines(
        "Do replicas keep up?",
        Query(f"kafka_server_replicafetchermanager_maxlag{{{S}}}", POD),
        what="Records by which the furthest replica on each broker is behind its leader.",
        alerts=["UnderReplicatedPartitions"],
        width=8,
    ),
    lines(
        "Do replicas fall out of sync?",
        Query(f"sum(rate(kafka_server_replicamanager_isrshrinks_total{{{S}}}{RATE}))", "shrinks"),
        Query(f"sum(rate(kafka_server_replicamanager_isrexpands_total{{{S}}}{RATE}))", "expands"),
        what="Changes of ISRs per second. Both at once, for long, is a follower on the edge: slow disk or network.",
        colours={"shrinks": "orange", "expands": "green"},
        alerts=["UnderReplicatedPartitions"],
        width=8,
    ),
    lines(
        "How much is copied?",
        Query(f"sum(rate(kafka_server_brokertopicmetrics_replicationbytesin_total{{{S}}}{RATE}))", "in"),
        Query(f"sum(rate(kafka_server_brokertopicmetrics_replicationbytesout_total{{{S}}}{RATE}))", "out"),
        what="Bytes between brokers. Far above the producers' bytes: a broker catches up, or replicas are moved.",
        unit="Bps",
        colours={"in": IN, "out": OUT},
        width=8,
    ),
)
ROOM = (
    lines(
        "How full is each disk?",
        Query(USED, f"{POD} {{{{directory}}}}"),
        what="""Used share of each log directory. At 85 % there is time to act; when it is full the broker hands
        its leaders over and comes back when there is room.""",
        unit="percentunit",
        yellow=0.75,
        red=0.85,
        highest=1,
        alerts=["KafkaRunningOutOfSpace", "KafkaOutOfSpace"],
        width=8,
    ),
    bars(
        "When is a disk full?",
        Query(
            f"(broadsheet_log_directory_available_bytes{{{S}}} "
            f"/ clamp_min(-deriv(broadsheet_log_directory_available_bytes{{{S}}}[1h]), 1)) < 30 * 86400",
            f"{POD} {{{{directory}}}}",
        ),
        what="""Time until each disk is full if it fills as it did in the last hour; those that last longer than
        30 days are left out.""",
        unit="s",
        alerts=["KafkaRunningOutOfSpace", "KafkaOutOfSpace"],
    ),
    lines(
        "How much memory does each broker hold?",
        Query(f'process_resident_memory_bytes{{{S}, job="broadsheet-broker"}}', POD),
        what="Resident memory. Compare with the memory limit of the pod: above it, Kubernetes ends the broker.",
        unit="bytes",
        alerts=["BrokerRestartsOften"],
        width=8,
    ),
)
JAVA = (
    lines(
        "How full is the heap?",
        Query(
            f'max by (namespace, pod) (jvm_memory_used_bytes{{{S}, area="heap"}}) '
            f'/ max by (namespace, pod) (jvm_memory_max_bytes{{{S}, area="heap"}})',
            POD,
        ),
        what="""Apache Kafka only: used share of the heap. A saw is normal; teeth that no longer fall are a heap that
        is too small (engine.jvm.heap).""",
        unit="percentunit",
        highest=1,
        yellow=0.9,
    ),
    lines(
        "Do collections stop brokers?",
        Query(f"sum by (namespace, pod) (rate(jvm_gc_collection_seconds_sum{{{S}}}{RATE}))", POD),
        what="""Apache Kafka only: share of the time in which the garbage collector stopped the broker. Above a
        tenth, requests wait for it.""",
        unit="percentunit",
        yellow=0.1,
    ),
)
BOARD = Board(
    "brokers",
    "Brokers",
    "Is each broker up? What is it busy with? Where does the time go? How long does the disk last?",
    [
        Section("Is it well?", WELL),
        Section("Which broker, and since when?", WHICH),
        Section("Is it busy, or is it slow?", REQUESTS),
        Section("Do the replicas keep up?", REPLICATION),
        Section("Is there room?", ROOM),
        Section("Is Java well? (Apache Kafka only)", JAVA),
    ],
    [
        chosen("pod", f"label_values(kafka_server_replicamanager_leadercount{{{SELECTED}}}, pod)", "Broker"),
        chosen(
            "request", f"label_values(kafka_network_requestmetrics_requests_total{{{SELECTED}}}, request)", "Request"
        ),
    ],
)

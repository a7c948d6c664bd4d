"""Where an incident begins: is it well, what is wrong, since when, and whose fault is it?"""

from __future__ import annotations

from tools.dashboards.board import SELECTED as S
from tools.dashboards.board import Board, Section, uid
from tools.dashboards.engines import busy, refused
from tools.dashboards.panels import IN, OUT, Query, lines, stat_panel, states, table_panel

BY_CLUSTER = "by (namespace, cluster)"
CLUSTER = "{{namespace}}/{{cluster}}"
WELL = (
    stat_panel(
        "Clusters not reachable",
        f"sum(broadsheet_cluster_reachable{{{S}}} == bool 0)",
        """Clusters whose brokers answer the operator with nothing. Lag and topic figures of such a cluster are
        absent, not zero. "no data" means that the operator itself is not scraped.""",
        red=1,
        width=3,
        alerts=["ClusterUnreachable"],
    ),
    stat_panel(
        "Brokers not ready",
        f"sum(max {BY_CLUSTER} (broadsheet_cluster_brokers{{{S}}}) "
        f"- max {BY_CLUSTER} (broadsheet_cluster_ready_brokers{{{S}}}) "
        f"or max {BY_CLUSTER} (kafka_controller_kafkacontroller_fencedbrokercount{{{S}}}))",
        """Declared brokers minus ready ones; of clusters that others run, those that the controller keeps out.
        One is expected while a rolling change is under way, as the panel
        at the right says.""",
        yellow=1,
        red=2,
        width=3,
        alerts=["BrokerDown", "KafkaBrokerContainersDown"],
    ),
    stat_panel(
        "Partitions offline",
        f"sum(max {BY_CLUSTER} (kafka_controller_kafkacontroller_offlinepartitionscount{{{S}}}))",
        "Partitions without a leader: producers and consumers of them wait.",
        red=1,
        width=3,
        alerts=["OfflinePartitions"],
    ),
    stat_panel(
        "Under min ISR",
        f"sum(kafka_server_replicamanager_underminisrpartitioncount{{{S}}})",
        "Partitions whose ISR is smaller than min.insync.replicas: producers with acks=all get errors.",
        red=1,
        width=3,
        alerts=["UnderMinIsrPartitionCount"],
    ),
    stat_panel(
        "Under-replicated",
        f"sum(kafka_server_replicamanager_underreplicatedpartitions{{{S}}})",
        "Partitions that lack a replica in sync. Nothing is lost yet; the next failure may stop producers.",
        yellow=1,
        red=100,
        width=3,
        alerts=["UnderReplicatedPartitions"],
    ),
    stat_panel(
        "Oldest unread record",
        f"max(kafka_consumergroup_group_max_lag_seconds{{{S}}})",
        "Age of the oldest record that a consumer group has not read, over all groups.",
        unit="s",
        yellow=300,
        red=1800,
        width=3,
        alerts=["TooLargeConsumerGroupLag", "ConsumerGroupStalled"],
    ),
    stat_panel(
        "Resources not Ready",
        'sum(broadsheet_resources{ready!="True"}) or 0 * sum(broadsheet_resources)',
        "Clusters, Topics and ConsumerGroups whose condition Ready is not True, in all namespaces.",
        yellow=1,
        red=10,
        width=3,
        alerts=["KafkaNotReady", "KafkaTopicNotReady", "ResourceStalled"],
    ),
    stat_panel(
        "Planned change",
        f"max(broadsheet_cluster_rolling{{{S}}}) or 0 * max(broadsheet_cluster_reachable{{{S}}})",
        """A rolling change or a drain restarts brokers one by one: fewer ready brokers and under-replicated
        partitions are expected now. It is marked in blue on all graphs.""",
        texts={0: ("none", "green"), 1: ("under way", "blue")},
        width=3,
        alerts=["ChangeTakesTooLong"],
    ),
)
WRONG = (
    table_panel(
        "Which alerts fire?",
        Query(
            # By all labels, whichever an alert has: two alerts of one name must not be an error, now of all times.
            f'(time() - ALERTS_FOR_STATE{{{S}}}) and ignoring (alertstate) ALERTS{{alertstate="firing", {S}}}',
            "For",
            "s",
        ),
        labels={"alertname": "Alert", "severity": "Severity", "cluster": "Cluster", "namespace": "Namespace"},
        what="""Alerts of the selected clusters that fire now, and for how long their condition has held. Alerts
        of the operator have no cluster and are on its dashboard. Each alert has a runbook of its name.""",
        nothing="No alert fires, or the rules are not loaded",
        sort="For",
        width=10,
        height=8,
    ),
    table_panel(
        "Which cluster is it?",
        Query(
            f"min {BY_CLUSTER} (broadsheet_cluster_reachable{{{S}}})",
            "Reachable",
            texts={1: ("yes", "green"), 0: ("NO", "red")},
        ),
        Query(f"sum {BY_CLUSTER} (broadsheet_cluster_brokers{{{S}}})", "Declared"),
        Query(f"sum {BY_CLUSTER} (broadsheet_cluster_ready_brokers{{{S}}})", "Ready"),
        Query(
            f"count {BY_CLUSTER} (max by (namespace, cluster, pod) (kafka_server_replicamanager_leadercount{{{S}}}))",
            "Scraped",
        ),
        Query(f"max {BY_CLUSTER} (kafka_controller_kafkacontroller_offlinepartitionscount{{{S}}})", "Offline", red=1),
        Query(f"sum {BY_CLUSTER} (kafka_server_replicamanager_underminisrpartitioncount{{{S}}})", "< min ISR", red=1),
        Query(f"sum {BY_CLUSTER} (kafka_server_replicamanager_underreplicatedpartitions{{{S}}})", "< replicas", red=1),
        Query(f"max {BY_CLUSTER} (kafka_consumergroup_group_max_lag_seconds{{{S}}})", "Lag", "s", red=1800),
        labels={"namespace": "Namespace", "cluster": "Cluster"},
        links={"cluster": uid("brokers")},
        what="""One row per cluster. An empty cell is a figure that is not known: a cluster that cannot be
        scraped has no partitions here, one that cannot be reached has no lag. Fewer scraped than ready brokers
        is a problem of Prometheus, not of Kafka.""",
        alerts=["ScrapeProblem"],
        sort="Offline",
        width=14,
        height=8,
    ),
)
WHEN = (
    states(
        "Since when is a cluster not Ready?",
        Query(
            f'min {BY_CLUSTER} (broadsheet_resource_ready{{kind="Cluster", {S}}})',
            CLUSTER,
            texts={1: ("Ready", "green"), 0: ("not Ready", "red")},
        ),
        what="""The condition Ready of each Cluster. A gap is a time in which the operator did not say: it was
        down or not scraped.""",
        alerts=["KafkaNotReady", "OperatorNotReconciling"],
        height=7,
    ),
    lines(
        "Since when are brokers missing?",
        Query(f"sum(broadsheet_cluster_brokers{{{S}}})", "declared"),
        Query(f"sum(broadsheet_cluster_ready_brokers{{{S}}})", "ready"),
        Query(f"sum(max {BY_CLUSTER} (kafka_controller_kafkacontroller_activebrokercount{{{S}}}))", "active"),
        Query(f"count(max by (namespace, cluster, pod) (kafka_server_replicamanager_leadercount{{{S}}}))", "scraped"),
        what="""Three counts that are the same when all is well. Ready below declared: a broker is down or
        restarts. Scraped below ready: Prometheus does not reach it.""",
        colours={"declared": "text", "ready": "green", "active": "purple", "scraped": "blue"},
        steps=True,
        alerts=["BrokerDown", "ScrapeProblem"],
        height=7,
    ),
    lines(
        "Since when are partitions in trouble?",
        Query(f"sum(max {BY_CLUSTER} (kafka_controller_kafkacontroller_offlinepartitionscount{{{S}}}))", "offline"),
        Query(f"sum(kafka_server_replicamanager_underminisrpartitioncount{{{S}}})", "under min ISR"),
        Query(f"sum(kafka_server_replicamanager_underreplicatedpartitions{{{S}}})", "under-replicated"),
        what="""Yellow is a missing replica, orange stops producers with acks=all, red stops everybody. In a
        planned change only yellow is expected, and it returns to zero between two brokers.""",
        colours={"offline": "red", "under min ISR": "orange", "under-replicated": "yellow"},
        steps=True,
        alerts=["UnderReplicatedPartitions", "UnderMinIsrPartitionCount", "OfflinePartitions"],
        height=7,
    ),
    lines(
        "Did the traffic change at that time?",
        Query(f'sum(rate(kafka_server_brokertopicmetrics_bytesin_total{{{S}, topic=""}}[$__rate_interval]))', "in"),
        Query(f'sum(rate(kafka_server_brokertopicmetrics_bytesout_total{{{S}, topic=""}}[$__rate_interval]))', "out"),
        what="""Bytes that producers write and consumers read, without replication. A step up at the start of the
        trouble is a cause; a step down is an effect.""",
        unit="Bps",
        colours={"in": IN, "out": OUT},
        height=7,
    ),
)
FAULT = (
    lines(
        "A busy broker?",
        Query(f"max {BY_CLUSTER} ({busy(S)})", CLUSTER),
        what="""The busiest broker of each cluster, as a share of the one core that it uses; of Apache Kafka, of its
        busiest kind of threads. Above 80 % requests wait: add brokers or move leaders.""",
        unit="percentunit",
        yellow=0.8,
        red=0.95,
        highest=1,
        alerts=["BrokerOverloaded"],
        width=6,
        height=7,
    ),
    lines(
        "A full disk?",
        Query(
            f"max {BY_CLUSTER} (1 - broadsheet_log_directory_available_bytes{{{S}}} "
            f"/ broadsheet_log_directory_capacity_bytes{{{S}}})",
            CLUSTER,
        ),
        what="The fullest log directory of each cluster. A broker whose disk is full hands its leaders over.",
        unit="percentunit",
        yellow=0.75,
        red=0.85,
        highest=1,
        alerts=["KafkaRunningOutOfSpace", "KafkaOutOfSpace"],
        width=6,
        height=7,
    ),
    lines(
        "A slow follower?",
        Query(f"max {BY_CLUSTER} (kafka_server_replicafetchermanager_maxlag{{{S}}})", CLUSTER),
        what="Records by which the furthest replica is behind its leader. It grows when a disk or the network is slow.",
        alerts=["UnderReplicatedPartitions"],
        width=6,
        height=7,
    ),
    lines(
        "A client?",
        Query(
            f"sum {BY_CLUSTER} ({refused('Produce', S, '[$__rate_interval]')})",
            f"refused writes {CLUSTER}",
        ),
        Query(
            f"sum {BY_CLUSTER} ({refused('Fetch', S, '[$__rate_interval]')})",
            f"refused reads {CLUSTER}",
        ),
        what="""Reads and writes that brokers refused, per second. Without trouble above, the client asks for
        something that is not allowed: too large records, a topic that is gone, an old leader.""",
        unit="reqps",
        width=6,
        height=7,
    ),
)
BOARD = Board(
    "overview",
    "Cluster overview",
    "Is it well? What is wrong? Since when? Whose fault is it? Read from top to bottom.",
    [
        Section("Is it well?", WELL),
        Section("What is wrong?", WRONG),
        Section("Since when?", WHEN),
        Section("Whose fault is it?", FAULT),
    ],
)

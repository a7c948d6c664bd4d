"""Every alert: when it fires, how bad that is, and what it says.

Three rules keep them quiet when all is well and loud when it is not:

- What a rolling change or a drain brings with it is left out while `broadsheet_cluster_rolling` is 1 (`unplanned`). So
  that a change that hangs hides nothing, the same condition fires again when one and the same partition or broker has
  been in it for long, whatever is going on (`or`).
- No alert reads an absent series as zero. What vanishes is compared with what was declared, or with what was there.
- A condition on samples of several processes is true for longer than two scrapes before it counts (`wait`).

Names are those of Strimzi's rules where it has the alert.
"""

from __future__ import annotations

from dataclasses import dataclass

from tools.dashboards.engines import IDLE, METADATA_ERRORS

MINUTE, HOUR = 60, 3600
CRITICAL, WARNING, INFO = "critical", "warning", "info"
SEVERITIES = {
    CRITICAL: "clients are affected, or data is in danger: act now",
    WARNING: "nothing is lost yet; act today",
    INFO: "worth a look",
}


@dataclass(frozen=True)
class Alert:
    """One alert."""

    name: str
    severity: str
    wait: int
    """Seconds for which the condition holds before the alert fires."""
    expr: str
    summary: str
    """One line; labels of the expression as {{ $labels.x }}, its value as {{ $value }}."""
    description: str


CLUSTER = "by (namespace, cluster)"
CHANGING = f"max {CLUSTER} (broadsheet_cluster_rolling) == 1"
WHERE = "{{ $labels.namespace }}/{{ $labels.cluster }}"


def unplanned(condition: str) -> str:
    """A condition, but for clusters with a rolling change or a drain."""
    return f"({condition}) unless on (namespace, cluster) ({CHANGING})"


def still(series: str, over: str, value: str = "== 1") -> str:
    """Series that had this value at every sample of a time, and already had it when that time began.

    Without the second part, a series that is seconds old would count as one that was so all the time.
    """
    function = "max_over_time" if value == "== 0" else "min_over_time"
    return f"{function}({series}[{over}]) {value} and {series} offset {over} {value}"


NO_ANSWER = (
    'broadsheet_resource_condition{condition="Ready",reason=~"Timeout|Unreachable|ClusterNotReady"}'
    " and on (cluster) broadsheet_cluster_reachable == 0"
)
"""Resources that are not as declared because their cluster does not answer. A Topic may be in another namespace than
its Cluster, so only the name of that is compared: the reason is what tells two Clusters of one name apart."""
CLUSTER_READY = 'broadsheet_resource_ready{kind="Cluster"}'
SCRAPED = f"count {CLUSTER} (max by (namespace, cluster, pod) (kafka_server_replicamanager_leadercount))"
"""Brokers that Prometheus reaches. A pod that was replaced is there twice for a minute: it counts once."""
CONTROLLERS = (
    f"sum {CLUSTER} (max by (namespace, cluster, pod) (kafka_controller_kafkacontroller_activecontrollercount))"
)


FOLLOWS = f'max {CLUSTER} (kafka_server_raftmetrics_current_state{{current_state=~"leader|follower"}}) == 1'
"""A node that is scraped leads the quorum, or has heard from a leader: there is one, scraped or not. The last known
leader says less: a node that has lost it and looks for votes still names it."""


def messages(offset: str = "") -> str:
    """Records per second by topic, without internal ones."""
    name = 'kafka_server_brokertopicmetrics_messagesin_total{topic!="",topic!~"__.*"}'
    return f"sum by (namespace, cluster, topic) (rate({name}[10m]{offset}))"


PARTITIONS = (
    Alert(
        "OfflinePartitions",
        CRITICAL,
        1 * MINUTE,
        unplanned(f"max {CLUSTER} (kafka_controller_kafkacontroller_offlinepartitionscount) > 0")
        + f" or max {CLUSTER} ({still('kafka_controller_kafkacontroller_offlinepartitionscount', '15m', '> 0')})",
        f"{{{{ $value }}}} partitions of {WHERE} have no leader",
        "Producers and consumers of these partitions wait until a replica that has every committed record is back.",
    ),
    Alert(
        "UnderMinIsrPartitionCount",
        CRITICAL,
        1 * MINUTE,
        unplanned(f"sum {CLUSTER} (kafka_server_replicamanager_underminisrpartitioncount) > 0")
        + f" or sum {CLUSTER} ({still('kafka_cluster_partition_underminisr', '15m')})",
        f"{{{{ $value }}}} partitions of {WHERE} are below min.insync.replicas",
        "Producers with acks=all get NOT_ENOUGH_REPLICAS for these partitions. Reads go on.",
    ),
    Alert(
        "UnderReplicatedPartitions",
        WARNING,
        5 * MINUTE,
        unplanned(f"sum {CLUSTER} (kafka_server_replicamanager_underreplicatedpartitions) > 0")
        + f" or sum {CLUSTER} ({still('kafka_cluster_partition_underreplicated', '30m')})",
        f"{{{{ $value }}}} partitions of {WHERE} lack replicas",
        "A broker is down, or a replica does not keep up. Nothing is lost; the next failure may stop producers.",
    ),
    Alert(
        "UncleanLeaderElection",
        CRITICAL,
        0,
        f"sum {CLUSTER} (increase(kafka_controller_controllerstats_uncleanleaderelections_total[15m])) > 0"
        f" or sum {CLUSTER} (kafka_controller_controllerstats_uncleanleaderelections_total > 0"
        " unless kafka_controller_controllerstats_uncleanleaderelections_total offset 15m) > 0",
        f"a replica of {WHERE} that lacked records became leader",
        "Records that producers have an acknowledgement for may be lost. unclean.leader.election.enable was set, or a "
        "person asked for the election.",
    ),
    Alert(
        "NoMessageForTooLong",
        INFO,
        15 * MINUTE,
        f"{messages()} == 0 and min_over_time(({messages()})[6h:10m] offset 3h) > 0 and {messages(' offset 9h')} > 0",
        f"topic {{{{ $labels.topic }}}} of {WHERE} gets no records any more",
        "Records arrived in every ten minutes of six hours, which ended three hours ago, and none in the last "
        "twenty-five minutes. Topics with pauses do not raise this alert.",
    ),
)
QUORUM = (
    Alert(
        "AbnormalControllerState",
        CRITICAL,
        2 * MINUTE,
        f"{CONTROLLERS} != 1 and on (namespace, cluster) ("
        f"{CONTROLLERS} unless on (namespace, cluster) ({FOLLOWS}) or {CONTROLLERS} > 1"
        f" or count {CLUSTER} (max by (namespace, cluster, pod) "
        "(kafka_controller_kafkacontroller_activecontrollercount))"
        f" >= max {CLUSTER} (kafka_server_raftmetrics_number_of_voters))",
        f"{WHERE} has {{{{ $value }}}} active controllers",
        "Without exactly one, topics, leaders and configurations cannot change, and no broker that fails is replaced. "
        "Reads and writes of partitions that have a leader go on.",
    ),
    Alert(
        "MetadataQuorumLagging",
        WARNING,
        5 * MINUTE,
        "max by (namespace, cluster, pod) (kafka_server_raftmetrics_log_end_offset)"
        f" < on (namespace, cluster) group_left () max {CLUSTER} (kafka_server_raftmetrics_high_watermark offset 5m)",
        "{{ $labels.pod }} of " + WHERE + " does not follow the metadata",
        "This node lacks records that the metadata quorum committed more than five minutes ago: it acts on old news, "
        "and does not count for a majority.",
    ),
    Alert(
        "MetadataNotWritten",
        CRITICAL,
        2 * MINUTE,
        "max by (namespace, cluster, pod) (broadsheet_metadata_is_behind) == 1"
        f' or max by (namespace, cluster, pod) ({{__name__=~"{"|".join(METADATA_ERRORS)}"}}) > 0',
        "{{ $labels.pod }} of " + WHERE + " cannot store or apply the metadata",
        "The node cannot write down what the metadata quorum decides, in most cases because its disk is full. A node "
        "of Apache Kafka could not apply it.",
    ),
)
BROKERS = (
    Alert(
        "KafkaBrokerContainersDown",
        CRITICAL,
        5 * MINUTE,
        f"max {CLUSTER} (broadsheet_cluster_ready_brokers) == 0"
        f" and on (namespace, cluster) max {CLUSTER} (broadsheet_cluster_brokers) > 0",
        f"no broker of {WHERE} is ready",
        "The whole cluster is down, for longer than a restart takes.",
    ),
    Alert(
        "BrokerDown",
        WARNING,
        5 * MINUTE,
        unplanned(
            f"max {CLUSTER} (broadsheet_cluster_brokers) - max {CLUSTER} (broadsheet_cluster_ready_brokers) > 0"
            f" or max {CLUSTER} (kafka_controller_kafkacontroller_fencedbrokercount) > 0"
        )
        + f" or (min_over_time((max {CLUSTER} (broadsheet_cluster_brokers)"
        f" - max {CLUSTER} (broadsheet_cluster_ready_brokers))[30m:1m]) > 0"
        f" and on (namespace, cluster) (max {CLUSTER} (broadsheet_cluster_brokers offset 30m)"
        f" - max {CLUSTER} (broadsheet_cluster_ready_brokers offset 30m)) > 0)"
        f" unless on (namespace, cluster) sum {CLUSTER} (increase(broadsheet_broker_restarts_total[30m])) > 0",
        f"{{{{ $value }}}} brokers of {WHERE} are not ready",
        "Fewer brokers are ready than declared, or the controller keeps some out, and no planned change explains it.",
    ),
    Alert(
        "BrokerRestartsOften",
        WARNING,
        0,
        "sum by (namespace, cluster, pod) "
        '(changes(process_start_time_seconds{job="broadsheet-broker"}[1h]) + 1) - 1 > 2'
        f" unless on (namespace, cluster) sum {CLUSTER} (increase(broadsheet_broker_restarts_total[1h])) > 0",
        "{{ $labels.pod }} of " + WHERE + " restarted {{ $value }} times in an hour",
        "The operator did not ask for these restarts: the broker crashes, or Kubernetes ends it.",
    ),
    Alert(
        "BrokerOverloaded",
        WARNING,
        15 * MINUTE,
        " or ".join(f"min by (namespace, cluster, pod) (avg_over_time({name}[5m])) < 0.1" for name in IDLE),
        "{{ $labels.pod }} of " + WHERE + " is busy for more than 90 % of its time",
        "A broker of Broadsheet uses one core; of one of Apache Kafka, network threads or request handlers have no "
        "time left. Requests wait: latency rises, and replicas may fall out of sync.",
    ),
    Alert(
        "OfflineLogDirectoryCount",
        CRITICAL,
        1 * MINUTE,
        "sum by (namespace, cluster, pod) (kafka_log_logmanager_offlinelogdirectorycount) > 0",
        "{{ $labels.pod }} of " + WHERE + " has {{ $value }} failed log directories",
        "The disk under the directory gives errors, or it is not the one that it was. Its replicas are offline.",
    ),
    Alert(
        "KafkaOutOfSpace",
        CRITICAL,
        1 * MINUTE,
        "broadsheet_log_directory_available_bytes / broadsheet_log_directory_capacity_bytes < 0.03",
        "{{ $labels.pod }} of " + WHERE + " has {{ $value | humanizePercentage }} of its disk left",
        "The broker refuses records that do not fit. It hands its leaders over if others have everything that it has; "
        "partitions with one replica stay on it, and their producers get errors. A broker of Apache Kafka stops when "
        "its disk is full.",
    ),
    Alert(
        "KafkaRunningOutOfSpace",
        WARNING,
        5 * MINUTE,
        "broadsheet_log_directory_available_bytes / broadsheet_log_directory_capacity_bytes < 0.15",
        "{{ $labels.pod }} of " + WHERE + " has {{ $value | humanizePercentage }} of its disk left",
        "When the disk is full, the broker hands its leaders over and takes no more records until there is room. One "
        "of Apache Kafka stops.",
    ),
)
OPERATOR = (
    Alert(
        "ClusterUnreachable",
        CRITICAL,
        5 * MINUTE,
        f"max {CLUSTER} (broadsheet_cluster_reachable) == 0",
        f"no broker of {WHERE} answers the operator",
        "Lag and topic figures of this cluster are not known, and its Topics and ConsumerGroups are not reconciled.",
    ),
    Alert(
        "KafkaNotReady",
        WARNING,
        10 * MINUTE,
        unplanned(f"min {CLUSTER} ({CLUSTER_READY}) == 0")
        + f" or min {CLUSTER} ({still(CLUSTER_READY, '1h', '== 0')})",
        f"the Cluster {WHERE} is not Ready",
        "The condition Ready of the Cluster says why.",
    ),
    Alert(
        "KafkaTopicNotReady",
        WARNING,
        10 * MINUTE,
        'max by (namespace, cluster, name) (broadsheet_resource_ready{kind="Topic"}) == 0'
        f" unless on (namespace, cluster, name) max by (namespace, cluster, name) ({NO_ANSWER})",
        "the Topic {{ $labels.namespace }}/{{ $labels.name }} is not Ready",
        "What the Topic declares is not what the cluster has. If the cluster cannot be reached, "
        "only ClusterUnreachable fires.",
    ),
    Alert(
        "ResourceStalled",
        WARNING,
        5 * MINUTE,
        'max by (kind, namespace, name, cluster, reason) (broadsheet_resource_condition{condition="Stalled"}) == 1'
        f" unless on (kind, namespace, name) ({NO_ANSWER})",
        "{{ $labels.kind }} {{ $labels.namespace }}/{{ $labels.name }} waits for a person: {{ $labels.reason }}",
        "The operator cannot go on by itself. The message of the condition Stalled says what to change. If the cluster "
        "cannot be reached, only ClusterUnreachable fires.",
    ),
    Alert(
        "ChangeTakesTooLong",
        INFO,
        15 * MINUTE,
        f"max {CLUSTER} ({still('broadsheet_cluster_rolling', '2h')})",
        f"a rolling change or drain of {WHERE} takes more than two hours",
        "While it goes on, alerts for what it brings with it are late. The Cluster's status says what it waits for.",
    ),
    Alert(
        "OperatorNotReconciling",
        CRITICAL,
        5 * MINUTE,
        "(max by (namespace) (max_over_time(broadsheet_operator_leading[1h]))"
        " unless on (namespace) max by (namespace) (broadsheet_operator_leading) == 1)"
        " or absent(broadsheet_operator_leading)"
        " or time() - max by (namespace) (broadsheet_operator_last_resync_timestamp_seconds)"
        " > 300 + 3 * max by (namespace) (broadsheet_operator_resync_interval_seconds)",
        "no operator reconciles",
        "Brokers and clients go on. Changes of resources wait, broken pods are not looked after, and the lag of "
        "consumer groups is not known.",
    ),
    Alert(
        "ReconciliationsFail",
        WARNING,
        15 * MINUTE,
        'sum by (kind) (rate(broadsheet_reconciliations_total{result="failed"}[10m]))'
        " / sum by (kind) (rate(broadsheet_reconciliations_total[10m])) > 0.2",
        "{{ $value | humanizePercentage }} of the reconciliations of {{ $labels.kind }} fail",
        "The operator meets errors that it did not expect: of the API server, of brokers, or of its own.",
    ),
    Alert(
        "ScrapeProblem",
        WARNING,
        10 * MINUTE,
        f"max {CLUSTER} (broadsheet_cluster_ready_brokers)"
        f" - ({SCRAPED}"
        f" or 0 * max {CLUSTER} (broadsheet_cluster_ready_brokers)) > 0"
        ' or max by (namespace, cluster, pod) (up{job=~"broadsheet-(operator|canary)"}) == 0',
        "Prometheus does not reach what runs: {{ $labels.namespace }}/{{ $labels.cluster }}{{ $labels.pod }}",
        "Brokers are ready and their metrics are missing, or an operator or canary does not answer. Until this is "
        "repaired, alerts about them cannot fire.",
    ),
)
GROUPS = (
    Alert(
        "TooLargeConsumerGroupLag",
        WARNING,
        10 * MINUTE,
        "max by (namespace, cluster, consumergroup) (kafka_consumergroup_group_max_lag_seconds) > 600"
        " and max by (namespace, cluster, consumergroup) (deriv(kafka_consumergroup_group_max_lag_seconds[10m])) > -0.1"
        " and on (namespace, cluster, consumergroup) (kafka_consumergroup_members > 0"
        " or broadsheet_consumergroup_verdict == 1)",
        f"group {{{{ $labels.consumergroup }}}} of {WHERE} is {{{{ $value | humanizeDuration }}}} behind and does not "
        "catch up",
        "The oldest record that the group has not read is older than ten minutes, and its age does not fall by six "
        "seconds a minute. Groups without members count only if a ConsumerGroup declares them.",
    ),
    Alert(
        "ConsumerGroupStalled",
        WARNING,
        2 * MINUTE,
        'max by (namespace, cluster, consumergroup) (broadsheet_consumergroup_verdict{verdict="Stalled"}) == 1',
        f"group {{{{ $labels.consumergroup }}}} of {WHERE} reads nothing although records wait",
        "The group has members, and the committed offset of a partition did not move for the whole window of its "
        "ConsumerGroup (five minutes by default).",
    ),
    Alert(
        "LagNotObserved",
        WARNING,
        10 * MINUTE,
        f'sum {CLUSTER} (broadsheet_lag_groups{{result!="exported"}}) > 0'
        f" or max {CLUSTER} (broadsheet_lag_wanted)"
        f" unless on (namespace, cluster) max {CLUSTER} (broadsheet_lag_groups)",
        f"the lag of consumer groups of {WHERE} is not known",
        "The cluster can be reached, and observations fail or leave groups out. Alerts about groups that are missing "
        "cannot fire. If the cluster cannot be reached, only ClusterUnreachable fires.",
    ),
)
LOST, LATE = "broadsheet_canary_records_lost_total", "broadsheet_canary_records_late_total"
NO_VERDICT = (
    'condition="CanaryHealthy",reason!~"RecordsPass|RecordsSlow|BrokerUnavailable|RecordsLost|ExchangingEngine"'
)
"""A canary that is declared and has no verdict: it does not run, starts, or its topic cannot be made. A canary without
a pod has no series of its own. One whose brokers are stopped for another engine has none either, and is no news."""
CANARY = (
    Alert(
        "CanaryRecordsLost",
        CRITICAL,
        0,
        f"sum {CLUSTER} (increase({LOST}[15m])) - sum {CLUSTER} (increase({LATE}[15m])) > 0"
        f" or sum {CLUSTER} ({LOST} unless {LOST} offset 15m) - sum {CLUSTER} ({LATE} unless {LATE} offset 15m) > 0",
        f"records that {WHERE} acknowledged did not come back",
        "Records that were acknowledged to the canary are not there, or were cut off after it had read them.",
    ),
    Alert(
        "CanaryBrokerUnavailable",
        WARNING,
        2 * MINUTE,
        unplanned("min by (namespace, cluster, broker) (broadsheet_canary_broker_available) == 0")
        + f" or min by (namespace, cluster, broker) ({still('broadsheet_canary_broker_available', '30m', '== 0')})",
        "broker {{ $labels.broker }} of " + WHERE + " does not serve a client",
        "The canary cannot write to partitions of this broker, as any client could not.",
    ),
    Alert(
        "CanaryLatencyHigh",
        WARNING,
        10 * MINUTE,
        unplanned(
            "histogram_quantile(0.99, sum by (namespace, cluster, le) "
            "(rate(broadsheet_canary_end_to_end_latency_seconds_bucket[5m])))"
            f" > on (namespace, cluster) max {CLUSTER} (broadsheet_canary_max_latency_seconds)"
        ),
        f"records of {WHERE} take {{{{ $value | humanizeDuration }}}} from producer to consumer",
        "The 99th percentile of the canary's records was above spec.canary.maxLatency for ten minutes.",
    ),
    Alert(
        "CanarySilent",
        WARNING,
        10 * MINUTE,
        f"max {CLUSTER} (broadsheet_canary_last_round_timestamp_seconds) unless on (namespace, cluster)"
        f" (sum {CLUSTER} (rate(broadsheet_canary_records_produced_total[5m]))"
        f" + sum {CLUSTER} (rate(broadsheet_canary_records_failed_total[5m])) > 0)"
        f" or max {CLUSTER} (broadsheet_resource_condition{{{NO_VERDICT}}}) == 1",
        f"the canary of {WHERE} does nothing",
        "It does not run, or it runs and tries to write nothing: nothing is known of what clients see.",
    ),
)
GROUPS_OF_ALERTS = {
    "partitions": PARTITIONS,
    "quorum": QUORUM,
    "brokers": BROKERS,
    "operator": OPERATOR,
    "consumer-groups": GROUPS,
    "canary": CANARY,
}
"""Rule groups; Prometheus evaluates each on its own."""
ALERTS: tuple[Alert, ...] = tuple(alert for alerts in GROUPS_OF_ALERTS.values() for alert in alerts)

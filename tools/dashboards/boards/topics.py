"""Topics and partitions: which partition is in trouble, which topic makes the traffic, what takes the room?"""

from __future__ import annotations

from tools.dashboards.board import SELECTED, Board, Section, chosen
from tools.dashboards.panels import Query, bars, lines, stat_panel, table_panel

S = f'{SELECTED}, topic=~"$topic"'
RATE = "[$__rate_interval]"
PARTITION = {"namespace": "Namespace", "cluster": "Cluster", "topic": "Topic", "partition": "Partition"}
BY_PARTITION = "by (namespace, cluster, topic, partition)"
WELL = (
    stat_panel(
        "Topics",
        f"count(max by (namespace, cluster, topic) (kafka_topic_partitions{{{S}}}))",
        "Topics that brokers report, internal ones included.",
        width=3,
    ),
    stat_panel(
        "Partitions",
        f"sum(max by (namespace, cluster, topic) (kafka_topic_partitions{{{S}}}))",
        "Partitions of the selected topics.",
        width=3,
    ),
    stat_panel(
        "Offline",
        f"sum(max by (namespace, cluster) (kafka_controller_kafkacontroller_offlinepartitionscount{{{SELECTED}}}))",
        "Partitions without a leader, of all topics: an offline partition has no broker that could name its topic.",
        red=1,
        width=3,
        alerts=["OfflinePartitions"],
    ),
    stat_panel(
        "Under min ISR",
        f"sum(max {BY_PARTITION} (kafka_cluster_partition_underminisr{{{S}}}))",
        "Producers with acks=all get errors for these partitions.",
        red=1,
        width=3,
        alerts=["UnderMinIsrPartitionCount"],
    ),
    stat_panel(
        "At min ISR",
        f"sum(max {BY_PARTITION} (kafka_cluster_partition_atminisr{{{S}}}))",
        """Partitions that cannot lose one more replica. A topic whose replicas are as few as min.insync.replicas
        is always at it; it then stops in each restart.""",
        yellow=1,
        width=3,
    ),
    stat_panel(
        "Under-replicated",
        f"sum(max {BY_PARTITION} (kafka_cluster_partition_underreplicated{{{S}}}))",
        "Partitions that lack a replica in sync.",
        yellow=1,
        red=100,
        width=3,
        alerts=["UnderReplicatedPartitions"],
    ),
    stat_panel(
        "Not preferred leader",
        f"max(kafka_controller_kafkacontroller_preferredreplicaimbalancecount{{{SELECTED}}})",
        """Partitions that are not led by their first replica. Many after a restart; leaders return by themselves
        within minutes.""",
        yellow=1,
        width=3,
    ),
    stat_panel(
        "Refused",
        # Apache Kafka has no sample for a topic before its first failure.
        " + ".join(
            f'sum(rate(kafka_server_brokertopicmetrics_failed{what}requests_total{{{S}, topic!=""}}{RATE})'
            f' or 0 * rate(kafka_server_brokertopicmetrics_messagesin_total{{{S}, topic!=""}}{RATE}))'
            for what in ("produce", "fetch")
        ),
        """Reads and writes per second that were refused or failed. Apache Kafka leaves out too large records and
        partitions that a broker does not lead.""",
        unit="reqps",
        yellow=0.1,
        red=10,
        width=3,
    ),
)
WRONG = (
    table_panel(
        "Which partitions lack replicas?",
        Query(
            f"max {BY_PARTITION} (kafka_cluster_partition_insyncreplicascount{{{S}}} "
            f"and kafka_cluster_partition_underreplicated{{{S}}} == 1)",
            "In sync",
        ),
        Query(
            f"max {BY_PARTITION} (kafka_cluster_partition_replicascount{{{S}}} "
            f"and kafka_cluster_partition_underreplicated{{{S}}} == 1)",
            "Replicas",
        ),
        Query(
            f"max {BY_PARTITION} (kafka_cluster_partition_underminisr{{{S}}} "
            f"and kafka_cluster_partition_underreplicated{{{S}}} == 1)",
            "Under min ISR",
            texts={0: ("no", "green"), 1: ("YES", "red")},
        ),
        labels=PARTITION,
        what="""Partitions with fewer replicas in sync than replicas. If all of them have one broker in common,
        that broker is the cause: kubectl describe topic names it.""",
        nothing="All replicas are in sync",
        sort="Under min ISR",
        alerts=["UnderReplicatedPartitions", "UnderMinIsrPartitionCount"],
        width=14,
    ),
    lines(
        "Since when?",
        Query(
            f"topk(10, sum by (namespace, cluster, topic) (kafka_cluster_partition_underreplicated{{{S}}}) > 0)",
            "{{namespace}}/{{cluster}} {{topic}}",
        ),
        what="Under-replicated partitions by topic, the ten worst.",
        steps=True,
        alerts=["UnderReplicatedPartitions"],
        width=10,
    ),
)
TRAFFIC = (
    lines(
        "Who writes?",
        Query(
            f"topk(10, sum by (namespace, cluster, topic) (rate(kafka_server_brokertopicmetrics_bytesin_total"
            f'{{{S}, topic!=""}}{RATE})) > 0)',
            "{{namespace}}/{{cluster}} {{topic}}",
        ),
        what="Bytes per second by topic, the ten largest.",
        unit="Bps",
        stacked=True,
    ),
    lines(
        "Who reads?",
        Query(
            f"topk(10, sum by (namespace, cluster, topic) (rate(kafka_server_brokertopicmetrics_bytesout_total"
            f'{{{S}, topic!=""}}{RATE})) > 0)',
            "{{namespace}}/{{cluster}} {{topic}}",
        ),
        what="Bytes per second by topic, the ten largest. Several groups that read one topic add up.",
        unit="Bps",
        stacked=True,
    ),
    lines(
        "How many records are written?",
        Query(
            f"topk(10, sum by (namespace, cluster, topic) (rate(kafka_server_brokertopicmetrics_messagesin_total"
            f'{{{S}, topic!=""}}{RATE})) > 0)',
            "{{namespace}}/{{cluster}} {{topic}}",
        ),
        what="Records per second by topic, the ten largest.",
        unit="cps",
        alerts=["NoMessageForTooLong"],
        width=8,
    ),
    lines(
        "Whose requests are refused?",
        Query(
            f"topk(10, sum by (namespace, cluster, topic) "
            f"(rate(kafka_server_brokertopicmetrics_failedproducerequests_total"
            f'{{{S}, topic!=""}}{RATE})) > 0)',
            "write {{namespace}}/{{cluster}} {{topic}}",
        ),
        Query(
            f"topk(10, sum by (namespace, cluster, topic) "
            f"(rate(kafka_server_brokertopicmetrics_failedfetchrequests_total"
            f'{{{S}, topic!=""}}{RATE})) > 0)',
            "read {{namespace}}/{{cluster}} {{topic}}",
        ),
        what="""Refused writes and reads by topic. While a leader moves, a few are normal: clients ask again. For
        long, read the client's log: the reason is in its error. Apache Kafka leaves out too large records and
        partitions that a broker does not lead.""",
        unit="reqps",
        width=8,
    ),
    bars(
        "Are records spread over partitions?",
        Query(
            f"topk(10, max by (namespace, cluster, topic, partition) (rate(kafka_topic_partition_current_offset"
            f"{{{S}}}{RATE})) > 0)",
            "{{topic}}-{{partition}}",
        ),
        what="""Records per second of the ten busiest partitions. One far above the others of its topic is a key
        that is too frequent.""",
        unit="cps",
    ),
)
ROOM = (
    lines(
        "Which topics take the room?",
        Query(
            f"topk(10, sum by (namespace, cluster, topic) (kafka_log_log_size{{{S}}}))",
            "{{namespace}}/{{cluster}} {{topic}}",
        ),
        what="Bytes of all replicas by topic, the ten largest.",
        unit="bytes",
        stacked=True,
        alerts=["KafkaRunningOutOfSpace"],
        width=8,
    ),
    bars(
        "Which partitions are largest?",
        Query(
            f"topk(10, max by (namespace, cluster, topic, partition) (kafka_log_log_size{{{S}}}))",
            "{{topic}}-{{partition}}",
        ),
        what="Bytes of one replica, the ten largest partitions.",
        unit="bytes",
        alerts=["KafkaRunningOutOfSpace"],
    ),
    lines(
        "How many records are kept?",
        Query(
            f"topk(10, sum by (namespace, cluster, topic) "
            f"(max {BY_PARTITION} (kafka_topic_partition_current_offset{{{S}}}) "
            f"- max {BY_PARTITION} (kafka_topic_partition_oldest_offset{{{S}}})))",
            "{{namespace}}/{{cluster}} {{topic}}",
        ),
        what="""Offsets between the start and the end of each topic's logs. It falls when retention deletes
        segments; compaction does not change it.""",
        width=8,
    ),
)
BOARD = Board(
    "topics",
    "Topics and partitions",
    "Which partition is in trouble? Which topic makes the traffic? What takes the room?",
    [
        Section("Is it well?", WELL),
        Section("What is wrong, and since when?", WRONG),
        Section("Who writes, who reads, who is refused?", TRAFFIC),
        Section("What takes the room?", ROOM),
    ],
    [chosen("topic", f"label_values(kafka_topic_partitions{{{SELECTED}}}, topic)", "Topic")],
)

"""Controllers and quorum: is there one controller, do the voters agree, is the metadata stored and applied?"""

from __future__ import annotations

from tools.dashboards.board import SELECTED as S
from tools.dashboards.board import Board, Section
from tools.dashboards.engines import metadata_behind
from tools.dashboards.panels import Query, lines, stat_panel, states, table_panel

BY_CLUSTER = "by (namespace, cluster)"
CLUSTER = "{{namespace}}/{{cluster}}"
POD = "{{namespace}}/{{cluster}} {{pod}}"
ACTIVE = f"max by (namespace, cluster, pod) (kafka_controller_kafkacontroller_activecontrollercount{{{S}}})"
"""1 on the active controller; a pod that was replaced is there twice for a minute, and counts once."""
RATE = "[$__rate_interval]"
ROLES = ("leader", "voted", "candidate", "prospective", "follower", "observer", "unattached", "resigned")
STATES = {
    0: ("leader", "green"),
    1: ("voted", "yellow"),
    2: ("candidate", "orange"),
    3: ("prospective", "orange"),
    4: ("follower", "blue"),
    5: ("observer", "text"),
    6: ("unattached", "red"),
    7: ("resigned", "purple"),
}


def state_as_number() -> str:
    """One sample per replica of the metadata log whose value is the place of its state in `ROLES`."""
    metric = "kafka_server_raftmetrics_current_state"
    parts = (
        f'{number} * max by (namespace, cluster, pod) ({metric}{{{S}, current_state=~"{name}(-voted)?"}} == 1)'
        for number, name in enumerate(ROLES)
    )
    return " or ".join(parts)


WELL = (
    stat_panel(
        "Clusters without one controller",
        f"count(sum {BY_CLUSTER} ({ACTIVE}) != 1) or 0 * count({ACTIVE})",
        """Clusters in which no node, or more than one, says that it is the active controller. Without one,
        nothing about topics, leaders or groups can change; reads and writes go on. Two, for seconds, are an
        election.""",
        red=1,
        alerts=["AbnormalControllerState"],
    ),
    stat_panel(
        "Voters that are silent",
        f"sum(max {BY_CLUSTER} (kafka_server_raftmetrics_number_of_voters{{{S}}}) "
        f"- count {BY_CLUSTER} (max by (namespace, cluster, pod) (kafka_server_raftmetrics_number_of_voters{{{S}}})))",
        "Voters of the metadata quorum minus nodes that are scraped. The majority must remain.",
        yellow=1,
        red=2,
        alerts=["AbnormalControllerState", "BrokerDown"],
    ),
    stat_panel(
        "Elections in the last hour",
        f"max(max {BY_CLUSTER} (kafka_server_raftmetrics_current_epoch{{{S}}}) "
        f"- min {BY_CLUSTER} (min_over_time(kafka_server_raftmetrics_current_epoch{{{S}}}[1h])))",
        "Epochs of the quorum in the last hour, in the cluster with most. A restart of the active controller is one.",
        yellow=3,
        red=10,
        alerts=["AbnormalControllerState"],
    ),
    stat_panel(
        "Unclean elections in the last day",
        f"sum(increase(kafka_controller_controllerstats_uncleanleaderelections_total{{{S}}}[1d]))",
        """Leaders that were neither in sync nor eligible. Records that producers have an acknowledgement for may
        be lost. Each controller of Apache Kafka counts them.""",
        red=1,
        decimals=0,
        alerts=["UncleanLeaderElection"],
    ),
    stat_panel(
        "Nodes that cannot store metadata",
        f"sum({metadata_behind(S)})",
        """Nodes that cannot write down what the quorum decides, for example because their disk is full. Apache Kafka
        stops then; of it, nodes that could not apply what they read.""",
        red=1,
        alerts=["MetadataNotWritten"],
    ),
    stat_panel(
        "Furthest node behind",
        f"max(max {BY_CLUSTER} (kafka_server_raftmetrics_high_watermark{{{S}}}) "
        f"- on (namespace, cluster) group_right () kafka_server_raftmetrics_log_end_offset{{{S}}})",
        "Committed metadata records that the slowest node does not have yet. It acts on old news.",
        yellow=100,
        red=10000,
        alerts=["MetadataQuorumLagging"],
    ),
)
WRONG = (
    states(
        "Who leads, and since when?",
        Query(state_as_number(), POD, texts=STATES),
        what="""The state of each replica of the metadata log. One green bar per cluster is well. Orange and
        yellow that return are elections that nobody wins; red is a node without a leader.""",
        alerts=["AbnormalControllerState"],
        width=14,
    ),
    table_panel(
        "What does each node know?",
        Query(f"max by (namespace, cluster, pod) (kafka_server_raftmetrics_current_leader{{{S}}})", "Leader"),
        Query(f"max by (namespace, cluster, pod) (kafka_server_raftmetrics_current_epoch{{{S}}})", "Epoch"),
        Query(
            f"max by (namespace, cluster, pod) (kafka_server_raftmetrics_high_watermark{{{S}}})", "Committed to", "none"
        ),
        Query(f"max by (namespace, cluster, pod) (kafka_server_raftmetrics_log_end_offset{{{S}}})", "Log end", "none"),
        Query(
            metadata_behind(S),
            "Stored",
            texts={0: ("yes", "green"), 1: ("NO", "red")},
        ),
        labels={"namespace": "Namespace", "cluster": "Cluster", "pod": "Node"},
        what="""Leader and epoch are the same in all rows of a cluster, and offsets nearly so. A node with an
        older epoch is cut off; -1 is a node that knows no leader.""",
        alerts=["MetadataQuorumLagging", "MetadataNotWritten"],
        width=10,
    ),
    lines(
        "Is there one controller?",
        Query(
            f"sum {BY_CLUSTER} ({ACTIVE})",
            CLUSTER,
        ),
        what="Nodes that say they are the active controller, per cluster. It is 1 but for seconds.",
        steps=True,
        alerts=["AbnormalControllerState"],
        width=8,
    ),
    lines(
        "Are brokers kept out?",
        Query(f"max {BY_CLUSTER} (kafka_controller_kafkacontroller_activebrokercount{{{S}}})", f"active {CLUSTER}"),
        Query(f"max {BY_CLUSTER} (kafka_controller_kafkacontroller_fencedbrokercount{{{S}}})", f"fenced {CLUSTER}"),
        what="Brokers as the controller sees them. A fenced broker is stopped, silent, or not ready yet.",
        steps=True,
        alerts=["BrokerDown"],
        width=8,
    ),
    lines(
        "Are partitions without a leader?",
        Query(f"max {BY_CLUSTER} (kafka_controller_kafkacontroller_offlinepartitionscount{{{S}}})", CLUSTER),
        what="Partitions that have no leader since none of their replicas may become one.",
        steps=True,
        red=1,
        alerts=["OfflinePartitions", "UncleanLeaderElection"],
        width=8,
    ),
)
SLOW = (
    lines(
        "How long does a commit take?",
        Query(f"kafka_server_raftmetrics_commit_latency_avg{{{S}}} > 0", POD),
        what="From append to commit on the leader, on average. It is two fsyncs and a round trip between nodes.",
        unit="ms",
        width=8,
    ),
    lines(
        "Is the disk of the metadata slow?",
        Query(
            f"broadsheet_metadata_last_fsync_seconds{{{S}}}"
            f' or kafka_log_logflushstats_logflushrateandtimems{{{S}, quantile="0.99"}} / 1000',
            POD,
        ),
        what="""The last fsync of each node's metadata log; of Apache Kafka, the 99th percentile of all its logs. Above
        100 ms, elections and new topics become slow.""",
        unit="s",
        yellow=0.1,
        red=1,
        alerts=["MetadataQuorumLagging"],
        width=8,
    ),
    lines(
        "Which node is behind?",
        Query(
            f"clamp_min(max {BY_CLUSTER} (kafka_server_raftmetrics_high_watermark{{{S}}}) "
            f"- on (namespace, cluster) group_right () kafka_server_raftmetrics_log_end_offset{{{S}}}, 0)",
            POD,
        ),
        what="""Committed records that a node does not have yet. Some at one moment are normal; a line that rises is a
        node that does not follow.""",
        alerts=["MetadataQuorumLagging"],
        width=8,
    ),
    lines(
        "How much changes?",
        Query(f"kafka_server_raftmetrics_append_records_rate{{{S}}} > 0", f"append {POD}"),
        Query(f"kafka_server_raftmetrics_fetch_records_rate{{{S}}} > 0", f"fetch {POD}"),
        what="Metadata records per second that the leader appends and the others fetch. Little is normal.",
        unit="cps",
        width=8,
    ),
    lines(
        "Does the controller keep up with its log?",
        Query(
            f"max {BY_CLUSTER} (kafka_server_raftmetrics_high_watermark{{{S}}}) - 1 "
            f"- max {BY_CLUSTER} (kafka_controller_kafkacontroller_lastappliedrecordoffset{{{S}}})",
            CLUSTER,
        ),
        what="Committed records that the active controller has not applied.",
        width=8,
    ),
    lines(
        "Are leaders elected that lack records?",
        Query(
            f"sum {BY_CLUSTER} (increase(kafka_controller_controllerstats_uncleanleaderelections_total{{{S}}}{RATE}))",
            f"unclean {CLUSTER}",
        ),
        Query(
            f"sum {BY_CLUSTER} (increase(kafka_controller_controllerstats_electionfromeligibleleaderreplicas_total"
            f"{{{S}}}{RATE}))",
            f"eligible {CLUSTER}",
        ),
        what="""Elections outside the ISR. Eligible leader replicas (KIP-966) have every acknowledged record; an
        unclean leader may lack some.""",
        steps=True,
        alerts=["UncleanLeaderElection"],
        width=8,
    ),
)
BOARD = Board(
    "quorum",
    "Controllers and quorum",
    "Is there one controller? Do the voters agree? Is the metadata stored and applied?",
    [
        Section("Is it well?", WELL),
        Section("What is wrong, and since when?", WRONG),
        Section("Is it slow?", SLOW),
    ],
)

"""docs/reference/metrics.md, from the catalogue, the questions here, and what Strimzi's dashboards ask for."""

from __future__ import annotations

import json
import pathlib
import re
import string
import sys
from collections.abc import Callable, Sequence, Set
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from engine_metrics import DIFFERENT, OF_THE_AGENT, OF_THE_JVM, ONLY_APACHE_KAFKA, ONLY_BROADSHEET, Instead
from strimzi_metrics import ASKED

CATALOGUE = pathlib.Path(__file__).with_name("metrics.json")
NOTES = CATALOGUE.with_name("metrics_notes.md")

FIXED, APIS = 150, 12
"""Series of a broker that are there in any case; APIs that the example is asked."""
MEASURED = {"measured_series": "45,560", "measured_ms": 57, "measured_share": "0.4 %"}
"""What `e2e.bench.scrape` printed on two busy cores."""

QUESTIONS: tuple[tuple[str, str], ...] = (
    (r"broadsheet_build_info|kafka_server_app_version", "Which version runs where? Is an upgrade through?"),
    (
        r"broadsheet_connections_refused_total|broadsheet_connections_rejected_total|"
        r"kafka_server_socket_server_metrics_failed_authentication_total",
        "Are clients turned away, and why?",
    ),
    (
        r"kafka_server_socket_server_metrics_connection_.*",
        "How many clients are there, and do they reconnect all the time?",
    ),
    (r"broadsheet_request_seconds|kafka_network_requestmetrics_totaltimems", "How long do clients wait?"),
    (
        r"broadsheet_request_phase_seconds|"
        r"kafka_network_requestmetrics_(local|remote|requestqueue|responsequeue|responsesend)timems",
        "Whose fault is it: a busy broker, a slow follower, a slow client?",
    ),
    (
        r"broadsheet_request_queue_bytes|kafka_network_requestchannel_requestqueuesize",
        "Is the broker behind with its requests?",
    ),
    (r"broadsheet_unsent_answer_bytes", "Do clients leave their answers unread?"),
    (r"broadsheet_memory_.*", "Is the broker short of memory, and what does it do about it?"),
    (r"kafka_network_requestmetrics_requests_total", "What do clients ask, and how often?"),
    (
        r"kafka_network_socketserver_networkprocessoravgidle_percent|"
        r"kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent|process_cpu_seconds_total",
        "Is the process at the limit of its core?",
    ),
    (r"broadsheet_loop_.*", "Does one request keep all others waiting?"),
    (r"process_resident_memory_bytes|process_virtual_memory_bytes", "Does it need more memory, or lose some?"),
    (r"process_(open|max)_fds", "Will it run out of files and connections?"),
    (r"process_start_time_seconds", "Since when does it run? Was it restarted?"),
    (r"kafka_server_kafkaserver_linux_disk_.*", "Is the disk busy?"),
    (r"broadsheet_log_directory_.*|kafka_log_log_size|broadsheet_broker_bytes", "How full is the disk, and with what?"),
    (
        r"kafka_log_logmanager_offlinelogdirectorycount|kafka_server_replicamanager_offlinereplicacount",
        "Has a disk failed?",
    ),
    (r"kafka_log_log_log(start|end)offset", "What does this replica hold?"),
    (r"kafka_server_brokertopicmetrics_(messages|bytes|total).*", "How much is written and read, in which topic?"),
    (
        r"kafka_server_brokertopicmetrics_failed.*|kafka_network_requestmetrics_errors_total",
        "Do writes or reads fail?",
    ),
    (r"kafka_server_brokertopicmetrics_replication.*", "How much of the traffic is replication?"),
    (
        r"kafka_cluster_partition_(under|insync|replicas).*|kafka_server_replicamanager_under.*|"
        r"kafka_topic_partition_(in_sync_replica|replicas|under_replicated_partition)",
        "Is every record where it should be? Which partition is at risk?",
    ),
    (
        r"kafka_cluster_partition_atminisr|kafka_server_replicamanager_atminisrpartitioncount",
        "Which partitions take no more writes when one more broker stops?",
    ),
    (r"kafka_server_replicamanager_(isr|failedisr).*", "Do replicas fall behind again and again?"),
    (r"kafka_server_replicafetchermanager_maxlag", "How far behind is the slowest replica here?"),
    (
        r"kafka_server_replicamanager_(leader|partition)count|kafka_topic_partition_leader.*|"
        r"kafka_controller_kafkacontroller_preferredreplicaimbalancecount",
        "Is the work spread evenly over the brokers?",
    ),
    (
        r"kafka_topic_partition_(current|oldest)_offset|kafka_topic_partitions",
        "Is a topic written to? How much does it hold?",
    ),
    (r"kafka_controller_kafkacontroller_offlinepartitionscount", "Is there a partition that nobody can use?"),
    (r"kafka_controller_kafkacontroller_activecontrollercount", "Is there one controller, and only one?"),
    (r"kafka_controller_kafkacontroller_(active|fenced)brokercount|kafka_broker.*", "Which brokers take part?"),
    (r"kafka_controller_kafkacontroller_global.*", "How large is the cluster?"),
    (r"kafka_controller_controllerstats_.*", "Were records lost for the sake of availability?"),
    (
        r"kafka_controller_kafkacontroller_lastappliedrecordoffset|broadsheet_metadata_is_behind|"
        r"kafka_server_raftmetrics_(high_watermark|log_end_.*)|kafka_server_broker_metadata_metrics_.*|"
        r"kafka_controller_kafkacontroller_metadataerrorcount",
        "Does this node keep up with the metadata?",
    ),
    (
        r"kafka_server_raftmetrics_(current_.*|number_of_voters)|kafka_server_raftchannelmetrics_.*",
        "Who leads the metadata quorum? Does it change all the time?",
    ),
    (
        r"kafka_server_raftmetrics_(append_records_rate|fetch_records_rate|commit_latency_avg)|"
        r"broadsheet_metadata_last_fsync_seconds|kafka_log_logflushstats_.*",
        "How fast are changes of the metadata committed?",
    ),
    (
        r"kafka_coordinator_group_.*|broadsheet_group_members|"
        r"kafka_server_group_coordinator_metrics_(consumer_)?group_count",
        "How many groups are there, and do they rebalance all the time?",
    ),
    (
        r"kafka_server_group_coordinator_metrics_num_partitions|broadsheet_group_coordinator_waiting_writes",
        "Does the coordinator of the groups keep up?",
    ),
    (r"kafka_server_fetchsessioncache_.*", "Is there room for the fetch sessions of all consumers?"),
    (r"kafka_consumergroup_(lag|lag_sum)|kminion_.*_lag", "How many records has a group still to read?"),
    (r"kafka_consumergroup_group_.*lag_seconds", "How old is what a group reads?"),
    (r"kafka_consumergroup_current_offset.*|kminion_.*_offset_sum", "Does a group make progress?"),
    (
        r"kafka_consumergroup_members|kminion_.*_(members|info|assigned_partitions)",
        "Is anybody reading? Has every member something to do?",
    ),
    (r"broadsheet_consumergroup_verdict", "Which group needs a person?"),
    (r"broadsheet_lag_.*", "Are all groups exported, and how fresh is their lag?"),
    (r"broadsheet_cluster_reachable", "Can the operator see the cluster? If not, there is no lag either."),
    (r"broadsheet_cluster_(brokers|ready_brokers)", "Do all brokers run that are declared?"),
    (
        r"broadsheet_cluster_rolling|broadsheet_broker_restarts_total",
        "Is what I see a rolling change? Who restarted a broker?",
    ),
    (r"broadsheet_cluster_paused", "Has somebody forgotten to end a pause?"),
    (r"broadsheet_resource.*", "Which resource is not as declared, and why?"),
    (r"broadsheet_reconciliation.*", "Does the operator work, how long does it take, does it fail?"),
    (r"broadsheet_operator_(leading|other)", "Which operator acts? Are there two?"),
    (r"broadsheet_operator_.*resync.*", "Has the operator stopped looking?"),
    (r"broadsheet_canary_records_(lost|late|duplicated).*", "Are acknowledged records lost, late or read twice?"),
    (
        r"broadsheet_canary_records_(produced|consumed|failed)_total",
        "Can records be written and read by each broker?",
    ),
    (r"broadsheet_canary_(produce|end_to_end)_latency_seconds", "How long do a write, and a record's whole way, take?"),
    (r"broadsheet_canary_(broker_available|connect_errors_total)", "Which broker cannot be used?"),
    (
        r"broadsheet_canary_(healthy|last_round_timestamp_seconds)",
        "Is all well, as clients see it? Does the canary run?",
    ),
    (r"broadsheet_canary_topic_recreated_total", "Does somebody delete the canary's topic?"),
    (r"broadsheet_canary_max_latency_seconds", "Which latency is too high?"),
    (r"jvm_gc_.*", "Do pauses of the garbage collector stop the broker?"),
    (r"jvm_(?!gc_).*", "Is the JVM at the limit of its heap, or its threads?"),
    (r"jmx_.*", "Does the agent work, and how long does it take?"),
    (r"broadsheet_operator_status_writes_total", "Does the operator write all the time?"),
)
"""A pattern of names, and what these metrics answer. Each metric has exactly one: a test checks that."""


def question(name: str) -> str:
    """The question that a metric answers. ValueError unless exactly one row of QUESTIONS has it."""
    found = [words for pattern, words in QUESTIONS if re.fullmatch(pattern, name)]
    if len(found) != 1:
        raise ValueError(f"{name} has {len(found)} questions in tools/metrics_page.py, and should have one: {found}")
    return found[0]


def page() -> str:
    """The page."""
    catalogue = json.loads(CATALOGUE.read_text())
    lines = [
        "# Metrics",
        "",
        "Brokers, the operator and canaries answer `/metrics` in Prometheus's text format: brokers and canaries on "
        "port 9404 on Kubernetes, elsewhere on `broadsheet.http.listener` and `--http`; the operator on port 8080. "
        "Names are those of Kafka's JMX exporter "
        "rules and of kafka_exporter, so that dashboards work; what neither has begins with `broadsheet_`. Metrics of "
        "topics have a sample for each topic and one without labels for the whole broker.",
    ]
    lines += ["", "## Brokers and controllers", "", *_rows(catalogue["broker"], _engines)]
    lines += ["", *_engines_differ(catalogue["apache-kafka"])]
    for who, heading in (("operator", "The operator"), ("canary", "The canary")):
        lines += ["", f"## {heading}", "", *_rows(catalogue[who])]
    exported = {row["name"] for who in ("apache-kafka", "operator") for row in catalogue[who]}
    return "\n".join([*lines, "", _notes(), "", *_strimzi(exported), ""])


def _rows(rows: Sequence[dict[str, Any]], engines: Callable[[str], str] | None = None) -> list[str]:
    """A table of metrics; with `engines`, a column says which engines have each."""
    lines = [
        f"| metric | type | labels | meaning | the question that it answers |{' engines |' if engines else ''}",
        f"| --- | --- | --- | --- | --- |{' --- |' if engines else ''}",
    ]
    for row in rows:
        labels = ", ".join(f"`{label}`" for label in row["labels"])
        words = row["help"].replace("|", "\\|")
        line = f"| `{row['name']}` | {row['type']} | {labels} | {words} | {question(row['name'])} |"
        lines.append(f"{line} {engines(row['name'])} |" if engines else line)
    return lines


def _engines(name: str) -> str:
    """Which engines have a metric of Broadsheet's brokers."""
    return "[Broadsheet](#what-only-one-engine-has)" if name in ONLY_BROADSHEET else "both"


def _engines_differ(apache: Sequence[dict[str, Any]]) -> list[str]:
    """The tables of what only one engine has, and of what differs."""
    others = [row for row in apache if row["name"] in ONLY_APACHE_KAFKA]
    agents = [row for row in apache if row["name"].startswith((OF_THE_JVM, OF_THE_AGENT))]
    return [
        "## What only one engine has",
        "",
        "Brokers of a Cluster with the engine `apache-kafka` answer on the same port by Prometheus' JMX agent, whose "
        "rules give Kafka's MBeans the names and labels above. Dashboards and alerts serve both engines: where only "
        "one has a metric, they ask for what stands beside it here.",
        "",
        "| only Broadsheet | for Apache Kafka | |",
        "| --- | --- | --- |",
        *(f"| `{name}` | {_names(instead)} | {instead.words} |" for name, instead in ONLY_BROADSHEET.items()),
        "",
        "| only Apache Kafka | labels | meaning | for Broadsheet | |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| `{row['name']}` | {', '.join(f'`{label}`' for label in row['labels'])} | {row['help']} | "
            f"{_names(ONLY_APACHE_KAFKA[row['name']])} | {ONLY_APACHE_KAFKA[row['name']].words} |"
            for row in others
        ),
        "",
        f"Of the JVM and of the agent itself: {', '.join('`' + row['name'] + '`' for row in agents)}.",
        "",
        "Some metrics of the same name differ:",
        "",
        "| metric | of Apache Kafka |",
        "| --- | --- |",
        *(f"| `{name}` | {words} |" for name, words in sorted(DIFFERENT.items())),
    ]


def _names(instead: Instead) -> str:
    return ", ".join(f"`{name}`" for name in instead.names) or "none"


def _notes() -> str:
    """The prose behind the tables, with its figures."""
    from broadsheet_broker.replication.metrics import LEADER_FAMILIES, LOG_FAMILIES
    from broadsheet_broker.seams.counters import TOPIC_COUNTERS
    from broadsheet_broker.seams.metrics import BUCKETS_SECONDS, PHASE_BUCKETS_SECONDS
    from broadsheet_operator.settings import DEFAULTS

    led, followed = len(LEADER_FAMILIES) + len(LOG_FAMILIES), len(LOG_FAMILIES)
    topic = len(TOPIC_COUNTERS) + 1
    api = len(BUCKETS_SECONDS) + 3 + 4 * (len(PHASE_BUCKETS_SECONDS) + 3)

    def total(leads: int, follows: int) -> int:
        return leads * led + follows * followed + 10 * topic + APIS * api + FIXED

    return string.Template(NOTES.read_text().rstrip()).substitute(
        group_seconds=f"{DEFAULTS.group_seconds:g}",
        lag_seconds=f"{DEFAULTS.lag_seconds:g}",
        lag_partitions=f"{DEFAULTS.lag_partitions:,}",
        lag_fetches=DEFAULTS.lag_fetches,
        led=led,
        followed=followed,
        topic=topic,
        api=api,
        fixed=FIXED,
        apis=APIS,
        alone=f"{total(1000, 0):,}",
        three=f"{total(334, 666):,}",
        **MEASURED,
    )


def _strimzi(of_apache: Set[str]) -> list[str]:
    """`of_apache`: what is exported for a Cluster of Apache Kafka."""
    lines = [
        "## What Strimzi's dashboards ask for",
        "",
        "Strimzi's dashboards for Kafka, KRaft, the Kafka exporter and its operators find these metrics:",
        "",
        "| metric | dashboard | Broadsheet | Apache Kafka | |",
        "| --- | --- | --- | --- | --- |",
    ]
    for asked in ASKED:
        here = "the same" if asked.here == "same" else f"`{asked.here}`" if asked.here else "none"
        there = "the same" if re.sub("_(count|sum)$", "", asked.name) in of_apache else "as Broadsheet"
        words = asked.words.replace("|", "\\|")
        lines.append(f"| `{asked.name}` | {', '.join(asked.by)} | {here} | {there} | {words} |")
    return lines

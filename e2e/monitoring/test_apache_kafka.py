"""The dashboards and alerts of a Cluster of Apache Kafka: three brokers with the JMX agent, and what happens to them.

A real Prometheus scrapes them as the pods that they would be. Every expression of every panel is answered, but for what
only Broadsheet's brokers export, which the panel says; and every metric that an alert reads is there.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

from e2e.apache.agent import WatchedKafka
from e2e.monitoring.apache_catalogue import scraped
from e2e.monitoring.panels import ON_KUBERNETES
from e2e.monitoring.site import CLUSTER, HOME, Site, running_apache_kafka
from tests.support.waiting import wait_until
from tools.alerts.table import ALERTS
from tools.dashboards.expressions import metrics_of
from tools.engine_metrics import ONLY_BROADSHEET
from tools.metrics import catalogue

pytestmark = pytest.mark.slow

NEVER_HERE = {
    "topics: Whose requests are refused?": "Apache Kafka counts failed reads by topic for errors that no client causes",
}
"""Panels with an expression that nothing here can give an answer, and why."""
SUFFERS = {"CanaryLatencyHigh", "KafkaTopicNotReady", "ResourceStalled", "ReconciliationsFail", "KafkaNotReady"}
"""Alerts that may fire here: seconds count as minutes, on a machine that three JVMs keep busy."""


class WatchedKafka44(WatchedKafka):
    """The other minor version that `spec.engine.version` allows."""

    version = "4.4.0"


def test_the_next_minor_version_exports_the_same() -> None:
    assert scraped(WatchedKafka44) == {metric.name: metric for metric in catalogue()["apache-kafka"]}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_apache_kafka(tmp_path_factory.mktemp("apache-site")) as site:
        yield site
        print("\nwhat each panel was answered by:\n" + "\n".join(site.panels.table()))


def test_a_cluster_that_is_well(site: Site) -> None:
    site.brokers.wait_whole("orders", "ledger", "single")
    site.panels.wait("brokers", "Brokers that answer", lambda s: s.value == 3, 60)
    site.panels.wait("quorum", "Is there one controller?", lambda s: s.value == 1)
    site.panels.wait("overview", "Which cluster is it?", lambda s: s.labels.get("cluster") == CLUSTER)
    site.panels.wait("topics", "Topics", lambda s: s.value >= 4, 60)
    site.panels.wait("brokers", "Produce, p99", lambda s: 0 < s.value < 60, 60)
    site.panels.wait("groups", "Do groups rebalance all the time?", lambda s: s.value > 0, 90)
    site.prometheus.wait_quiet(*SUFFERS)
    site.panels.look("all is well")


def test_disks_are_those_of_the_brokers(site: Site) -> None:
    """No MBean has them: the operator asks, and names the pods."""
    site.panels.wait("brokers", "How full is each disk?", lambda s: 0 < s.value < 1, 60)
    pods = {s.labels["pod"] for s in site.prometheus.ask("broadsheet_log_directory_capacity_bytes")}
    assert pods == {f"{CLUSTER}-brokers-{number}" for number in range(3)}


def test_labels_are_those_of_our_brokers(site: Site) -> None:
    (sample, *more) = site.prometheus.ask('kafka_log_log_size{topic="orders", partition="0"}')
    assert len(more) == 2, "one sample for each replica"
    where = {key: sample.labels[key] for key in ("namespace", "cluster", "job", "topic", "partition")}
    assert where == {
        "namespace": HOME, "cluster": CLUSTER, "job": "broadsheet-broker", "topic": "orders", "partition": "0"
    }  # fmt: skip


def test_refused_writes_and_reads(site: Site) -> None:
    admin = site.brokers.admin()
    admin.create_topics([NewTopic("keyed", 1, 1, config={"cleanup.policy": "compact"})])["keyed"].result(30)
    producer = Producer({"bootstrap.servers": site.brokers.bootstrap, "log_level": 0})
    reader = Consumer({"bootstrap.servers": site.brokers.bootstrap, "group.id": "lost", "log_level": 0})
    reader.assign([TopicPartition("orders", 0, 10**12)])

    def refused() -> bool:
        producer.produce("keyed", b"without a key")
        producer.flush(5)
        reader.poll(0.1)
        reader.assign([TopicPartition("orders", 0, 10**12)])
        shown = [bool(site.panels.ask(query)) for query in site.panels.of("overview", "A client?")]
        values = [sample.value for sample in site.panels.values("brokers", "Refused writes")]
        return all(shown) and any(value > 0 for value in values)

    wait_until(refused, "refused writes and reads to show", 60, 0.5)
    site.panels.wait("topics", "Whose requests are refused?", lambda s: s.labels["topic"] == "keyed")
    site.panels.look("refused writes and reads")
    reader.close()


def test_a_broker_is_killed(site: Site) -> None:
    site.brokers[2].kill()
    site.panels.wait("overview", "Under-replicated", seconds=60)
    site.panels.wait("overview", "Under min ISR", seconds=60)
    site.panels.wait("brokers", "Not scraped", lambda s: s.value == 1)
    site.panels.wait("topics", "Which partitions lack replicas?", lambda s: s.labels["topic"] == "ledger")
    site.prometheus.wait_firing("UnderReplicatedPartitions", "UnderMinIsrPartitionCount", "BrokerDown", seconds=90)
    site.panels.wait("overview", "Which alerts fire?")
    site.panels.look("a broker is killed")
    site.brokers.start()
    site.brokers.wait_whole("orders", "ledger", "single")
    site.panels.wait("overview", "Under-replicated", lambda s: s.value == 0, 90)
    site.panels.look("the broker is back")


def test_a_resource_that_waits_for_a_person(site: Site) -> None:
    site.api.resource("Topic", "conflict", {"cluster": CLUSTER, "topicName": "orders", "partitions": 9})
    site.prometheus.wait_firing("ResourceStalled", seconds=90)
    site.panels.look("a Topic is not as declared")
    site.api.delete("Topic", "conflict")


def test_every_panel_was_answered(site: Site) -> None:
    def all_of_them() -> bool:
        site.panels.look("afterwards")
        return _unanswered(site) == set()

    try:
        wait_until(all_of_them, "the last panels to be answered", 30, 1)
    except TimeoutError:
        pytest.fail(f"no answer: {_unanswered(site)}")


def _unanswered(site: Site) -> set[str]:
    return set(site.panels.unanswered("apache-kafka")) - ON_KUBERNETES - set(NEVER_HERE)


def test_every_metric_that_an_alert_reads_is_there(site: Site) -> None:
    """Or the alert also reads what Apache Kafka has in its place."""
    absent: dict[str, set[str]] = {}
    for alert in ALERTS:
        for name in metrics_of(alert.expr):
            if site.prometheus.ask(f'count({{__name__=~"{name}(_bucket)?"}})'):
                continue
            instead = set(ONLY_BROADSHEET[name].names) if name in ONLY_BROADSHEET else set()
            if not instead & metrics_of(alert.expr):
                absent.setdefault(alert.name, set()).add(name)
    assert absent == {}

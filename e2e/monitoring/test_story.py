"""One story: what happens to a cluster shows on its dashboards, and the right alerts fire, while it happens.

A real Prometheus scrapes real brokers and a real operator with the scrape configuration of the documentation. The `for`
of the alerts is shortened by one factor; the expressions are those of the chart. The tests stand in the order of the
story and share its world. At the end a table says what each panel was first answered by.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.apiserver.operators import Kubelet
from e2e.monitoring.drawing import draw
from e2e.monitoring.panels import ON_KUBERNETES
from e2e.monitoring.site import CLUSTER, HOME, Site, running
from tests.support.waiting import wait_until

PICTURES = os.environ.get("BROADSHEET_PICTURES")
"""A folder: dashboards are drawn while they show something, and there is more time before it happens."""
QUIET_SECONDS = 90.0 if PICTURES else 20.0
LASTS_SECONDS = 15.0 if PICTURES else 0.0
GOES_ON = {"TooLargeConsumerGroupLag", "ConsumerGroupStalled", "UncleanLeaderElection", "CanaryLatencyHigh"}
"""Alerts that fire for minutes once they have begun: what they are about goes on, or counts for minutes."""
SUFFERS = {"KafkaTopicNotReady", "ResourceStalled", "ReconciliationsFail"}
"""Alerts of resources that may fire with any trouble of their cluster, since seconds count as minutes here."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(tmp_path_factory.mktemp("site")) as site:
        yield site
        print("\nwhat each panel was answered by:\n" + "\n".join(site.panels.table()))


def show(site: Site, stage: str, *dashboards: str) -> None:
    """Ask all panels; draw some of them, if pictures are wanted."""
    time.sleep(LASTS_SECONDS)
    site.panels.look(stage)
    for name in dashboards if PICTURES else ():
        draw(name, site.prometheus, Path(str(PICTURES)) / f"{name}.png")


def test_nothing_fires_while_all_is_well(site: Site) -> None:
    site.brokers.wait_whole("orders", "ledger", "single")
    for topic in ("orders", "ledger"):
        site.api.ready("Topic", topic, 60)
    site.prometheus.wait_quiet("CanaryLatencyHigh")
    time.sleep(QUIET_SECONDS)
    # A busy machine is slow for some seconds, which count as minutes here.
    assert site.prometheus.ever_fired(QUIET_SECONDS) <= {"CanaryLatencyHigh"}
    site.panels.wait("brokers", "Brokers that answer", lambda s: s.value == 3)
    site.panels.wait("quorum", "Is there one controller?", lambda s: s.value == 1)
    site.panels.wait("overview", "Which cluster is it?", lambda s: s.labels.get("cluster") == CLUSTER)
    site.panels.wait("operator", "Operators that lead", lambda s: s.value == 1)
    site.panels.wait("canary", "Which broker does not serve, and since when?", lambda s: s.value == 1, 60)
    assert [s.value for s in site.panels.values("brokers", "Not scraped")] == [0]
    assert [s.value for s in site.panels.values("canary", "Records lost")] == [0]
    show(site, "all is well")


def test_a_slow_consumer(site: Site) -> None:
    site.slow_consumer()
    site.stuck_consumer()
    site.panels.wait("groups", "Oldest unread record", lambda s: s.value > 3000)
    site.panels.wait("groups", "Which topic is behind?", lambda s: s.labels["topic"] == "archive" and s.value > 1000)
    site.panels.wait("groups", "Stalled groups", lambda s: s.value == 1)
    site.prometheus.wait_firing("TooLargeConsumerGroupLag", "ConsumerGroupStalled")
    behind = site.prometheus.ask('ALERTS{alertname="TooLargeConsumerGroupLag", alertstate="firing"}')
    assert {(s.labels["namespace"], s.labels["cluster"], s.labels["consumergroup"]) for s in behind} == {
        (HOME, CLUSTER, "slow")
    }
    show(site, "a slow and a stuck consumer", "groups")


def test_a_disk_that_fills(site: Site) -> None:
    site.disk.fill(site.disk.size // 20)
    site.panels.wait("brokers", "Fullest disk", lambda s: s.value > 0.9)
    site.prometheus.wait_firing("KafkaRunningOutOfSpace")
    site.panels.look("a disk is nearly full")
    site.disk.free()
    site.disk.fill()
    site.panels.wait("brokers", "Fenced")
    site.prometheus.wait_firing("KafkaOutOfSpace", "BrokerDown", "UnderReplicatedPartitions")
    show(site, "a disk is full", "brokers")
    site.disk.free()
    site.brokers.wait_whole("orders")


def test_a_broker_is_killed(site: Site) -> None:
    site.brokers[2].kill()
    site.panels.wait("overview", "Under-replicated")
    site.panels.wait("overview", "Under min ISR")
    site.panels.wait("overview", "Partitions offline")
    site.panels.wait("brokers", "Not scraped", lambda s: s.value == 1)
    site.panels.wait("brokers", "Which broker was down, and when?", lambda s: s.value == 0)
    site.panels.wait("topics", "Which partitions lack replicas?", lambda s: s.labels["topic"] == "ledger")
    site.panels.wait("canary", "Brokers that do not serve")
    site.prometheus.wait_firing(
        "UnderReplicatedPartitions", "UnderMinIsrPartitionCount", "OfflinePartitions", "BrokerDown",
        "CanaryBrokerUnavailable",
    )  # fmt: skip
    site.panels.wait("overview", "Which alerts fire?")
    site.panels.wait("overview", "A client?")
    show(site, "a broker is killed", "overview", "topics", "canary")
    site.brokers.start()
    site.brokers.wait_whole("orders", "ledger", "single")
    # The only replica of some partitions stopped uncleanly and leads again: it may lack its last records.
    site.prometheus.wait_firing("UncleanLeaderElection")
    site.panels.wait("quorum", "Unclean elections in the last day")
    site.prometheus.wait_quiet(*GOES_ON, *SUFFERS)


def test_no_controller(site: Site) -> None:
    """Two of three voters are gone: nothing elects a controller, and the third says that it knows none."""
    for number in (1, 3):
        site.brokers[number].kill()
    site.panels.wait("quorum", "Clusters without one controller", lambda s: s.value == 1)
    site.panels.wait("quorum", "Voters that are silent", lambda s: s.value == 2)
    site.prometheus.wait_firing("AbnormalControllerState")
    show(site, "two of three controllers are killed")


def test_a_cluster_that_cannot_be_reached_has_no_lag(site: Site) -> None:
    """Absent, and said to be so: never a lag of zero."""
    site.brokers[2].kill()
    site.panels.wait("overview", "Clusters not reachable", lambda s: s.value == 1)
    site.prometheus.wait_firing("ClusterUnreachable", "KafkaNotReady")
    wait_until(lambda: not site.prometheus.ask("kafka_consumergroup_lag_sum"), "the lag to be absent", 30, 0.3)
    assert site.panels.values("groups", "Unread records") == []
    assert site.panels.values("overview", "Under-replicated") == []
    assert [s.value for s in site.panels.values("groups", "Clusters not reachable")] == [1]
    show(site, "no broker can be reached")
    site.keep_volumes()
    site.brokers.start()
    site.brokers.wait_whole("orders", "ledger", "single")
    site.panels.wait("groups", "Unread records", lambda s: s.value > 0)
    site.prometheus.wait_quiet(*GOES_ON, *SUFFERS)
    show(site, "brokers return", "quorum")


def test_volumes_that_are_put_back_from_a_snapshot(site: Site) -> None:
    """All brokers agree that the last records never were. Only who wrote them knows better: the canary."""
    lost = "broadsheet_canary_records_lost_total - broadsheet_canary_records_late_total"
    assert {s.value for s in site.prometheus.ask(lost)} == {0}
    for broker in site.brokers.brokers.values():
        broker.kill()
    site.put_back_volumes()
    site.brokers.start()
    site.brokers.wait_whole("orders", "ledger")
    site.panels.wait("canary", "Records lost", lambda s: s.value > 0, 60)
    site.prometheus.wait_firing("CanaryRecordsLost")
    show(site, "volumes are put back from a snapshot")


def test_resources_that_are_not_ready(site: Site) -> None:
    """A Topic that contradicts what exists, and a Cluster whose pods do not become ready."""
    site.api.resource("Topic", "conflict", {"cluster": CLUSTER, "topicName": "orders", "partitions": 9})
    site.api.resource("Cluster", "metro", {"brokers": {"replicas": 1, "storage": {"size": "1Gi"}}})
    kubelet = Kubelet(site.api)
    kubelet.run("metro")
    kubelet.becomes("metro-brokers-0", ready=False)
    site.panels.wait("operator", "Which resources are not Ready, and why?", lambda s: s.labels["name"] == "conflict")
    site.panels.wait("overview", "Brokers not ready", lambda s: s.value == 1)
    site.prometheus.wait_firing("ResourceStalled", "KafkaTopicNotReady", "KafkaBrokerContainersDown")
    show(site, "a Topic and a Cluster are not Ready", "operator")
    site.api.delete("Topic", "conflict")


def test_an_operator_that_hangs(site: Site) -> None:
    site.signal_operator(signal.SIGSTOP)
    site.prometheus.wait_firing("OperatorNotReconciling", "ScrapeProblem")
    assert site.panels.values("operator", "Operators that lead") == []
    assert site.panels.values("overview", "Clusters not reachable") == [], "not known is not zero"
    assert site.panels.values("groups", "Unread records") == []
    show(site, "the operator hangs")
    site.signal_operator(signal.SIGCONT)
    site.panels.wait("operator", "Operators that lead", lambda s: s.value == 1, seconds=60)


def test_every_panel_was_answered(site: Site) -> None:
    site.panels.look("afterwards")
    assert set(site.panels.unanswered()) - ON_KUBERNETES == set(), "\n".join(site.panels.table())

"""Eligible leader replicas (KIP-966) as Kafka's own tools show and change them; `--broker apache` asks Kafka itself."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator

import pytest

from e2e.apache.apache import run_tool
from e2e.apache.test_tools_of_a_cluster import TOOLS, Tool, run
from e2e.brokers import Brokers
from e2e.conftest import BROKERS
from tests.support.waiting import wait_until

FEATURE = "eligible.leader.replicas.version"
CONFIGS = "kafka.admin.ConfigCommand"


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    kind = BROKERS[request.config.getoption("--broker")]
    with Brokers(kind, tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def tool(cluster: Brokers) -> Tool:
    cluster.start()
    return lambda name, *arguments: run(cluster.bootstrap, name, *arguments)


def create(cluster: Brokers, replicas: int) -> str:
    name = f"orders-{uuid.uuid4().hex[:8]}"
    cluster.create(name, 1, replicas=replicas)
    cluster.wait_whole(name)
    return name


def described(tool: Tool, topic: str) -> tuple[str, str, str]:
    """ISR, eligible and last known leader of partition 0, as `kafka-topics.sh --describe` prints them."""
    shown = tool("TopicCommand", "--describe", "--topic", topic)
    found = re.search(r"\tIsr: (.*)\tElr: (.*)\tLastKnownElr: (\S*)", shown)
    assert found is not None, shown
    return found[1], found[2], found[3]


def level(tool: Tool) -> str:
    shown = tool("FeatureCommand", "describe")
    found = re.search(rf"Feature: {re.escape(FEATURE)}\s.*FinalizedVersionLevel: (\d)", shown)
    assert found is not None, shown
    return found[1]


def stop(cluster: Brokers, node_id: int) -> None:
    cluster[node_id].stop()
    wait_until(lambda: node_id not in cluster.members(cluster.others(node_id)), f"broker {node_id} to be fenced")


def test_a_replica_that_left_a_small_isr_is_described_as_eligible(cluster: Brokers, tool: Tool) -> None:
    topic = create(cluster, 2)
    state = cluster.partitions(topic)[0]
    (follower,) = set(state.replicas) - {state.leader}
    assert described(tool, topic)[1:] == ("", "")
    stop(cluster, follower)
    assert described(tool, topic) == (str(state.leader), str(follower), "")
    cluster.start()
    cluster.wait_whole(topic)
    assert described(tool, topic)[1:] == ("", "")


def test_a_partition_without_any_replica_shows_who_led_last_and_is_led_again(cluster: Brokers, tool: Tool) -> None:
    topic = create(cluster, 1)
    leader = cluster.leader(topic, 0)
    stop(cluster, leader)
    assert described(tool, topic) == ("", str(leader), str(leader))
    cluster.start()
    cluster.wait_whole(topic)
    assert described(tool, topic) == (str(leader), "", "")


def test_the_tools_turn_it_off_and_on_and_min_isr_is_the_clusters(cluster: Brokers, tool: Tool) -> None:
    assert level(tool) == "1", "new clusters have it"
    defaults = ("--entity-type", "brokers", "--entity-default")
    assert "min.insync.replicas=2" in tool(CONFIGS, *defaults, "--describe")
    tool("FeatureCommand", "downgrade", "--feature", f"{FEATURE}=0")
    assert level(tool) == "0"
    one = ("--entity-type", "brokers", "--entity-name", "1")
    tool(CONFIGS, *one, "--alter", "--add-config", "min.insync.replicas=1")
    tool("FeatureCommand", "upgrade", "--feature", f"{FEATURE}=1")
    assert level(tool) == "1"
    assert "min.insync.replicas=1" not in tool(CONFIGS, *one, "--describe"), "no broker has a value of its own"
    alter = ("--bootstrap-server", cluster.bootstrap, *one, "--alter", "--add-config", "min.insync.replicas=1")
    refused = run_tool(CONFIGS, *alter)
    assert "cannot be altered while ELR is enabled" in refused.stdout + refused.stderr


def test_the_metadata_log_says_it_in_kafkas_records(cluster: Brokers, tool: Tool) -> None:
    topic = create(cluster, 2)
    state = cluster.partitions(topic)[0]
    (follower,) = set(state.replicas) - {state.leader}
    stop(cluster, follower)
    topics = ("--entity-type", "topics", "--entity-name", topic)
    tool(CONFIGS, *topics, "--alter", "--add-config", "min.insync.replicas=1")
    assert described(tool, topic) == (str(state.leader), "", ""), "the rule by which it was eligible is another now"
    segment = cluster[state.leader].log_dir / "__cluster_metadata-0" / "00000000000000000000.log"
    done = run_tool(TOOLS + "DumpLogSegments", "--files", str(segment), "--cluster-metadata-decoder")
    assert done.returncode == 0 and "Could not decode" not in done.stdout, done.stdout + done.stderr
    assert f'"name":"{FEATURE}","featureLevel":1' in done.stdout
    assert f'"eligibleLeaderReplicas":[{follower}]' in done.stdout
    assert f'{{"type":"CLEAR_ELR_RECORD","version":0,"data":{{"topicName":"{topic}"}}}}' in done.stdout

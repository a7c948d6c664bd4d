"""Kafka's own tools against three brokers: replicas, leaders, reassignments, the metadata quorum and its voters."""

from __future__ import annotations

import json
import re
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer

from e2e.apache.apache import run_tool
from e2e.brokers import Brokers
from e2e.conftest import BROKERS
from tests.support.broadsheet import Broadsheet
from tests.support.broker_process import CLUSTER_ID, BrokerProcess
from tests.support.waiting import wait_until

TOOLS = "org.apache.kafka.tools."
Tool = Callable[..., str]


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    def prepare(broker: BrokerProcess) -> None:
        broker.overrides["broker.rack"] = f"rack-{broker.node_id}"

    kind = BROKERS[request.config.getoption("--broker")]
    with Brokers(kind, tmp_path_factory.mktemp("cluster"), prepare=prepare) as cluster:
        yield cluster


def run(bootstrap: str, name: str, *arguments: str) -> str:
    """Run a tool of org.apache.kafka.tools (or a full class name) to its good end; what it printed."""
    main_class = name if name.startswith("kafka.") else TOOLS + name
    done = run_tool(main_class, "--bootstrap-server", bootstrap, *arguments)
    assert done.returncode == 0, f"{name} {arguments} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    assert "Exception" not in done.stderr, done.stderr
    return done.stdout


@pytest.fixture
def tool(cluster: Brokers) -> Tool:
    cluster.start()
    return lambda name, *arguments: run(cluster.bootstrap, name, *arguments)


@pytest.fixture
def topic(cluster: Brokers) -> str:
    name = f"orders-{uuid.uuid4().hex[:8]}"
    cluster.start()
    cluster.create(name, 3)
    cluster.wait_whole(name)
    return name


def fill(cluster: Brokers, topic: str, records: int = 300, size: int = 1000) -> None:
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "acks": "all", "log_level": 0})
    for number in range(records):
        producer.produce(topic, b"x" * size, partition=number % 3)
        producer.poll(0)
    assert producer.flush(30) == 0


def partitions(described: str) -> list[int]:
    """Which partitions a description has a line of."""
    return sorted(int(index) for index in re.findall(r"\tPartition: (\d+)", described))


def test_replicas_are_described_when_a_broker_is_away(cluster: Brokers, tool: Tool, topic: str) -> None:
    cluster[3].kill()
    left = [1, 2]
    wait_until(lambda: 3 not in cluster.members(left), "broker 3 to be fenced")
    describe = ("TopicCommand", "--describe", "--topic", topic)
    assert partitions(tool(*describe, "--under-replicated-partitions")) == [0, 1, 2]
    assert partitions(tool(*describe, "--at-min-isr-partitions")) == [0, 1, 2]
    assert partitions(tool(*describe, "--under-min-isr-partitions")) == []
    assert partitions(tool(*describe, "--unavailable-partitions")) == []
    cluster.start()
    cluster.wait_whole(topic)
    assert partitions(tool(*describe, "--under-replicated-partitions")) == []


def test_partitions_without_their_only_broker_are_unavailable(cluster: Brokers, tool: Tool) -> None:
    name = f"single-{uuid.uuid4().hex[:8]}"
    cluster.create(name, 3, replicas=1)
    lost = [index for index, state in cluster.partitions(name).items() if state.leader == 2]
    assert lost, "one replica of each three consecutive ones lies on each broker"
    cluster[2].kill()
    wait_until(lambda: 2 not in cluster.members([1, 3]), "broker 2 to be fenced")
    assert partitions(tool("TopicCommand", "--describe", "--topic", name, "--unavailable-partitions")) == lost
    cluster.start()
    cluster.wait_whole(name)
    tool("TopicCommand", "--delete", "--topic", name)


def test_replicas_lie_in_every_rack_and_a_consumer_reads_in_its_own(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Four brokers in two racks: two replicas of a partition never share one."""
    selector = {"replica.selector.class": "org.apache.kafka.common.replica.RackAwareReplicaSelector"}

    def prepare(broker: BrokerProcess) -> None:
        broker.overrides["broker.rack"] = "east" if broker.node_id in (1, 2) else "west"

    kind = BROKERS[request.config.getoption("--broker")]
    with Brokers(kind, tmp_path, size=4, overrides=selector, prepare=prepare) as cluster:
        cluster.create("spread", 12, replicas=2)
        for state in cluster.partitions("spread").values():
            assert len({replica in (1, 2) for replica in state.replicas}) == 2, state
        cluster.create("read", 1, replicas=2)
        cluster.wait_whole("read")
        leader = cluster.leader("read", 0)
        producer = Producer({"bootstrap.servers": cluster.bootstrap, "acks": "all", "log_level": 0})
        statistics: dict[str, int] = {}

        def note(text: str) -> None:
            for broker in json.loads(text)["brokers"].values():
                statistics[str(broker["nodeid"])] = broker["req"].get("Fetch", 0)

        consumer = Consumer(
            {
                "bootstrap.servers": cluster.bootstrap,
                "group.id": "near",
                "auto.offset.reset": "earliest",
                "client.rack": "west" if leader in (1, 2) else "east",
                "statistics.interval.ms": 200,
                "stats_cb": note,
                "log_level": 0,
            }
        )
        consumer.subscribe(["read"])
        (near,) = (replica for replica in cluster.partitions("read")[0].replicas if replica != leader)
        seen: list[bytes | None] = []

        def has_fetched_near(times: int) -> bool:
            producer.produce("read", b"x" * 100)
            producer.flush(10)
            seen.extend(record.value() for record in consumer.consume(100, 0.2) if record.error() is None)
            return len(seen) >= 20 and statistics.get(str(near), 0) >= times

        wait_until(lambda: has_fetched_near(20), "the consumer to read from the replica in its rack", 60)
        from_leader, before = statistics[str(leader)], len(seen)
        wait_until(lambda: has_fetched_near(40), "more to come from there", 60)
        assert len(seen) > before
        assert statistics[str(leader)] <= from_leader + 1, "it asks the leader no more"
        consumer.close()


def test_reassignment_is_generated_carried_out_with_a_throttle_and_verified(
    cluster: Brokers, tool: Tool, tmp_path: Path
) -> None:
    name = f"moved-{uuid.uuid4().hex[:8]}"
    cluster.create(name, 3, replicas=2)
    fill(cluster, name)
    (tmp_path / "topics.json").write_text(json.dumps({"version": 1, "topics": [{"topic": name}]}))
    generated = tool(
        "reassign.ReassignPartitionsCommand",
        *("--topics-to-move-json-file", str(tmp_path / "topics.json"), "--broker-list", "1,2,3", "--generate"),
    )
    proposed = json.loads(generated.splitlines()[-1])
    assert len(proposed["partitions"]) == 3
    before = cluster.partitions(name)
    plan = tmp_path / "plan.json"
    rows = [
        # The one that has no replica takes the place of the first.
        {"topic": name, "partition": index, "replicas": [6 - sum(state.replicas), state.replicas[1]]}
        for index, state in before.items()
    ]
    plan.write_text(json.dumps({"version": 1, "partitions": rows}))
    command = ("reassign.ReassignPartitionsCommand", "--reassignment-json-file", str(plan))
    assert "limit was set to 50000000 B/s" in tool(*command, "--execute", "--throttle", "50000000")
    wait_until(
        lambda: all(list(cluster.partitions(name)[row["partition"]].replicas) == row["replicas"] for row in rows),
        "the replicas to be where they shall be",
    )
    verified = tool(*command, "--verify")
    assert verified.count("is completed") == 3
    assert "Clearing broker-level throttles" in verified
    configs = tool("kafka.admin.ConfigCommand", "--entity-type", "topics", "--entity-name", name, "--describe")
    assert "throttled" not in configs
    cluster.wait_whole(name)


def test_a_throttled_reassignment_is_listed_and_cancelled(cluster: Brokers, tool: Tool, tmp_path: Path) -> None:
    name = f"stays-{uuid.uuid4().hex[:8]}"
    cluster.create(name, 3, replicas=2)
    fill(cluster, name, records=3000)
    before = cluster.partitions(name)
    plan = tmp_path / "plan.json"
    rows = [
        {"topic": name, "partition": index, "replicas": [6 - sum(state.replicas), state.replicas[1]]}
        for index, state in before.items()
    ]
    plan.write_text(json.dumps({"version": 1, "partitions": rows}))
    command = ("reassign.ReassignPartitionsCommand", "--reassignment-json-file", str(plan))
    tool(*command, "--execute", "--throttle", "1000")
    assert name in tool("reassign.ReassignPartitionsCommand", "--list")
    assert "still in progress" in tool(*command, "--verify")
    assert "Successfully cancelled" in tool(*command, "--cancel")
    assert "No partition reassignments found." in tool("reassign.ReassignPartitionsCommand", "--list")
    wait_until(
        lambda: (
            {index: set(state.replicas) for index, state in cluster.partitions(name).items()}
            == {index: set(state.replicas) for index, state in before.items()}
        ),
        "the replicas to be where they were",
    )
    cluster.wait_whole(name)


def test_preferred_and_unclean_leader_elections(cluster: Brokers, tool: Tool, topic: str) -> None:
    preferred = cluster.partitions(topic)[0].replicas[0]
    cluster[preferred].stop()
    wait_until(lambda: cluster.leader(topic, 0) != preferred, "another leader")
    cluster.start()
    cluster.wait_whole(topic)
    arguments = ("--topic", topic, "--partition", "0")
    assert "Successfully completed" in tool("LeaderElectionCommand", "--election-type", "preferred", *arguments)
    assert cluster.leader(topic, 0) == preferred
    name = f"unclean-{uuid.uuid4().hex[:8]}"
    cluster.create(name, 1, replicas=2, min_insync_replicas="1")
    first, second = cluster.partitions(name)[0].replicas
    cluster[second].kill()
    others = cluster.others(second)
    wait_until(lambda: cluster.partitions(name, others)[0].isr == (first,), "the other replica to leave the ISR")
    cluster[first].kill()
    (third,) = cluster.others(first, second)
    cluster[second].spawn()
    cluster[second].wait_started()
    wait_until(lambda: cluster.partitions(name, [second])[0].leader < 0, "the partition to have no leader in sync", 60)
    election = ("--election-type", "unclean", "--topic", name, "--partition", "0")
    assert "Successfully completed" in run(cluster[second].bootstrap, "LeaderElectionCommand", *election)
    wait_until(lambda: cluster.partitions(name, [third])[0].leader == second, "an unclean leader")
    cluster.start()
    cluster.wait_whole(name)


def test_configs_api_versions_log_dirs_and_features_of_every_broker(cluster: Brokers, tool: Tool, topic: str) -> None:
    defaults = ("--entity-type", "brokers", "--entity-default")
    tool("kafka.admin.ConfigCommand", *defaults, "--alter", "--add-config", "log.retention.ms=7200000")
    for node_id in cluster.brokers:
        entity = ("--entity-type", "brokers", "--entity-name", str(node_id))
        shown = tool("kafka.admin.ConfigCommand", *entity, "--describe", "--all")
        assert "log.retention.ms=7200000" in shown
    tool("kafka.admin.ConfigCommand", *defaults, "--alter", "--delete-config", "log.retention.ms")
    shown = tool("BrokerApiVersionsCommand")
    for broker in cluster.brokers.values():
        assert f"{broker.bootstrap} (id: {broker.node_id} rack: rack-{broker.node_id}" in shown
    shown = tool("LogDirsCommand", "--describe", "--topic-list", topic)
    found = json.loads(next(line for line in shown.splitlines() if line.startswith("{")))["brokers"]
    assert {broker["broker"] for broker in found} == {1, 2, 3}
    assert all(len(directory["partitions"]) == 3 for broker in found for directory in broker["logDirs"])
    assert "Feature: metadata.version" in tool("FeatureCommand", "describe")


def test_replicas_agree_with_each_other(cluster: Brokers, tool: Tool, topic: str) -> None:
    """kafka-replica-verification is gone since 4.0: what DumpLogSegments shows of each replica must be the same."""
    fill(cluster, topic)
    cluster.wait_whole(topic)

    def dumped(node_id: int) -> list[str]:
        segment = cluster[node_id].log_dir / f"{topic}-0" / "00000000000000000000.log"
        done = run_tool(TOOLS + "DumpLogSegments", "--files", str(segment))
        assert done.returncode == 0, done.stdout + done.stderr
        assert "isvalid: false" not in done.stdout
        return re.findall(r"baseOffset: \d+ .*crc: \d+", done.stdout)

    assert dumped(1)
    assert dumped(1) == dumped(2) == dumped(3)


def test_the_quorum_and_its_log(cluster: Brokers, tool: Tool, topic: str) -> None:
    status = tool("MetadataQuorumCommand", "describe", "--status")
    assert f"LeaderId:               {cluster.controller()}" in status
    assert len(re.findall(r'"id": ?\d', status.partition("CurrentVoters:")[2].splitlines()[0])) == 3, status
    replication = tool("MetadataQuorumCommand", "describe", "--replication")
    assert replication.count("Follower") == 2 and replication.count("Leader") >= 1
    dumps = []
    for broker in cluster.brokers.values():
        segment = broker.log_dir / "__cluster_metadata-0" / "00000000000000000000.log"
        done = run_tool(TOOLS + "DumpLogSegments", "--files", str(segment), "--cluster-metadata-decoder")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Could not decode" not in done.stdout
        assert f'"name":"{topic}"' in done.stdout
        dumps.append(re.findall(r"baseOffset: \d+ .*crc: \d+", done.stdout))
    shortest = min(map(len, dumps))
    assert dumps[0][:shortest] == dumps[1][:shortest] == dumps[2][:shortest], "every voter has the same log"


def test_a_broker_that_is_gone_for_good_is_unregistered(cluster: Brokers, tool: Tool) -> None:
    cluster[3].kill()
    wait_until(lambda: 3 not in cluster.members([1, 2]), "broker 3 to be fenced")
    done = run_tool(TOOLS + "ClusterTool", "unregister", "--bootstrap-server", cluster[1].bootstrap, "--id", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Broker 3 is no longer registered." in done.stdout
    cluster.start()  # it registers again
    wait_until(lambda: 3 in cluster.members([1, 2]), "broker 3 to take part again")


def test_voters_are_added_and_removed(tmp_path: Path) -> None:
    """A quorum that can grow (KIP-853): one formatted as its first voter, two that join as observers and are added."""
    servers: list[str] = []

    def prepare(broker: BrokerProcess) -> None:
        servers.append(f"127.0.0.1:{broker.controller_port}")

    cluster = Brokers(Broadsheet, tmp_path, prepare=prepare)
    for broker in cluster.brokers.values():
        broker.overrides |= {"controller.quorum.voters": "", "controller.quorum.bootstrap.servers": ",".join(servers)}
        broker.write_properties()
        how = "--standalone" if broker.node_id == 1 else "--no-initial-controllers"
        command = broker.command()
        format_command = [*command[: command.index("broker")], "format", "--cluster-id", CLUSTER_ID, how]
        done = subprocess.run(
            [*format_command, "--config", str(broker.properties_file)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    with cluster:

        def voters() -> set[int]:
            status = run(cluster.bootstrap, "MetadataQuorumCommand", "describe", "--status")
            line = status.partition("CurrentVoters:")[2].splitlines()[0]
            return {int(found) for found in re.findall(r'"id": ?(\d+)', line)}

        assert voters() == {1}
        for node_id in (2, 3):
            done = run_tool(
                TOOLS + "MetadataQuorumCommand",
                *("--bootstrap-server", cluster.bootstrap, "--command-config", str(cluster[node_id].properties_file)),
                "add-controller",
            )
            assert done.returncode == 0, done.stdout + done.stderr
        assert voters() == {1, 2, 3}
        cluster[cluster.controller()].kill()
        wait_until(lambda: cluster.controller_id() > 0, "the two others to go on")
        cluster.start()
        replication = run(cluster.bootstrap, "MetadataQuorumCommand", "describe", "--replication")
        (directory,) = (line.split()[1] for line in replication.splitlines() if line.startswith("2"))
        done = run_tool(
            TOOLS + "MetadataQuorumCommand",
            *("--bootstrap-server", cluster.bootstrap, "remove-controller"),
            *("--controller-id", "2", "--controller-directory-id", directory),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert voters() == {1, 3}

"""Kafka's own command line tools against the broker under test: each does what it is asked and finds what is there."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.apache.apache import java, run_tool
from tests.support.broker_process import CLUSTER_ID, BrokerProcess
from tests.support.waiting import wait_until

TOOLS = "org.apache.kafka.tools."
Tool = Callable[..., str]


@pytest.fixture(scope="module")
def tool(broker: BrokerProcess) -> Tool:
    """Run a tool of org.apache.kafka.tools (or a full class name) against the broker; what it printed."""

    def run(name: str, *arguments: str, stdin: str = "") -> str:
        main_class = name if name.startswith("kafka.") else TOOLS + name
        done = run_tool(main_class, "--bootstrap-server", broker.bootstrap, *arguments, stdin=stdin)
        assert done.returncode == 0, f"{name} {arguments} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        assert "Exception" not in done.stderr, done.stderr
        return done.stdout

    return run


@pytest.fixture
def group() -> str:
    return f"tools-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def filled(tool: Tool, topic: str) -> str:
    """A topic with thirty records, `customer-N:number`."""
    lines = "".join(f"customer-{number % 3 + 1}:{number}\n" for number in range(30))
    tool("ConsoleProducer", "--topic", topic, "--reader-property", "parse.key=true", *KEYS, stdin=lines)
    return topic


KEYS = ("--reader-property", "key.separator=:")


def offsets(tool: Tool, topic: str, *arguments: str) -> dict[int, int]:
    """Offset per partition, as kafka-get-offsets prints them."""
    lines = tool("GetOffsetShell", "--topic", topic, *arguments).split()
    return {int(partition): int(offset) for _, partition, offset in (line.rsplit(":", 2) for line in lines)}


def test_api_versions(tool: Tool) -> None:
    shown = tool("BrokerApiVersionsCommand")
    for name in ("Produce(0)", "Fetch(1)", "ListOffsets(2)", "Metadata(3)", "JoinGroup(11)", "CreateTopics(19)"):
        assert f"{name}: " in shown
    served = shown.partition("Produce(0): ")[2].splitlines()[0]
    assert "[usable: " in served


def test_topics_create_alter_describe_delete(tool: Tool) -> None:
    topic = f"tools-{uuid.uuid4().hex[:8]}"
    tool("TopicCommand", "--create", "--topic", topic, "--partitions", "2", "--config", "retention.ms=60000")
    assert topic in tool("TopicCommand", "--list").split()
    tool("TopicCommand", "--alter", "--topic", topic, "--partitions", "4")
    described = tool("TopicCommand", "--describe", "--topic", topic)
    assert "PartitionCount: 4" in described
    assert "ReplicationFactor: 1" in described
    assert "retention.ms=60000" in described
    assert tool("TopicCommand", "--describe", "--under-replicated-partitions").strip() == ""
    assert tool("TopicCommand", "--describe", "--unavailable-partitions").strip() == ""
    tool("TopicCommand", "--delete", "--topic", topic)
    wait_until(lambda: topic not in tool("TopicCommand", "--list").split(), "the topic to go")


def test_fewer_partitions_are_refused(broker: BrokerProcess, topic: str) -> None:
    arguments = ("--bootstrap-server", broker.bootstrap, "--alter", "--topic", topic, "--partitions", "1")
    done = run_tool(TOOLS + "TopicCommand", *arguments)
    assert done.returncode == 1
    assert "InvalidPartitionsException" in done.stdout + done.stderr


def test_configs_of_a_topic(tool: Tool, topic: str) -> None:
    entity = ("--entity-type", "topics", "--entity-name", topic)
    tool("kafka.admin.ConfigCommand", *entity, "--alter", "--add-config", "max.message.bytes=2000,retention.ms=1234567")
    shown = tool("kafka.admin.ConfigCommand", *entity, "--describe")
    assert "max.message.bytes=2000" in shown
    assert "retention.ms=1234567" in shown
    tool("kafka.admin.ConfigCommand", *entity, "--alter", "--delete-config", "max.message.bytes")
    assert "max.message.bytes" not in tool("kafka.admin.ConfigCommand", *entity, "--describe")
    everything = tool("kafka.admin.ConfigCommand", *entity, "--describe", "--all")
    assert "max.message.bytes=1048588" in everything
    assert "DEFAULT_CONFIG" in everything


def test_configs_of_the_broker(tool: Tool) -> None:
    entity = ("--entity-type", "brokers", "--entity-name", "1")
    assert "log.dirs=" in tool("kafka.admin.ConfigCommand", *entity, "--describe", "--all")


@pytest.mark.parametrize("entities", ["users", "clients", "ips", "groups", "client-metrics"])
def test_entities_without_configs_are_none(tool: Tool, entities: str) -> None:
    """A broker without quotas, users and the configs of groups: the tools print nothing, or nothing but a heading."""
    shown = tool("kafka.admin.ConfigCommand", "--entity-type", entities, "--describe")
    assert not [line for line in shown.splitlines() if "=" in line], shown


def test_one_entity_without_configs(tool: Tool, group: str) -> None:
    for entities in ("groups", "client-metrics"):
        shown = tool("kafka.admin.ConfigCommand", "--entity-type", entities, "--entity-name", group, "--describe")
        assert not [line for line in shown.splitlines() if "=" in line and group not in line], shown


def test_log_levels_of_the_broker(tool: Tool) -> None:
    entity = ("--entity-type", "broker-loggers", "--entity-name", "1")
    assert "root=" in tool("kafka.admin.ConfigCommand", *entity, "--describe")
    tool("kafka.admin.ConfigCommand", *entity, "--alter", "--add-config", "root=ERROR")
    assert "root=ERROR" in tool("kafka.admin.ConfigCommand", *entity, "--describe")
    tool("kafka.admin.ConfigCommand", *entity, "--alter", "--add-config", "root=INFO")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--list",),
        ("--add", "--allow-principal", "User:ann", "--operation", "Read", "--topic", "orders"),
        ("--remove", "--force", "--allow-principal", "User:ann", "--operation", "Read", "--topic", "orders"),
    ],
)
def test_acls_are_disabled(broker: BrokerProcess, arguments: tuple[str, ...]) -> None:
    """The tool names the reason, which MirrorMaker 2 knows too."""
    done = run_tool("org.apache.kafka.tools.AclCommand", "--bootstrap-server", broker.bootstrap, *arguments)
    assert "SecurityDisabledException: No Authorizer is configured" in done.stdout + done.stderr


def test_there_are_no_transactions(tool: Tool) -> None:
    (heading,) = tool("TransactionsCommand", "list").strip().splitlines()
    assert "TransactionalId" in heading


@pytest.mark.parametrize("time", ["-1", "-2", "-3", "-4", "-5"])
def test_offsets_of_every_named_time(tool: Tool, filled: str, time: str) -> None:
    assert set(offsets(tool, filled, "--time", time)) <= {0, 1, 2}


def test_console_producer_and_consumer(tool: Tool, filled: str) -> None:
    shown = tool(
        "consumer.ConsoleConsumer",
        *("--topic", filled, "--from-beginning", "--max-messages", "30", "--timeout-ms", "20000"),
        *("--formatter-property", "print.key=true", "--formatter-property", "print.partition=true"),
    )
    lines = [line.split("\t") for line in shown.splitlines()]
    assert sorted(int(value) for _, _, value in lines) == list(range(30))
    assert all(key == f"customer-{int(value) % 3 + 1}" for _, key, value in lines)


def test_get_offsets(tool: Tool, filled: str) -> None:
    assert sum(offsets(tool, filled).values()) == 30
    assert offsets(tool, filled, "--time", "earliest") == {0: 0, 1: 0, 2: 0}
    latest_by_timestamp = offsets(tool, filled, "--time", "max-timestamp")
    assert all(offset < offsets(tool, filled)[partition] for partition, offset in latest_by_timestamp.items())


def test_delete_records(tool: Tool, filled: str, tmp_path: Path) -> None:
    partition, end = max(offsets(tool, filled).items(), key=lambda item: item[1])
    wish = {"partitions": [{"topic": filled, "partition": partition, "offset": 5}], "version": 1}
    (tmp_path / "offsets.json").write_text(json.dumps(wish))
    assert "low_watermark: 5" in tool("DeleteRecordsCommand", "--offset-json-file", str(tmp_path / "offsets.json"))
    assert offsets(tool, filled, "--time", "earliest")[partition] == 5
    assert offsets(tool, filled)[partition] == end


def test_consumer_groups_describe_reset_delete(tool: Tool, filled: str, group: str) -> None:
    consume = ("--topic", filled, "--group", group, "--from-beginning", "--max-messages", "30", "--timeout-ms", "20000")
    tool("consumer.ConsoleConsumer", *consume)
    command = "consumer.group.ConsumerGroupCommand"
    assert group in tool(command, "--list").split()
    described = [line.split() for line in tool(command, "--describe", "--group", group).splitlines() if filled in line]
    assert sum(int(line[3]) for line in described) == 30
    assert all(line[5] == "0" for line in described)
    state = tool(command, "--describe", "--group", group, "--state")
    assert "Empty" in state
    for how, expected in (("--to-earliest", 0), ("--to-latest", 30)):
        tool(command, "--group", group, "--topic", filled, "--reset-offsets", how, "--execute")
        lines = [line.split() for line in tool(command, "--describe", "--group", group).splitlines() if filled in line]
        assert sum(int(line[3]) for line in lines) == expected
    tool(command, "--group", group, "--topic", filled, "--delete-offsets")
    tool(command, "--delete", "--group", group)
    assert group not in tool(command, "--list").split()


def test_quorum(tool: Tool) -> None:
    status = tool("MetadataQuorumCommand", "describe", "--status")
    assert "LeaderId:" in status
    assert "HighWatermark:" in status
    assert "Leader" in tool("MetadataQuorumCommand", "describe", "--replication")


def test_cluster_id_and_endpoints(broker: BrokerProcess) -> None:
    for command, expected in (("cluster-id", f"Cluster ID: {CLUSTER_ID}"), ("list-endpoints", str(broker.port))):
        done = run_tool(TOOLS + "ClusterTool", command, "--bootstrap-server", broker.bootstrap)
        assert done.returncode == 0, done.stdout + done.stderr
        assert expected in done.stdout


def test_features(tool: Tool) -> None:
    assert "Feature: metadata.version" in tool("FeatureCommand", "describe")


def test_log_dirs(tool: Tool, filled: str) -> None:
    shown = tool("LogDirsCommand", "--describe", "--topic-list", filled)
    (broker,) = json.loads(next(line for line in shown.splitlines() if line.startswith("{")))["brokers"]
    partitions = [partition for directory in broker["logDirs"] for partition in directory["partitions"]]
    assert {partition["partition"] for partition in partitions} == {f"{filled}-{number}" for number in range(3)}
    assert sum(partition["size"] for partition in partitions) > 0


def test_leader_election(tool: Tool, topic: str) -> None:
    preferred = ("--election-type", "preferred", "--topic", topic, "--partition", "0")
    assert "Valid replica already elected" in tool("LeaderElectionCommand", *preferred)


def test_reassignment_to_the_same_broker(tool: Tool, topic: str, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"version": 1, "partitions": [{"topic": topic, "partition": 0, "replicas": [1]}]}))
    tool("reassign.ReassignPartitionsCommand", "--reassignment-json-file", str(plan), "--execute")
    assert "is completed" in tool(
        "reassign.ReassignPartitionsCommand", "--reassignment-json-file", str(plan), "--verify"
    )
    assert "No partition reassignments found." in tool("reassign.ReassignPartitionsCommand", "--list")


def test_producer_and_consumer_performance(tool: Tool, topic: str) -> None:
    produced = tool(
        "ProducerPerformance",
        *("--topic", topic, "--num-records", "20000", "--throughput", "-1", "--record-size", "1024"),
        *("--command-property", "acks=all", "compression.type=lz4"),
    )
    assert "20000 records sent" in produced
    consumed = tool("ConsumerPerformance", "--topic", topic, "--num-records", "20000", "--hide-header")
    assert int(consumed.strip().splitlines()[-1].split(", ")[4]) == 20000


def test_end_to_end_latency(tool: Tool, new_topic: Callable[..., str]) -> None:
    arguments = ("--topic", new_topic(1), "--num-records", "200", "--producer-acks", "all", "--record-size", "100")
    assert "Avg latency:" in tool("EndToEndLatency", *arguments)


def test_verifiable_producer_and_consumer(tool: Tool, broker: BrokerProcess, topic: str, group: str) -> None:
    sent = tool("VerifiableProducer", "--topic", topic, "--max-messages", "500", "--acks", "-1")
    events = [json.loads(line) for line in sent.splitlines() if line.startswith("{")]
    assert sum(event["name"] == "producer_send_success" for event in events) == 500
    command = java(
        TOOLS + "VerifiableConsumer",
        *("--bootstrap-server", broker.bootstrap, "--topic", topic, "--group-id", group),
        *("--max-messages", "500", "--reset-policy", "earliest"),
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    received = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert sum(event["count"] for event in received if event["name"] == "records_consumed") == 500


def test_dump_log_segments_reads_the_files(broker: BrokerProcess, filled: str) -> None:
    """Every batch with deep iteration, and each index against its log."""
    for partition in range(3):
        directory = broker.log_dir / f"{filled}-{partition}"
        for kind in ("log", "index", "timeindex"):
            files = ",".join(str(file) for file in sorted(directory.glob(f"*.{kind}")))
            assert files, f"no .{kind} in {directory}"
            options = ("--deep-iteration", "--print-data-log") if kind == "log" else ("--index-sanity-check",)
            done = run_tool(TOOLS + "DumpLogSegments", "--files", files, *options)
            assert done.returncode == 0, done.stdout + done.stderr
            assert "isvalid: false" not in done.stdout
            assert "Mismatches" not in done.stdout, done.stdout


def test_dump_log_segments_reads_the_cluster_metadata(broker: BrokerProcess, topic: str) -> None:
    segment = broker.log_dir / "__cluster_metadata-0" / "00000000000000000000.log"
    done = run_tool(TOOLS + "DumpLogSegments", "--files", str(segment), "--cluster-metadata-decoder")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f'"name":"{topic}"' in done.stdout
    assert '"type":"PARTITION_RECORD"' in done.stdout
    assert "Could not decode" not in done.stdout


def test_dump_log_segments_reads_the_offsets(broker: BrokerProcess, tool: Tool, filled: str, group: str) -> None:
    consume = ("--topic", filled, "--group", group, "--from-beginning", "--max-messages", "30", "--timeout-ms", "20000")
    tool("consumer.ConsoleConsumer", *consume)
    shown = ""
    for segment in sorted(broker.log_dir.glob("__consumer_offsets-*/*.log")):
        if segment.stat().st_size:
            done = run_tool(TOOLS + "DumpLogSegments", "--files", str(segment), "--offsets-decoder")
            assert done.returncode == 0, done.stdout + done.stderr
            shown += done.stdout
    assert group in shown
    assert filled in shown

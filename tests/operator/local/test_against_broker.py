"""The whole local runtime with real brokers of ours as processes, used as a person uses it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka import TopicPartition as KafkaTopicPartition

from broadsheet_operator.kafka.client import KafkaPythonGateway
from broadsheet_operator.reconcilers.consumer_group import CommitOffsets, DeleteGroup
from broadsheet_operator.reconcilers.lag import lag_rows
from broadsheet_operator.reconcilers.observed import (
    Failure,
    GroupQuery,
    GroupView,
    LagQuery,
    LagView,
    TopicPartition,
    TopicView,
)
from broadsheet_operator.reconcilers.topic_actions import (
    AddPartitions,
    AlterConfigs,
    CreateTopic,
    DeleteTopic,
)
from tests.support.ports import free_port, free_ports
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

BROADSHEET = [sys.executable, "-m", "broadsheet_operator.cli"]
SECONDS = 30.0


def manifest(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "broadsheet.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


class Up:
    """A running `broadsheet up` and the commands beside it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_ports(3)[0]
        self.brokers = 1
        self.config: dict[str, Any] = {}
        self.file = directory / "manifests.yaml"
        self.process: subprocess.Popen[str] | None = None

    def write(self, *documents: dict[str, Any]) -> None:
        """The manifests, with the cluster first; put in place in one move, as editors do."""
        listeners = [{"name": "plain", "port": self.port}]
        cluster = manifest(
            "Cluster", "local", brokers={"replicas": self.brokers}, listeners=listeners, config=self.config
        )
        other = self.file.with_suffix(".new")
        other.write_text(yaml.safe_dump_all([cluster, *documents]))
        other.replace(self.file)

    def start(self) -> None:
        with open(self.directory / "up.log", "w") as log:
            self.process = subprocess.Popen(
                [*BROADSHEET, "up", "-f", str(self.file)], cwd=self.directory, stdout=log, stderr=log, text=True
            )
        wait_until(lambda: self.ready("Cluster", "local") or self.process.poll(), "the start")  # type: ignore[union-attr]
        assert self.process.poll() is None, self.log()

    def stop(self, number: int = signal.SIGINT) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(SECONDS)

    def log(self) -> str:
        return (self.directory / "up.log").read_text()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*BROADSHEET, *arguments], cwd=self.directory, capture_output=True, text=True, timeout=2 * SECONDS
        )

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """As `broadsheet get` has it, read from where that reads."""
        path = self.directory / ".broadsheet" / "status" / kind / f"{name}.json"
        try:
            found: dict[str, Any] = json.loads(path.read_text())
        except (OSError, ValueError):
            return {}
        return found

    def condition(self, kind: str, name: str) -> dict[str, Any]:
        conditions = self.get(kind, name).get("conditions", [])
        return next((c for c in conditions if c["type"] == "Ready"), {})

    def ready(self, kind: str, name: str) -> bool:
        return bool(self.condition(kind, name).get("status") == "True")

    def broker_pids(self) -> list[int]:
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    @property
    def server(self) -> str:
        return f"localhost:{self.port}"


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    running = Up(tmp_path)
    yield running
    if running.process is not None and running.process.poll() is None:
        running.process.kill()
        running.process.wait()


@pytest.fixture
def gateway(up: Up) -> Iterator[KafkaPythonGateway]:
    up.write()
    up.start()
    made = KafkaPythonGateway([up.server])
    yield made
    made.close()
    assert up.stop() == 0


def produce(server: str, topic: str, count: int) -> None:
    producer = KafkaProducer(bootstrap_servers=server, acks="all")
    try:
        for pending in [producer.send(topic, key=b"%d" % i, value=b"v") for i in range(count)]:
            pending.get(timeout=SECONDS)
    finally:
        producer.close(timeout=5)


def consume(server: str, topic: str, group: str, count: int) -> KafkaConsumer:
    consumer = KafkaConsumer(
        topic, bootstrap_servers=server, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False
    )
    # It may join the group before it knows the topic; it then has no partition for five minutes.
    wait_until(lambda: consumer.partitions_for_topic(topic), "the topic's metadata")
    seen, deadline = 0, time.monotonic() + SECONDS
    while seen < count:
        assert time.monotonic() < deadline, f"{seen} of {count} records came"
        seen += sum(len(records) for records in consumer.poll(timeout_ms=200).values())
    consumer.commit()
    return consumer


def test_a_property_that_no_broker_knows_is_named(up: Up) -> None:
    """`broadsheet up` passed it over; only the broker's own log had a line about it."""
    up.config = {"num.partition": 3}
    up.write()
    up.start()
    words = "brokers do not know and ignore num.partition (did you mean num.partitions?)"
    assert words in up.condition("Cluster", "local")["message"]
    done = up.run("apply", "-f", str(up.file))
    assert (done.returncode, words in done.stdout) == (0, True), done.stdout + done.stderr
    up.config = {"num.partitions": 3, "ssl.key.password": "quiet"}
    up.write()
    changes = "num.partition 3 -> default, num.partitions default -> 3, ssl.key.password default -> (hidden)"
    wait_until(lambda: f"the broker restarts ({changes})" in up.log(), "what changed, in words")


def test_the_gateway_sees_and_does_many_things_at_once(gateway: KafkaPythonGateway) -> None:
    results = gateway.apply_topics(
        [
            CreateTopic("a", 2, 1, {"retention.ms": "5000000"}),
            CreateTopic("not allowed", 1, 1, {}),
            CreateTopic("b", 1, 3, {}),
            CreateTopic("c", 1, 1, {"retention.ms": "x"}),
            CreateTopic("d", None, None, {}),
        ]
    )
    assert [r.reason if r else None for r in results] == [None, "InvalidRequest", "NotSupported", "InvalidConfig", None]
    changes = [AddPartitions("a", 4, 2), AlterConfigs("a", {"retention.bytes": "1000000"}, ("retention.ms",))]
    assert gateway.apply_topics([*changes, DeleteTopic("d", "")]) == [None, None, None]
    seen = gateway.observe_topics(["a", "d", "nope"])
    assert (seen["d"], seen["nope"]) == (None, None)
    a = seen["a"]
    assert isinstance(a, TopicView)
    assert ([p.index for p in a.partitions], a.replication_factor, a.size) == ([0, 1, 2, 3], 1, 0)
    assert {k: v.value for k, v in a.configs.items() if v.overridden} == {"retention.bytes": "1000000"}
    assert gateway.list_topics() == ["a"]


def test_the_gateway_knows_which_properties_a_broker_knows(gateway: KafkaPythonGateway) -> None:
    known = gateway.observe_known_properties(0)
    assert isinstance(known, frozenset)
    assert {"log.retention.hours", "log.retention.ms", "group.initial.rebalance.delay.ms", "node.id"} <= known
    assert "log.retention.hour" not in known
    assert isinstance(gateway.observe_known_properties(7), Failure), "there is no such broker"


def test_the_gateway_sees_groups_and_sets_their_offsets(gateway: KafkaPythonGateway, up: Up) -> None:
    gateway.apply_topics([CreateTopic("orders", 2, 1, {})])
    wait_until(lambda: not isinstance(gateway.observe_groups({"nope": GroupQuery()})["nope"], Failure), "a coordinator")
    nobody = gateway.observe_groups({"nope": GroupQuery()})["nope"]
    assert isinstance(nobody, GroupView)
    assert not nobody.exists
    before = time.time() * 1000
    produce(up.server, "orders", 10)
    consumer = consume(up.server, "orders", "club", 10)
    produce(up.server, "orders", 5)
    try:
        view = gateway.observe_groups({"club": GroupQuery()})["club"]
        assert isinstance(view, GroupView)
        assert (view.state, len(view.members), len(view.members[0].assigned)) == ("Stable", 1, 2)
        assert (sum(view.committed.values()), sum(view.ends.values())) == (10, 15)
        assert all(before - 1000 < t <= time.time() * 1000 for t in view.record_times.values())
        assert view.record_times
        zero = CommitOffsets("club", {TopicPartition("orders", 0): 0})
        (refused,) = gateway.apply_groups([zero])
        assert refused is not None
        assert refused.reason == "GroupNotEmpty"
    finally:
        consumer.close()
    assert gateway.apply_groups([zero]) == [None]
    view = gateway.observe_groups({"club": GroupQuery(time_ms=int(before) - 1000)})["club"]
    assert isinstance(view, GroupView)
    assert (view.state, view.committed[TopicPartition("orders", 0)]) == ("Empty", 0)
    assert set(view.offsets_at_time.values()) == {0}
    assert gateway.apply_groups([DeleteGroup("club")]) == [None]


def test_the_gateway_sees_the_lag_of_all_groups(gateway: KafkaPythonGateway, up: Up) -> None:
    gateway.apply_topics([CreateTopic("orders", 2, 1, {}), CreateTopic("news", 1, 1, {})])
    produce(up.server, "orders", 10)
    produce(up.server, "news", 4)
    consume(up.server, "orders", "gone", 10).close()
    reading = consume(up.server, "news", "reading", 4)
    produce(up.server, "orders", 6)
    produce(up.server, "news", 3)
    query = LagQuery(most_partitions=100, most_fetches=100)
    try:
        seen = gateway.observe_lag(query)
        assert isinstance(seen, LagView)
        gone, still = seen.groups
        assert (gone.group_id, gone.state, still.group_id, still.state) == ("gone", "Empty", "reading", "Stable")
        assert sum(row.lag or 0 for row in lag_rows(gone, 0)) == 6, "the group has no members"
        assert [(row.lag, row.committed) for row in lag_rows(still, 0)] == [(3, 4)]
        assert len(still.members) == 1 and still.record_times
        assert (seen.left_out, seen.failed, seen.logs) == (0, 0, ())
        with_topics = gateway.observe_lag(replace(query, all_topics=True, known=frozenset({"gone"})))
        assert isinstance(with_topics, LagView)
        assert [view.group_id for view in with_topics.groups] == ["reading"]
        ends = {log.name: (log.start, log.end, log.partition.isr) for log in with_topics.logs}
        assert ends[TopicPartition("news", 0)] == (0, 7, (0,))
        assert {name.topic for name in ends} == {"news", "orders"}, "without Kafka's own"
        few = gateway.observe_lag(replace(query, most_partitions=1))
        assert isinstance(few, LagView)
        assert ([view.group_id for view in few.groups], few.left_out) == (["reading"], 1)
        none = gateway.observe_lag(replace(query, excluded=("g?ne", "read*")))
        assert isinstance(none, LagView)
        assert (none.groups, none.left_out) == ((), 0)
        remembered = gateway.observe_lag(replace(query, most_fetches=0, times=seen.times))
        assert isinstance(remembered, LagView)
        assert remembered.groups[1].record_times == still.record_times
    finally:
        reading.close()


def test_the_age_of_unread_records_in_large_batches(gateway: KafkaPythonGateway, up: Up) -> None:
    """A broker gives one whole batch for the first partition of a fetch, and none that is too large for the others."""
    partitions = [TopicPartition("orders", number) for number in range(3)]
    gateway.apply_topics([CreateTopic("orders", 3, 1, {})])
    producer = KafkaProducer(bootstrap_servers=up.server, acks="all", linger_ms=500, batch_size=500_000)
    written = int(time.time() * 1000) - 3_600_000
    for at in partitions:
        for _ in range(400):
            producer.send(at.topic, b"v" * 1000, partition=at.partition, timestamp_ms=written)
    producer.flush()
    producer.close()
    assert gateway.apply_groups([CommitOffsets("club", dict.fromkeys(partitions, 2))]) == [None]
    view = gateway.observe_groups({"club": GroupQuery()})["club"]
    assert isinstance(view, GroupView)
    assert view.record_times == dict.fromkeys(partitions, written)


def test_the_lag_of_records_that_are_deleted_is_none(gateway: KafkaPythonGateway, up: Up) -> None:
    gateway.apply_topics([CreateTopic("orders", 1, 1, {})])
    produce(up.server, "orders", 4)
    consume(up.server, "orders", "late", 4).close()
    produce(up.server, "orders", 6)
    admin = KafkaAdminClient(bootstrap_servers=up.server)
    admin.delete_records({KafkaTopicPartition("orders", 0): 8})
    admin.close()
    seen = gateway.observe_lag(LagQuery(most_partitions=100, most_fetches=100))
    assert isinstance(seen, LagView)
    (row,) = lag_rows(seen.groups[0], int(time.time() * 1000))
    assert (row.committed, row.end, row.lag) == (4, 10, 2)
    assert row.seconds is not None


def test_an_unreachable_cluster_is_a_value() -> None:
    gateway = KafkaPythonGateway([f"localhost:{free_port()}"], timeout_ms=500)
    try:
        seen = gateway.observe_cluster()
        assert isinstance(seen, Failure)
        assert seen.retriable
    finally:
        gateway.close()


def test_editing_the_file_changes_the_topic(up: Up) -> None:
    up.write(manifest("Topic", "orders", cluster="local", partitions=3))
    up.start()
    wait_until(lambda: up.ready("Topic", "orders"), "the topic")
    up.write(manifest("Topic", "orders", cluster="local", partitions=6, retention={"time": "2d"}))
    saved = time.monotonic()
    wait_until(lambda: up.get("Topic", "orders").get("partitions") == 6, "the edit")
    assert time.monotonic() - saved < 5, "an edit is applied in about a second"
    assert up.get("Topic", "orders")["configs"] == {"retention.ms": "172800000"}
    up.write(manifest("Topic", "orders", cluster="local", partitions=2, retention={"time": "2d"}))
    wait_until(lambda: up.condition("Topic", "orders").get("reason") == "NotSupported", "the refusal")
    assert "Kafka cannot take a partition away" in up.condition("Topic", "orders")["message"]
    assert up.get("Topic", "orders")["partitions"] == 6
    up.file.write_text("kind: [")
    wait_until(lambda: "this is not YAML" in up.log(), "the complaint")
    up.write()
    wait_until(lambda: "no longer in" in up.log(), "the deletion")
    wait_until(lambda: not up.get("Topic", "orders"), "the deletion")
    assert "the topic orders and its records stay (deletionPolicy Retain)" in up.log()
    assert up.stop() == 0


def test_apply_get_and_delete(up: Up, tmp_path: Path) -> None:
    up.write()
    up.start()
    good = tmp_path / "good.yaml"
    good.write_text(
        yaml.safe_dump_all(
            [
                manifest("Topic", "payments", cluster="local", partitions=2, deletionPolicy="Delete"),
                manifest("ConsumerGroup", "club", cluster="local"),
            ]
        )
    )
    applied = up.run("apply", "-f", str(good))
    assert (applied.returncode, applied.stdout.splitlines()[0]) == (0, "topic/payments created"), applied.stderr
    assert up.run("apply", "-f", str(good)).stdout.startswith("topic/payments unchanged")
    shown = up.run("get", "topics")
    assert shown.stdout.splitlines()[1].split()[:6] == ["payments", "local", "2", "1", "2/2", "True"]
    assert json.loads(up.run("get", "topic", "payments", "-o", "json").stdout)["status"]["partitions"] == 2

    bad = tmp_path / "bad.yaml"
    bad.write_text(yaml.safe_dump(manifest("Topic", "many", cluster="local", replicationFactor=3)))
    refused = up.run("apply", "-f", str(bad))
    assert refused.returncode == 1
    assert "replicationFactor 3 needs as many brokers; the cluster has only broker 0" in refused.stderr
    bad.write_text(yaml.safe_dump(manifest("Topic", "lost", cluster="nowhere")))
    lost = up.run("apply", "-f", str(bad), "--timeout", "1", "--output", "json")
    assert lost.returncode == 1
    assert "there is no Cluster nowhere" in json.loads(lost.stdout)[0]["message"]

    gone = up.run("delete", "topic", "payments")
    assert gone.stdout == "topic/payments deleted: the topic payments is gone, with its records\n"
    assert up.run("get", "topic", "payments").returncode == 1
    assert up.run("delete", "topic", "payments").returncode == 1
    again = up.run("up", "-f", str(up.file))
    assert again.returncode == 1
    assert "another `broadsheet up` runs" in again.stderr
    assert up.stop() == 0


def test_a_broker_that_is_killed_comes_back_with_its_records(up: Up) -> None:
    up.write(
        manifest("Topic", "orders", cluster="local", partitions=1), manifest("ConsumerGroup", "club", cluster="local")
    )
    up.start()
    wait_until(lambda: up.ready("Topic", "orders"), "the topic")
    produce(up.server, "orders", 20)
    consume(up.server, "orders", "club", 20).close()
    (first,) = up.broker_pids()
    os.kill(first, signal.SIGKILL)
    wait_until(
        lambda: "broker 0 was killed by SIGKILL" in up.log() and "broker 0 is started again" in up.log(), "the return"
    )
    wait_until(lambda: up.ready("Cluster", "local") and first not in (up.broker_pids() or [first]), "the return")
    consume(up.server, "orders", "other", 20).close()
    wait_until(lambda: up.get("ConsumerGroup", "club").get("lag") == 0, "the group's lag")
    assert up.stop(signal.SIGTERM) == 0


def test_a_group_is_watched_and_reset(up: Up) -> None:
    topic = manifest("Topic", "orders", cluster="local", partitions=2)
    up.write(topic, manifest("ConsumerGroup", "club", cluster="local", lag={"maxRecords": 3}))
    up.start()
    wait_until(lambda: up.condition("ConsumerGroup", "club").get("reason") == "GroupNotFound", "the wait")
    wait_until(lambda: up.ready("Topic", "orders"), "the topic")
    produce(up.server, "orders", 10)
    consumer = consume(up.server, "orders", "club", 10)
    wait_until(lambda: up.get("ConsumerGroup", "club").get("state") == "Stable", "the member")
    assert up.get("ConsumerGroup", "club")["members"] == 1
    reset = manifest("ConsumerGroup", "club", cluster="local", lag={"maxRecords": 3}, reset={"to": "earliest"})
    up.write(topic, reset)
    wait_until(lambda: up.condition("ConsumerGroup", "club").get("reason") == "GroupNotEmpty", "the refusal")
    consumer.close()
    wait_until(lambda: up.get("ConsumerGroup", "club").get("lag") == 10, "the reset")
    status = up.get("ConsumerGroup", "club")
    assert sum(o["offset"] for o in status["lastReset"]["replaced"]) == 10
    limits = next(c for c in status["conditions"] if c["type"] == "LagWithinLimits")
    assert (limits["status"], limits["message"]) == ("False", "more than 3 records behind")
    assert (status["verdict"], status["lagSeconds"] < 60) == ("Stopped", True)

    consume(up.server, "orders", "club", 10).close()
    deleted = up.run("delete", "consumergroup", "club")
    assert deleted.stdout == (
        "consumergroup/club deleted: the group club and its offsets stay (deletionPolicy Retain)\n"
    )
    up.write(topic)
    up.run("apply", "-f", str(up.file))
    again = up.directory / "again.yaml"
    again.write_text(yaml.safe_dump({**reset, "spec": {**reset["spec"], "lag": {"maxRecords": 4}}}))
    passed_over = up.run("apply", "-f", str(again))
    assert passed_over.returncode == 1, "the exit code is 0 only when what was asked has happened"
    assert "ResetPassedOver: the reset was there when this resource was new" in passed_over.stderr
    anew = wait_until(lambda: up.ready("ConsumerGroup", "club") and up.get("ConsumerGroup", "club"), "the return")
    assert anew["lag"] == 0, "a manifest that is applied again does not rewind a group that has got on"
    assert next(c for c in anew["conditions"] if c["type"] == "Reset")["reason"] == "ResetPassedOver"
    assert up.stop() == 0


def test_a_port_in_use_is_told(up: Up) -> None:
    up.write()
    up.start()
    other = up.directory / "other.yaml"
    other.write_text(yaml.safe_dump(yaml.safe_load(up.file.read_text())))
    taken = up.run("up", "-f", str(other), "--data", "elsewhere")
    assert taken.returncode == 1
    assert f"port {up.port} of localhost is in use by another program" in taken.stderr
    assert "spec.listeners[0].port" in taken.stderr
    assert up.stop() == 0


def test_three_brokers_keep_three_replicas_and_none_is_taken_away_by_mistake(up: Up) -> None:
    up.brokers = 3
    up.write(manifest("Topic", "orders", cluster="local", partitions=3, replicationFactor=3))
    up.start()
    wait_until(lambda: up.ready("Topic", "orders"), "the topic")
    assert up.get("Topic", "orders")["inSync"] == "9/9"
    assert len(up.broker_pids()) == 3
    up.brokers = 2
    up.write()
    wait_until(lambda: "set it to 3 or more" in str(up.get("Cluster", "local")), "the refusal")
    assert len(up.broker_pids()) == 3
    assert up.stop() == 0


def test_after_the_end_statuses_say_so_and_a_new_start_goes_on(up: Up) -> None:
    up.write(manifest("Topic", "orders", cluster="local", partitions=1, adoption="Never"))
    up.start()
    wait_until(lambda: up.ready("Topic", "orders"), "the topic")
    cluster_id, topic_id = up.get("Cluster", "local")["clusterId"], up.get("Topic", "orders")["topicId"]
    produce(up.server, "orders", 5)
    assert up.stop() == 0
    assert not up.ready("Cluster", "local")
    assert up.condition("Topic", "orders")["reason"] == "ClusterNotReady"
    up.start()
    wait_until(lambda: up.ready("Topic", "orders"), "the topic")
    assert (up.get("Cluster", "local")["clusterId"], up.get("Topic", "orders")["topicId"]) == (cluster_id, topic_id)
    consume(up.server, "orders", "club", 5).close()
    assert up.stop() == 0


def test_an_external_cluster_is_managed_too(up: Up, tmp_path: Path) -> None:
    up.write()
    up.start()
    outside = Up(tmp_path / "other")
    outside.directory.mkdir()
    external = manifest("Cluster", "outside", external={"bootstrapServers": [up.server]})
    outside.file.write_text(yaml.safe_dump_all([external, manifest("Topic", "there", cluster="outside", partitions=2)]))
    with open(outside.directory / "up.log", "w") as log:
        command = [*BROADSHEET, "up", "-f", str(outside.file)]
        outside.process = subprocess.Popen(command, cwd=outside.directory, stdout=log, stderr=log, text=True)
    try:
        wait_until(lambda: outside.ready("Topic", "there"), "the topic")
        assert outside.get("Cluster", "outside")["readyReplicas"] == 1
        assert outside.stop() == 0
    finally:
        outside.process.kill()
        outside.process.wait()
    assert up.stop() == 0


def test_the_quickstart_ends_with_everything_shown_and_nothing_left(tmp_path: Path) -> None:
    done = subprocess.run(
        [*BROADSHEET, "quickstart", "--once", "--port", str(free_port())],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=3 * SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert sum("->" in line for line in lines) == sum("<-" in line for line in lines) == 6
    orders = next(line for line in lines if line[:2] == ["orders", "quickstart"])
    assert orders[2:6] == ["3", "1", "3/3", "True"]
    group = next(line for line in lines if line[:2] == ["example-consumer", "example-consumer"])
    assert (group[2:5], group[6:8]) == (["Stable", "1", "3"], ["OK", "True"])
    assert done.stderr == ""

"""What a broker does when its port, its directories or its disk are not what it needs: it says what and where."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from tests.support.broadsheet import Broadsheet
from tests.support.waiting import wait_until

ANOTHER_CLUSTER = "QW5vdGhlckNsdXN0ZXJJZA"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broadsheet]:
    """A broker that has not been started."""
    broker = Broadsheet(tmp_path / "broker")
    yield broker
    broker.close()


def refuses_to_start(broker: Broadsheet) -> str:
    """Run it to its end, which must be a failure; what it said."""
    status = broker.spawn().wait(20)
    said = broker.output_since_start()
    assert status not in (0, None), f"it ended with {status}:\n{said}"
    assert status > 0, f"it was ended by signal {-status}:\n{said}"
    assert "Traceback" not in said, said
    return said


def create(broker: Broadsheet, topic: str, partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(20)


def produce(broker: Broadsheet, topic: str, partition: int, values: list[bytes]) -> list[str]:
    """Send; the errors of those that were not delivered."""
    errors: list[str] = []
    producer = Producer(
        {"bootstrap.servers": broker.bootstrap, "acks": "all", "message.timeout.ms": 5000, "log_level": 0}
    )
    for value in values:
        producer.produce(
            topic, value, partition=partition, on_delivery=lambda error, _: errors.append(str(error)) if error else None
        )
        producer.poll(0)
    producer.flush(30)
    return errors


def read(broker: Broadsheet, topic: str, partition: int, count: int) -> list[bytes | None]:
    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap, "group.id": "reader", "auto.offset.reset": "earliest", "log_level": 0}
    )
    consumer.assign([TopicPartition(topic, partition, 0)])
    values: list[bytes | None] = []

    def enough() -> bool:
        values.extend(record.value() for record in consumer.consume(1000, 0.5) if record.error() is None)
        return len(values) >= count

    wait_until(enough, f"{count} records of {topic}-{partition}", 20)
    consumer.close()
    return values


def test_a_port_in_use(broker: Broadsheet) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", broker.port))
        taken.listen()
        said = refuses_to_start(broker)
    assert str(broker.port) in said
    assert "in use" in said


def test_a_directory_that_cannot_be_read(broker: Broadsheet, monkeypatch: pytest.MonkeyPatch) -> None:
    broker.log_dir.mkdir()
    broker.log_dir.chmod(0)
    if os.geteuid() == 0:  # root reads everything, unless it gives that right up
        rights = "-dac_override,-dac_read_search"
        command = ["setpriv", "--bounding-set", rights, "--inh-caps", rights, *broker.command()]
        monkeypatch.setattr(broker, "command", lambda: command)
    said = refuses_to_start(broker)
    broker.log_dir.chmod(0o700)
    assert str(broker.log_dir) in said
    assert "ermission" in said


def test_a_directory_that_is_a_file(broker: Broadsheet) -> None:
    broker.log_dir.write_text("not a directory")
    assert str(broker.log_dir) in refuses_to_start(broker)


def test_a_directory_of_another_cluster(broker: Broadsheet, monkeypatch: pytest.MonkeyPatch) -> None:
    broker.start()
    broker.stop()
    own = broker.environment()["CLUSTER_ID"]
    monkeypatch.setattr(broker, "environment", lambda: {**os.environ, "CLUSTER_ID": ANOTHER_CLUSTER})
    said = refuses_to_start(broker)
    assert own in said
    assert ANOTHER_CLUSTER in said
    assert str(broker.log_dir) in said


def test_a_directory_that_another_broker_uses(broker: Broadsheet, tmp_path: Path) -> None:
    broker.start()
    second = Broadsheet(tmp_path / "second", {"log.dirs": str(broker.log_dir)})
    try:
        assert str(broker.log_dir) in refuses_to_start(second)
    finally:
        second.close()


def test_a_bad_value_is_named_with_what_is_allowed(broker: Broadsheet) -> None:
    broker.overrides["log.cleanup.policy"] = "shred"
    said = refuses_to_start(broker)
    for word in ("log.cleanup.policy", "shred", "compact"):
        assert word in said


def test_a_corrupt_segment_takes_its_partition_offline_alone(broker: Broadsheet) -> None:
    """After an unclean stop a bad batch in the middle is no torn tail: complete batches follow, and must not be cut."""
    broker.start()
    create(broker, "orders", 2)
    for partition in (0, 1):
        for _ in range(5):  # one batch each
            assert produce(broker, "orders", partition, [b"%d" % number for number in range(20)]) == []
    broker.kill()
    (segment,) = (broker.log_dir / "orders-0").glob("*.log")
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 0xFF
    segment.write_bytes(content)
    broker.start()
    assert len(read(broker, "orders", 1, 100)) == 100
    assert produce(broker, "orders", 1, [b"more"]) == []
    assert produce(broker, "orders", 0, [b"more"]) != []
    assert segment.read_bytes() == content, "what follows the bad batch was cut"
    assert "orders-0" in broker.output_since_start()


@pytest.mark.parametrize("suffix", ["index", "timeindex"])
@pytest.mark.parametrize("clean", [True, False])
def test_a_corrupt_index_is_built_again(broker: Broadsheet, suffix: str, clean: bool) -> None:
    broker.start()
    create(broker, "orders", 1)
    assert produce(broker, "orders", 0, [b"x" * 1000] * 100) == []
    if clean:
        broker.stop()
    else:
        broker.kill()
    for index in (broker.log_dir / "orders-0").glob(f"*.{suffix}"):
        index.write_bytes(b"\xff" * 120)
    broker.start()
    assert len(read(broker, "orders", 0, 100)) == 100
    assert produce(broker, "orders", 0, [b"more"]) == []


@pytest.mark.parametrize("name", ["recovery-point-offset-checkpoint", "log-start-offset-checkpoint"])
def test_a_corrupt_checkpoint_loses_nothing(broker: Broadsheet, name: str) -> None:
    broker.start()
    create(broker, "orders", 1)
    assert produce(broker, "orders", 0, [b"x"] * 50) == []
    broker.kill()
    (broker.log_dir / name).write_bytes(b"\x00rubbish\n")
    broker.start()
    assert name in broker.output_since_start()
    assert len(read(broker, "orders", 0, 50)) == 50


def test_a_full_disk(broker: Broadsheet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log directory is a file system of 32 MB of its own, inside a mount namespace of the broker's."""
    broker.log_dir.mkdir()
    shell = 'mount -t tmpfs -o size=32m none "$0" && exec "$@"'
    options = ["--mount"] if os.geteuid() == 0 else ["--mount", "--map-root-user"]
    command = ["unshare", *options, "sh", "-c", shell, str(broker.log_dir), *broker.command()]
    monkeypatch.setattr(broker, "command", lambda: command)
    broker.start()
    create(broker, "orders", 1)
    acknowledged = 0
    producer = Producer({"bootstrap.servers": broker.bootstrap, "message.timeout.ms": 5000, "log_level": 0})
    errors: list[str] = []

    def delivered(error: object, _record: object) -> None:
        nonlocal acknowledged
        if error is None:
            acknowledged += 1
        else:
            errors.append(str(error))

    for _ in range(60_000):
        if errors:
            break
        producer.produce("orders", os.urandom(1000), partition=0, on_delivery=delivered)
        producer.poll(0)
        if len(producer) > 500:
            producer.flush(10)
    producer.flush(20)
    assert errors, "60 MB went into 32"
    wait_until(lambda: "No space left" in broker.output_since_start(), "the broker to say that the disk is full", 10)
    assert str(broker.log_dir) in broker.output_since_start()
    if broker.running:  # the partition is offline; the broker still answers
        try:
            AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0}).list_topics(timeout=10)
        except KafkaException as error:
            raise AssertionError("the broker runs and does not answer") from error
    else:
        assert broker.stop() > 0

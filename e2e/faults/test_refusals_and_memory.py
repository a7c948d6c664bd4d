"""Clients that are refused come again at once, with megabytes: after ten seconds the broker is as large as before.

A refusal that holds on to its request, in a reference cycle or a list, takes all memory within seconds.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from broadsheet_broker.wire.errors import ErrorCode
from broadsheet_broker.wire.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData
from broadsheet_broker.wire.messages.produce_response import ProduceResponse
from broadsheet_broker.wire.records import build_batch
from e2e.faults.disk import SmallDisk
from tests.support.broadsheet import Broadsheet
from tests.support.waiting import wait_until

TOPIC, PARTITIONS = "orders", 3
VERSION = 7
BATCH_BYTES = 1_000_000
LEANING_S = 10.0
CLIENTS = 6
MIB = 1024 * 1024
ROOM = 40 * MIB
"""Receive buffers in use and kept for the next request; what a cycle for each refusal held was gigabytes."""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broadsheet]:
    """A broker on a disk of 256 MiB."""
    broker = Broadsheet(tmp_path / "broker")
    disk = SmallDisk(broker)
    try:
        with broker:
            create(broker, TOPIC)
            yield broker
    finally:
        disk.close()


def create(broker: Broadsheet, topic: str, **config: str) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1, config=config)])[topic].result(20)


def resident(broker: Broadsheet) -> int:
    """Bytes of memory that the process has."""
    status = Path(f"/proc/{broker.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def a_batch(**options: Any) -> bytes:
    return bytes(build_batch([(time.time_ns() // 1_000_000, b"k", bytes(BATCH_BYTES), [])], **options))


def produce(topic: str, partition: int, records: bytes) -> bytes:
    """The frame of a request."""
    data = [PartitionProduceData(index=partition, records=records)]
    body = ProduceRequest(
        acks=-1, timeout_ms=1000, topic_data=[TopicProduceData(name=topic, partition_data=data)]
    ).encode(VERSION)
    header = struct.pack(">hhih", 0, VERSION, 1, -1)
    return b"".join((struct.pack(">i", len(header) + sum(map(len, body))), header, *body))


class Leaning:
    """Clients that send one request over and over, and what they are answered."""

    def __init__(self, broker: Broadsheet, topic: str, records: bytes, *, partition: int | None = None) -> None:
        self.broker = broker
        self.frames = [
            produce(topic, number % PARTITIONS if partition is None else partition, records)
            for number in range(CLIENTS)
        ]
        self.answers: Counter[ErrorCode] = Counter()
        self.end = 0.0

    def run(self, seconds: float) -> int:
        """The most memory that the broker had meanwhile."""
        self.end = time.monotonic() + seconds
        threads = [threading.Thread(target=self.client, args=(frame,)) for frame in self.frames]
        for thread in threads:
            thread.start()
        most = 0
        while any(thread.is_alive() for thread in threads):
            most = max(most, resident(self.broker))
            time.sleep(0.1)
        return most

    def client(self, frame: bytes) -> None:
        with socket.create_connection((self.broker.host, self.broker.port)) as connection:
            stream = connection.makefile("rb")
            while time.monotonic() < self.end:
                connection.sendall(frame)
                (size,) = struct.unpack(">i", stream.read(4))
                answer, _ = ProduceResponse.decode(memoryview(stream.read(size)), VERSION, 4)
                self.answers[ErrorCode(answer.responses[0].partition_responses[0].error_code)] += 1


def lean(broker: Broadsheet, code: ErrorCode, topic: str, records: bytes, *, partition: int | None = None) -> None:
    before = resident(broker)
    leaning = Leaning(broker, topic, records, partition=partition)
    most = leaning.run(LEANING_S)
    assert set(leaning.answers) == {code}
    print(
        f"{leaning.answers[code]} refusals of {len(records)} bytes: "
        f"{before // MIB} MiB before, {most // MIB} at most, {resident(broker) // MIB} after"
    )
    assert most < before + ROOM
    wait_until(lambda: resident(broker) < before + ROOM, "the memory to be given back")


def test_a_full_disk(broker: Broadsheet) -> None:
    filling = Leaning(broker, TOPIC, a_batch())
    before = resident(broker)
    wait_until(lambda: filling.run(1) and filling.answers[ErrorCode.KAFKA_STORAGE_ERROR], "the disk to be full")
    lean(broker, ErrorCode.KAFKA_STORAGE_ERROR, TOPIC, a_batch())
    assert resident(broker) < before + ROOM


def test_a_partition_that_is_offline(broker: Broadsheet) -> None:
    for _ in range(3):
        assert Leaning(broker, TOPIC, a_batch(), partition=0).run(0.1)
    broker.kill()
    directory = Path(broker.log_dir) / f"{TOPIC}-0"
    damage(broker, directory / f"{0:020d}.log")
    broker.start()
    lean(broker, ErrorCode.KAFKA_STORAGE_ERROR, TOPIC, a_batch(), partition=0)


def damage(broker: Broadsheet, path: Path) -> None:
    """Write into the middle of acknowledged records."""
    command = [*broker.inside, "dd", "if=/dev/urandom", f"of={path}", "bs=1", "seek=100", "count=64", "conv=notrunc"]
    subprocess.run(command, check=True, capture_output=True)


def test_no_such_partition(broker: Broadsheet) -> None:
    lean(broker, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, TOPIC, a_batch(), partition=77)


def test_too_large(broker: Broadsheet) -> None:
    create(broker, "small", **{"max.message.bytes": "100000"})
    lean(broker, ErrorCode.MESSAGE_TOO_LARGE, "small", a_batch())


def test_out_of_sequence(broker: Broadsheet) -> None:
    first = bytes(build_batch([(0, b"k", b"v", [])], producer_id=7, producer_epoch=0, base_sequence=0))
    for partition in range(PARTITIONS):
        assert Leaning(broker, TOPIC, first, partition=partition).run(0.1)
    records = a_batch(producer_id=7, producer_epoch=0, base_sequence=9)
    lean(broker, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, TOPIC, records)


def test_damaged(broker: Broadsheet) -> None:
    lean(broker, ErrorCode.CORRUPT_MESSAGE, TOPIC, a_batch()[:-1] + b"?")


def test_a_broker_under_refusals_stops_in_time(broker: Broadsheet) -> None:
    leaning = Leaning(broker, TOPIC, a_batch()[:-1] + b"?")
    leaning.end = time.monotonic() + 60

    def client(frame: bytes) -> None:
        try:
            leaning.client(frame)
        except (OSError, struct.error):
            return  # the broker has gone

    threads = [threading.Thread(target=client, args=(frame,)) for frame in leaning.frames]
    for thread in threads:
        thread.start()
    wait_until(lambda: leaning.answers[ErrorCode.CORRUPT_MESSAGE] > 100, "refusals")
    assert broker.stop() == 0
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()

"""What clients can make a broker hold: they do not read, ask for more than they take, or send more than has room.

The broker's memory is measured while they do it. `docs/reference/limits.md` has the table.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from broadsheet_broker.wire.messages.fetch_request import FetchPartition, FetchRequest, FetchTopic
from broadsheet_broker.wire.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData
from broadsheet_broker.wire.messages.produce_response import ProduceResponse
from broadsheet_broker.wire.records import build_batch
from tests.support.broadsheet import Broadsheet
from tests.support.network import frame
from tests.support.waiting import wait_until

TOPIC = "orders"
MIB = 1024 * 1024
ROOM = 64 * MIB
BATCH_BYTES = 1_000_000
BATCHES = 50
ASKED_BYTES = 50 * MIB
TARGET = 400 * MIB
"""As of a pod with a limit of 512 MiB, nearly."""
LARGE_BYTES = 95_000_000
LARGE_REQUESTS = 10
WATCHED_S = 6.0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broadsheet]:
    """A broker with fifty batches of 1 MB."""
    with Broadsheet(tmp_path / "broker", {"broadsheet.memory.target": str(TARGET)}) as broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
        config = {"max.message.bytes": str(100 * MIB)}
        admin.create_topics([NewTopic(TOPIC, LARGE_REQUESTS, 1, config=config)])[TOPIC].result(20)
        with connected(broker) as connection:
            for _ in range(BATCHES):
                connection.sendall(produce(0, BATCH_BYTES))
                assert answer_code(connection) == 0
        yield broker


def connected(broker: Broadsheet, receive_bytes: int = 0) -> socket.socket:
    connection = socket.socket()
    if receive_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.settimeout(60)
    connection.connect((broker.host, broker.port))
    return connection


def resident(broker: Broadsheet) -> int:
    """Bytes of memory that the process has."""
    status = Path(f"/proc/{broker.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def produce(partition: int, size: int) -> bytes:
    records = bytes(build_batch([(time.time_ns() // 1_000_000, b"k", bytes(size), [])]))
    data = [PartitionProduceData(index=partition, records=records)]
    topics = [TopicProduceData(name=TOPIC, partition_data=data)]
    return frame(0, 7, 1, ProduceRequest(acks=-1, timeout_ms=60_000, topic_data=topics))


def fetch(**options: Any) -> bytes:
    partition = FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=ASKED_BYTES)
    return frame(
        1,
        4,
        1,
        FetchRequest(max_bytes=ASKED_BYTES, topics=[FetchTopic(topic=TOPIC, partitions=[partition])], **options),
    )


def answer_code(connection: socket.socket) -> int:
    """The error code of a Produce."""
    stream = connection.makefile("rb")
    (size,) = struct.unpack(">i", stream.read(4))
    answer, _ = ProduceResponse.decode(memoryview(stream.read(size)), 7, 4)
    code: int = answer.responses[0].partition_responses[0].error_code
    return code


def most_resident(broker: Broadsheet, seconds: float) -> int:
    """The most memory that the broker has in this time."""
    most, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        most = max(most, resident(broker))
        time.sleep(0.05)
    return most


def test_two_hundred_readers_that_do_not_read(broker: Broadsheet) -> None:
    before = resident(broker)
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(connected(broker, 65_536)).sendall(fetch(max_wait_ms=100, min_bytes=1))
        most = most_resident(broker, WATCHED_S)
    print(f"{before // MIB} MiB before, {most // MIB} at most")
    assert most < before + ROOM


def test_one_client_that_pipelines_fetches_which_wait(broker: Broadsheet) -> None:
    before = resident(broker)
    with connected(broker, 65_536) as connection:
        connection.sendall(fetch(max_wait_ms=3000, min_bytes=2 * ASKED_BYTES) * 256)
        most = most_resident(broker, WATCHED_S)
    print(f"{before // MIB} MiB before, {most // MIB} at most")
    assert most < before + ROOM


def test_ten_requests_of_a_hundred_megabytes_at_once(broker: Broadsheet) -> None:
    """They are read one after the other, and the broker stays within what a pod of 512 MiB has."""
    codes: list[int] = []

    def send(partition: int) -> None:
        data = produce(partition, LARGE_BYTES)
        for _ in range(10):
            try:
                with connected(broker) as connection:
                    connection.sendall(data)
                    codes.append(answer_code(connection))
                    return
            except (OSError, struct.error):
                time.sleep(1.0)  # closed, since memory was short: a client tries again

    threads = [threading.Thread(target=send, args=(number,)) for number in range(LARGE_REQUESTS)]
    for thread in threads:
        thread.start()
    most = 0
    while any(thread.is_alive() for thread in threads):
        most = max(most, most_resident(broker, 0.2))
    print(f"{most // MIB} MiB at most")
    assert codes == [0] * LARGE_REQUESTS
    assert most < 512 * MIB
    wait_until(lambda: resident(broker) < TARGET / 2, "the memory to be given back")


def test_hundreds_of_large_requests_that_never_come_to_their_end(broker: Broadsheet) -> None:
    beginning = produce(0, LARGE_BYTES)[:1_900_000]
    with ExitStack() as stack:
        for _ in range(400):
            try:
                stack.enter_context(connected(broker)).sendall(beginning)
            except OSError:
                continue
        most = most_resident(broker, WATCHED_S)
        print(f"{most // MIB} MiB at most")
        assert most < 512 * MIB
    assert broker.running
    with connected(broker) as connection:
        connection.sendall(produce(0, 1000))
        assert answer_code(connection) == 0

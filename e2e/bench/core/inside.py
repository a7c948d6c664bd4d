"""`python -m e2e.bench.core.inside`: µs that a request takes inside a broker of this process, without a socket.

Requests are put into a connection's buffer as the event loop does it; the answers are dropped. The least of many short
rounds says what the code takes even where other programs keep the machine busy. With PYTHONPATH=build/compiled the
compiled modules are measured. The log directory is in memory.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import shutil
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import uvloop

from broadsheet_broker import compiled
from broadsheet_broker.broker import Broker
from broadsheet_broker.config import load_config
from broadsheet_broker.network.connection import KafkaConnection
from broadsheet_broker.seams import Environment
from broadsheet_broker.wire.messages.fetch_request import FetchPartition, FetchRequest, FetchTopic
from broadsheet_broker.wire.messages.metadata_request import MetadataRequest, MetadataRequestTopic
from broadsheet_broker.wire.messages.produce_request import PartitionProduceData, ProduceRequest, TopicProduceData
from broadsheet_broker.wire.records import build_batch
from e2e.bench.core.frames import frame
from tests.support.ports import free_port
from tests.support.waiting import until

TOPIC = "inside"
A_ROUND = 10
"""Requests, one after the other."""


class Nowhere:
    """A transport that drops what is written."""

    def get_extra_info(self, name: str, default: object = None) -> object:
        return ("127.0.0.1", 1) if name == "peername" else default

    def set_write_buffer_limits(self, high: int) -> None: ...

    def write(self, data: object) -> None: ...

    def writelines(self, parts: Sequence[object]) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def produce(records: int, value_bytes: int) -> bytes:
    now = int(time.time() * 1000)
    batch = bytes(build_batch([(now, None, bytes(value_bytes), [])] * records))
    topic = TopicProduceData(name=TOPIC, partition_data=[PartitionProduceData(index=0, records=batch)])
    return frame(0, 9, 1, ProduceRequest(acks=1, timeout_ms=1000, topic_data=[topic]).encode(9))


def fetch(size: int) -> bytes:
    row = FetchPartition(partition=0, current_leader_epoch=-1, fetch_offset=0, partition_max_bytes=size)
    topics = [FetchTopic(topic=TOPIC, partitions=[row])]
    return frame(1, 12, 1, FetchRequest(max_wait_ms=500, min_bytes=1, session_epoch=-1, topics=topics).encode(12))


def metadata() -> bytes:
    request = MetadataRequest(topics=[MetadataRequestTopic(name=TOPIC)], allow_auto_topic_creation=True)
    return frame(3, 12, 1, request.encode(12))


async def answered(connection: Any, request: bytes) -> None:
    """Hand a request over and wait until it is answered."""
    rest = memoryview(request)
    while rest:
        room = connection.get_buffer(-1)
        size = min(len(room), len(rest))
        room[:size] = rest[:size]
        del room
        connection.buffer_updated(size)
        rest = rest[size:]
    while connection._pending_bytes:  # noqa: ASYNC110 - what is measured is the turn of the loop
        await asyncio.sleep(0)
    await asyncio.sleep(0)


async def measure(directory: str, rounds: int) -> None:
    port = free_port()
    config = load_config(
        None,
        [
            f"log.dirs={directory}/data",
            "process.roles=broker,controller",
            "node.id=1",
            f"listeners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:{port}",
            f"controller.quorum.voters=1@127.0.0.1:{port}",
            "controller.listener.names=CONTROLLER",
            "broadsheet.auto.format=true",
            "log.retention.bytes=100000000",
            "log.segment.bytes=50000000",
        ],
    )
    broker = Broker(Environment(asyncio.get_running_loop()), config)
    await broker.start()
    assert broker._server is not None
    connection = KafkaConnection(broker._server, "PLAINTEXT")
    connection.connection_made(Nowhere())  # type: ignore[arg-type]
    await answered(connection, metadata())
    await until(lambda: any(partition.topic == TOPIC for partition in broker.inspect().partitions))
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    print(compiled.build())
    cases = {
        "produce, 1 record of 1 KiB": produce(1, 1000),
        "produce, 16 records of 1 KiB": produce(16, 1000),
        "produce, 64 records of 1 KiB": produce(64, 1000),
        "produce, 1,000 records of 20 bytes": produce(1000, 20),
        "fetch, 1 KiB": fetch(1024),
        "fetch, 64 KiB": fetch(65536),
        "metadata of one topic": metadata(),
    }
    for title, request in cases.items():
        times = []
        for _ in range(rounds):
            began = time.perf_counter()
            for _ in range(A_ROUND):
                await answered(connection, request)
            times.append((time.perf_counter() - began) / A_ROUND * 1e6)
        print(f"{title:36} {min(times):8.1f}")
    connection.connection_lost(None)
    await broker.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m e2e.bench.core.inside", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="inside-", dir="/dev/shm")
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(measure(directory, options.rounds))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()

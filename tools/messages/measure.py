"""Time the message codec: microseconds per message for the hot ones, milliseconds for the first use of twelve APIs.

Run it with `python tools/messages/measure.py`.
"""

from __future__ import annotations

import sys
import time
import timeit
import tracemalloc
import uuid
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "broker-image"))

TWELVE = {18: 4, 3: 13, 0: 13, 1: 18, 2: 11, 10: 6, 11: 9, 14: 5, 12: 4, 8: 10, 9: 10, 22: 5}
"""API keys and versions that a producer and a consumer in a group use."""


def first_use() -> tuple[float, float]:
    """Milliseconds of importing and compiling the codecs of twelve APIs, and KiB that stay allocated."""
    from broadsheet_broker.wire import api_messages

    tracemalloc.start()
    started = time.perf_counter()
    for key, version in TWELVE.items():
        for cls in (api_messages.request_class(key), api_messages.response_class(key)):
            data = b"".join(cls().encode(version))
            cls.decode(memoryview(data), version)
    elapsed = time.perf_counter() - started
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return elapsed * 1000, kept / 1024


def messages() -> dict[str, tuple[Any, int]]:
    from broadsheet_broker.wire.messages import fetch_request, fetch_response, metadata_response
    from broadsheet_broker.wire.messages import produce_request as produce
    from broadsheet_broker.wire.messages import produce_response as produced

    topic_id = uuid.uuid4()
    records = bytes(16384)
    return {
        "ProduceRequest v9, 1 partition": (
            produce.ProduceRequest(
                acks=-1,
                timeout_ms=30000,
                topic_data=[
                    produce.TopicProduceData(
                        name="orders", partition_data=[produce.PartitionProduceData(index=1, records=records)]
                    )
                ],
            ),
            9,
        ),
        "ProduceResponse v9, 1 partition": (
            produced.ProduceResponse(
                responses=[
                    produced.TopicProduceResponse(
                        name="orders", partition_responses=[produced.PartitionProduceResponse(index=1, base_offset=77)]
                    )
                ]
            ),
            9,
        ),
        "FetchRequest v12, 100 partitions": (
            fetch_request.FetchRequest(
                max_wait_ms=500,
                topics=[
                    fetch_request.FetchTopic(
                        topic="orders", partitions=[fetch_request.FetchPartition(partition=i) for i in range(100)]
                    )
                ],
            ),
            12,
        ),
        "FetchResponse v17, 1 partition": (
            fetch_response.FetchResponse(
                responses=[
                    fetch_response.FetchableTopicResponse(
                        topic_id=topic_id,
                        partitions=[fetch_response.PartitionData(partition_index=1, records=[memoryview(records)])],
                    )
                ]
            ),
            17,
        ),
        "MetadataResponse v12, 100 partitions": (
            metadata_response.MetadataResponse(
                brokers=[metadata_response.MetadataResponseBroker(node_id=1, host="localhost", port=9092)],
                cluster_id="cluster",
                topics=[
                    metadata_response.MetadataResponseTopic(
                        name="orders",
                        topic_id=topic_id,
                        partitions=[
                            metadata_response.MetadataResponsePartition(
                                partition_index=i, leader_id=1, leader_epoch=0, replica_nodes=[1], isr_nodes=[1]
                            )
                            for i in range(100)
                        ],
                    )
                ],
            ),
            12,
        ),
    }


def microseconds(call: Any) -> float:
    timer = timeit.Timer(call)
    count, _ = timer.autorange()
    return min(timer.repeat(5, max(1, count // 4))) / max(1, count // 4) * 1e6


def main() -> None:
    elapsed, kept = first_use()
    print(f"first use of twelve APIs: {elapsed:.1f} ms (traced), {kept:.0f} KiB")  # noqa: T201
    for title, (message, version) in messages().items():
        view = memoryview(b"".join(message.encode(version)))
        cls = type(message)
        decode = microseconds(lambda cls=cls, view=view, version=version: cls.decode(view, version))
        encode = microseconds(lambda message=message, version=version: message.encode(version))
        print(f"{title:40} decode {decode:7.2f} us   encode {encode:7.2f} us")  # noqa: T201


if __name__ == "__main__":
    main()

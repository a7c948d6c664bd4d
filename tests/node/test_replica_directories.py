"""A broker with several log directories reports where its replicas are."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID

from broadsheet_broker.broker import Broker
from broadsheet_broker.metadata.image import PartitionImage
from broadsheet_broker.wire.messages.create_topics_request import CreatableTopic, CreateTopicsRequest
from broadsheet_broker.wire.messages.create_topics_response import CreateTopicsResponse
from tests.support.controllers import broker_config, environment


def test_the_metadata_says_in_which_directory_a_replica_is(tmp_path: Path) -> None:
    async def run() -> None:
        listeners = "PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0"
        config = broker_config(tmp_path, log_dirs=f"{tmp_path}/a,{tmp_path}/b", listeners=listeners)
        broker = Broker(environment(), config)
        await broker.start()
        node, replicas = broker.inspect()
        assert node is not None and replicas is not None
        topic = CreatableTopic(name="orders", num_partitions=4, replication_factor=1)
        await node.order(CreateTopicsRequest(topics=[topic], timeout_ms=1000), CreateTopicsResponse)
        own = node.identity.directories

        def where(index: int) -> UUID:
            return own[str(Path(replicas.partition("orders", index).log.directory).parent)]

        def partitions() -> tuple[PartitionImage, ...]:
            return replicas.metadata.image.topics_by_name["orders"].partitions

        async with asyncio.timeout(10):
            while any(partition.directories != (where(n),) for n, partition in enumerate(partitions())):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert {directory for partition in partitions() for directory in partition.directories} == set(own.values())
        await broker.stop()

    asyncio.run(run())

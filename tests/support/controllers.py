"""A controller over real files, and a short way to give it orders."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from broadsheet_broker.config import BrokerConfig
from broadsheet_broker.metadata import MetadataCache
from broadsheet_broker.node import MetadataNode
from broadsheet_broker.seams import Environment
from broadsheet_broker.storage_tool import load_identity
from broadsheet_broker.wire.messages.create_topics_request import CreatableTopic, CreateTopicsRequest
from broadsheet_broker.wire.messages.create_topics_response import CreatableTopicResult, CreateTopicsResponse

CLUSTER_ID = "4L6g3nShT-eMCtK--X86sw"


def broker_config(directory: Path, **overrides: str) -> BrokerConfig:
    """One node that is broker and controller; underscores of overrides stand for dots."""
    values = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": "1@localhost:9093",
        "listeners": "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(directory),
        "broadsheet.cluster.id": CLUSTER_ID,
        "offsets.topic.replication.factor": "1",
    }
    values.update({key.replace("_", "."): value for key, value in overrides.items()})
    return BrokerConfig({key: value for key, value in values.items() if value})


def environment() -> Environment:
    return Environment(asyncio.get_running_loop(), random=random.Random(7))


class Node:
    """What a test holds on to."""

    def __init__(self, controller: MetadataNode, metadata: MetadataCache, env: Environment) -> None:
        self.controller = controller
        self.metadata = metadata
        self.environment = env

    async def create(self, name: str, partitions: int = 1, factor: int = 1) -> CreatableTopicResult:
        topic = CreatableTopic(name=name, num_partitions=partitions, replication_factor=factor)
        response = await self.controller.order(
            CreateTopicsRequest(topics=[topic], timeout_ms=1000), CreateTopicsResponse
        )
        return response.topics[0]


async def start(directory: Path, env: Environment | None = None, **overrides: str) -> Node:
    env = env or environment()
    config = broker_config(directory, **overrides)
    metadata = MetadataCache(config)
    controller = MetadataNode(env, config, metadata, load_identity(env, config))
    await controller.start()
    return Node(controller, metadata, env)


@asynccontextmanager
async def running(directory: Path, env: Environment | None = None, **overrides: str) -> AsyncIterator[Node]:
    """A node that is stopped cleanly at the end."""
    node = await start(directory, env, **overrides)
    try:
        yield node
    finally:
        await node.controller.stop()


def metadata_files(directory: Path, suffix: str) -> list[Path]:
    """Files of the metadata log with that suffix, oldest first."""
    found = directory / "__cluster_metadata-0"
    return [found / name for name in sorted(os.listdir(found)) if name.endswith(suffix)]


def durable(image: object) -> Mapping[str, object]:
    """What of an image must survive a restart: all but the lives of nodes and what elections count."""
    topics = {
        name: (topic.id, [(p.replicas, p.isr, p.leader, p.directories) for p in topic.partitions])
        for name, topic in image.topics_by_name.items()  # type: ignore[attr-defined]
    }
    return {
        "topics": topics,
        "configs": dict(image.configs),  # type: ignore[attr-defined]
        "features": dict(image.features),  # type: ignore[attr-defined]
        "producers": image.next_producer_id,  # type: ignore[attr-defined]
        "brokers": set(image.brokers),  # type: ignore[attr-defined]
    }

"""Topics that are created because they are needed: internal ones, and those of auto.create.topics.enable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from broadsheet_broker.config import BrokerConfig
from broadsheet_broker.config.internal_topics import INTERNAL_TOPICS
from broadsheet_broker.metadata.cache import MetadataCache
from broadsheet_broker.node.forwarding import GiveOrder, error_code
from broadsheet_broker.wire.errors import ErrorCode, KafkaError
from broadsheet_broker.wire.messages.create_topics_request import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from broadsheet_broker.wire.messages.create_topics_response import CreateTopicsResponse

_TIMEOUT_MS: Final = 30_000


MOST_UNDER_WAY: Final = 10_000
"""Topics that may be in creation at a time. Clients ask again and again, so more are created later."""


class AutomaticTopics:
    """Creates topics that no client has ordered."""

    def __init__(
        self,
        config: BrokerConfig,
        metadata: MetadataCache,
        order: GiveOrder,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        """`spawn` begins a task that ends with the node."""
        self._config = config
        self._metadata = metadata
        self._order = order
        self._spawn = spawn
        self._under_way: set[str] = set()

    async def ensure_internal(self, name: str) -> None:
        """Create an internal topic as configured, unless it exists; raises KafkaError when that is refused."""
        if name in self._metadata.image.topics_by_name:
            return
        result = (await self.create([name])).topics[0]
        if result.error_code not in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS):
            raise KafkaError(error_code(result.error_code), result.error_message)

    async def create(self, names: Sequence[str]) -> CreateTopicsResponse:
        """Create topics that a client asked about: internal ones as configured, others with the broker's defaults."""
        request = CreateTopicsRequest(topics=[self._topic(name) for name in names], timeout_ms=_TIMEOUT_MS)
        return await self._order(request, CreateTopicsResponse)

    async def begin(self, names: Sequence[str], seconds: float) -> dict[str, ErrorCode]:
        """Create topics that a client asked about, each once however many ask. Returns after `seconds` at the latest,
        with those that were refused until then."""
        refused: dict[str, ErrorCode] = {}
        fresh = [name for name in names if name not in self._under_way]
        fresh = fresh[: MOST_UNDER_WAY - len(self._under_way)]
        if fresh:
            self._under_way.update(fresh)
            await asyncio.wait([self._spawn(self._create_once(fresh, refused))], timeout=seconds)
        return dict(refused)

    async def _create_once(self, names: Sequence[str], refused: dict[str, ErrorCode]) -> None:
        try:
            response = await self.create(names)
        except KafkaError as error:
            refused.update(dict.fromkeys(names, error.code))
        else:
            for result in response.topics:
                if result.error_code not in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS):
                    refused[result.name] = error_code(result.error_code)
        finally:
            self._under_way.difference_update(names)

    def _topic(self, name: str) -> CreatableTopic:
        topic, config = INTERNAL_TOPICS.get(name), self._config
        if topic is None:
            return CreatableTopic(name=name, num_partitions=-1, replication_factor=-1)
        return CreatableTopic(
            name=name,
            num_partitions=config.get_int(topic.partitions_key),
            replication_factor=config.get_int(topic.replication_factor_key),
            configs=[CreatableTopicConfig(name=key, value=value) for key, value in topic.topic_configs(config).items()],
        )

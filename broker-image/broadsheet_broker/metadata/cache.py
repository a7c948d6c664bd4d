"""The broker's view of the cluster metadata: the newest image, its subscribers, effective configurations."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from broadsheet_broker.config import KEYS, BrokerConfig, effective_topic_configs
from broadsheet_broker.config.key import text_of
from broadsheet_broker.metadata.delta import MetadataDelta
from broadsheet_broker.metadata.image import ClusterImage, ConfigResource, ResourceType

logger = logging.getLogger(__name__)

Subscriber = Callable[[MetadataDelta, ClusterImage], None]


class MetadataCache:
    """Published images, one after the other. All calls are made on the event loop."""

    def __init__(self, config: BrokerConfig) -> None:
        self._config = config
        self.image = ClusterImage()
        """The newest image: what is committed and published to every subscriber."""
        self._subscribers: list[Subscriber] = []
        self._defaults = effective_topic_configs(config)

    def subscribe(self, subscriber: Subscriber) -> None:
        """Call `subscriber(delta, image)` for each new image. Subscribe in the order in which they must hear: a delta
        reaches all of them before any request that caused it is answered."""
        self._subscribers.append(subscriber)

    def publish(self, delta: MetadataDelta, image: ClusterImage) -> None:
        """Make an image the newest. A subscriber that fails is logged; the others still hear."""
        self.image = image
        if any(resource.type == ResourceType.BROKER for resource in delta.changed_configs):
            self._defaults = effective_topic_configs(self._config, {}, self._own_dynamic(), self._default_dynamic())
        for subscriber in self._subscribers:
            try:
                subscriber(delta, image)
            except Exception:
                logger.exception(
                    "A part of this broker could not apply the cluster metadata at offset %d", image.offset
                )

    def topic_config(self, name: str) -> Mapping[str, str]:
        """The effective configuration of a topic, by Kafka's topic properties."""
        own = self.image.configs.get(ConfigResource(ResourceType.TOPIC, name))
        return {**self._defaults, **own} if own else self._defaults

    def broker_config(self, name: str) -> str | None:
        """The effective value of a broker property, as text: dynamic values first, then the file, then the default."""
        for values in (self._own_dynamic(), self._default_dynamic()):
            if name in values:
                return values[name]
        return text_of(self._config[name]) if name in KEYS else self._config.values.get(name)

    def _own_dynamic(self) -> Mapping[str, str]:
        return self.image.config(ResourceType.BROKER, str(self._config.node_id))

    def _default_dynamic(self) -> Mapping[str, str]:
        return self.image.config(ResourceType.BROKER, "")

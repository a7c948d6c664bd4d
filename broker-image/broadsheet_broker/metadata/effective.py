"""What a configuration comes to: the dynamic values of the metadata log over the static ones over the defaults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Final, NamedTuple

from broadsheet_broker.config.broker import BrokerConfig
from broadsheet_broker.config.key import Key
from broadsheet_broker.config.table import KEYS, TOPIC_KEYS
from broadsheet_broker.metadata.image import ClusterImage, ResourceType


class Source(IntEnum):
    """Where a value comes from (DescribeConfigsResponse.ConfigSource)."""

    UNKNOWN = 0
    TOPIC = 1
    DYNAMIC_BROKER = 2
    DYNAMIC_DEFAULT_BROKER = 3
    STATIC_BROKER = 4
    DEFAULT = 5
    BROKER_LOGGER = 6
    CLIENT_METRICS = 7
    GROUP = 8


class Synonym(NamedTuple):
    """One place that gives a value, and which; the value is in the unit of the key that it stands for."""

    name: str
    value: str | None
    source: Source


class Entry(NamedTuple):
    """One key of a resource, as it is."""

    key: Key
    value: str | None
    source: Source
    synonyms: list[Synonym]
    """Every place that gives a value, the one in force first."""


_TOPIC_TABLE: Final[dict[str, Key]] = {key.name: key for key in TOPIC_KEYS}
_UNITS_MS: Final = {"minutes": 60_000, "hours": 3_600_000}


def topic_key(name: str) -> Key | None:
    return _TOPIC_TABLE.get(name)


class BrokerLayers:
    """The layers below a topic's own values: dynamic per broker, dynamic for all brokers, static, defaults."""

    def __init__(self, config: BrokerConfig, image: ClusterImage, broker_id: int | None = None) -> None:
        broker = config.node_id if broker_id is None else broker_id
        self.layers: tuple[tuple[Source, Mapping[str, str]], ...] = (
            (Source.DYNAMIC_BROKER, image.config(ResourceType.BROKER, str(broker))),
            (Source.DYNAMIC_DEFAULT_BROKER, image.config(ResourceType.BROKER, "")),
            (Source.STATIC_BROKER, config.values),
        )

    def places(self, names: tuple[str, ...]) -> Iterator[Synonym]:
        """The values of a key under its names, strongest first, defaults last."""
        for source, values in self.layers:
            for name in names:
                if name in values:
                    yield Synonym(name, values[name], source)
        for name in names:
            key = KEYS.get(name)
            if key is not None and key.default is not None:
                yield Synonym(name, key.default, Source.DEFAULT)

    def topic_entry(self, key: Key, own: Mapping[str, str]) -> Entry:
        """One topic property; `own` are the values set on the topic itself."""
        places = [Synonym(key.name, own[key.name], Source.TOPIC)] if key.name in own else []
        for place in self.places(key.synonyms):
            if place.source is Source.DEFAULT and place.name != key.synonyms[0]:
                continue  # a default in other words (log.retention.hours) adds nothing
            places.append(place._replace(value=_in_unit_of(key.synonyms[0], place)))
        if not places:
            return Entry(key, key.default, Source.DEFAULT, [])
        return Entry(key, places[0].value, places[0].source, places)

    def broker_entry(self, key: Key) -> Entry:
        """One broker property."""
        places = list(self.places((key.name,)))
        if not places:
            return Entry(key, key.default, Source.DEFAULT, [])
        return Entry(key, places[0].value, places[0].source, places)

    def topic_defaults(self) -> dict[str, str]:
        """What a topic without values of its own has, by topic property."""
        entries = (self.topic_entry(key, _NOTHING) for key in TOPIC_KEYS)
        return {entry.key.name: entry.value for entry in entries if entry.value is not None}


_NOTHING: Final[Mapping[str, str]] = {}


def _in_unit_of(name: str, place: Synonym) -> str | None:
    """log.retention.hours=2 stands for log.retention.ms=7200000; a negative number means no limit in every unit."""
    factor = _UNITS_MS.get(place.name.rpartition(".")[2])
    if factor is None or place.value is None or not name.endswith(".ms"):
        return place.value
    number = int(place.value)
    return str(number * factor if number >= 0 else -1)

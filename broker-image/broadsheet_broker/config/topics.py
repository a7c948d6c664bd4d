"""Topic properties: what is allowed, and what a topic has in the end.

A topic's own setting comes first; then the broker property that is its default, as changed for this broker, as changed
for all brokers, as in the file of the broker; then Kafka's default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from broadsheet_broker.config.broker import BrokerConfig
from broadsheet_broker.config.key import ConfigError, Key, text_of
from broadsheet_broker.config.table import KEYS, TOPIC_KEYS, nearest
from broadsheet_broker.wire.errors import ErrorCode, KafkaError

_NOTHING: Mapping[str, str] = {}

_MS_PER_UNIT = {
    "log.retention.minutes": 60_000,
    "log.retention.hours": 3_600_000,
    "log.roll.hours": 3_600_000,
    "log.roll.jitter.hours": 3_600_000,
}


class Source(IntEnum):
    """Where a value comes from; the numbers are those of DescribeConfigs."""

    TOPIC = 1
    DYNAMIC_BROKER = 2
    DYNAMIC_DEFAULT_BROKER = 3
    STATIC_BROKER = 4
    DEFAULT = 5
    BROKER_LOGGER = 6
    CLIENT_METRICS = 7
    GROUP = 8


@dataclass(frozen=True, slots=True)
class Setting:
    """One place that gives a value to a property."""

    name: str
    """Name of the property there: `log.retention.hours` gives the default of `retention.ms`."""
    value: str | None
    """As that place says it; None for the default of a property without one."""
    source: Source


def validate_topic_configs(configs: Mapping[str, str | None]) -> None:
    """Raise KafkaError(INVALID_CONFIG) unless these may be the properties of a topic.

    A value of None removes a setting and is always allowed.
    """
    values = {}
    for name, text in configs.items():
        key = TOPIC_KEYS.get(name)
        if key is None:
            near = nearest(name, TOPIC_KEYS)
            hint = f" (did you mean {near}?)" if near else ""
            raise KafkaError(ErrorCode.INVALID_CONFIG, f"Unknown topic config name: {name}{hint}")
        if text is not None:
            try:
                values[name] = key.parse(text)
            except ConfigError as error:
                raise KafkaError(ErrorCode.INVALID_CONFIG, str(error)) from None
    low, high = values.get("min.compaction.lag.ms"), values.get("max.compaction.lag.ms")
    if isinstance(low, int) and isinstance(high, int) and low > high:
        message = f"conflict topic config setting min.compaction.lag.ms ({low}) > max.compaction.lag.ms ({high})"
        raise KafkaError(ErrorCode.INVALID_CONFIG, message)


def topic_settings(
    key: Key,
    config: BrokerConfig,
    own: Mapping[str, str] = _NOTHING,
    dynamic: Mapping[str, str] = _NOTHING,
    dynamic_default: Mapping[str, str] = _NOTHING,
) -> list[Setting]:
    """All settings of a topic property, the one that counts first, Kafka's default last.

    `own` are the topic's properties, `dynamic` those set for this broker, `dynamic_default` those set for all brokers.
    """
    settings = []
    if key.name in own:
        settings.append(Setting(key.name, own[key.name], Source.TOPIC))
    for synonym in key.synonyms:
        for values, source in (
            (dynamic, Source.DYNAMIC_BROKER),
            (dynamic_default, Source.DYNAMIC_DEFAULT_BROKER),
            (config.values, Source.STATIC_BROKER),
        ):
            if synonym in values:
                settings.append(Setting(synonym, values[synonym], source))
    for synonym in key.synonyms:
        default = KEYS[synonym].default
        if default is not None:
            settings.append(Setting(synonym, default, Source.DEFAULT))
    if not key.synonyms:
        settings.append(Setting(key.name, key.default, Source.DEFAULT))
    return settings


def topic_value(key: Key, settings: list[Setting]) -> str | None:
    """What the first setting amounts to, in the unit of the topic property."""
    for setting in settings:
        if setting.value is None:
            continue
        if setting.source is Source.TOPIC:
            return text_of(key.parse(setting.value))
        value = KEYS[setting.name].parse(setting.value) if setting.name in KEYS else key.parse(setting.value)
        factor = _MS_PER_UNIT.get(setting.name)
        if factor is not None and isinstance(value, int):
            value *= factor
        if key.name == "retention.ms" and isinstance(value, int) and value < 0:
            value = -1
        return text_of(value)
    return key.default


def effective_topic_configs(
    config: BrokerConfig,
    own: Mapping[str, str] = _NOTHING,
    dynamic: Mapping[str, str] = _NOTHING,
    dynamic_default: Mapping[str, str] = _NOTHING,
) -> dict[str, str]:
    """Every topic property as it applies to a topic with these own settings: what LogConfig is made of."""
    effective = {}
    for name, key in TOPIC_KEYS.items():
        value = topic_value(key, topic_settings(key, config, own, dynamic, dynamic_default))
        if value is not None:
            effective[name] = value
    return effective
